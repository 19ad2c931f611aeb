"""The light-map network of CLIP-LIT (Liang et al., ICCV 2023, arXiv:2303.17569), at any size in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.enhance.settings import Padding as Padding

BINS = (1, 2, 3, 6)
HALO = 18
"""Rows beyond a strip that its light map depends on (17), apart from the pooled means of the whole photo."""
SLOPE = 0.2


def _conv(inside: int, outside: int, padding: Padding, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, padding=1, padding_mode=padding, bias=bias)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut; pads by reflection in both variants of the network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(width, width, "reflect", bias=False)
        self.conv2 = _conv(width, width, "reflect", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x), SLOPE)) + x, SLOPE)


class PyramidPooling(nn.Module):
    """Means over 1, 4, 9 and 36 fields of the photo beside every pixel's own features."""

    def __init__(self, width: int = 32, reduced: int = 8) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(n), nn.Conv2d(width, reduced, 1, bias=False), nn.PReLU()) for n in BINS
        )
        self.fuse = nn.Sequential(_conv(width + reduced * len(BINS), width, "zeros", bias=False), nn.PReLU())

    def reduce(self, means: list[Tensor]) -> list[Tensor]:
        """Means [B, 32, n, n] for each n of `BINS` -> [B, 8, n, n]."""
        return [branch[2](branch[1](mean)) for branch, mean in zip(self.features, means, strict=True)]  # type: ignore[index]

    def forward(self, x: Tensor, reduced: list[Tensor], top: int, height: int) -> Tensor:
        """Features of rows `top` and below of a photo of `height` rows, [B, 32, h, W]."""
        spread = []
        for field in reduced:
            down = _linear_weights(field.shape[-1], height, x)[top : top + x.shape[-2]]
            across = _linear_weights(field.shape[-1], x.shape[-1], x)
            spread.append(down @ field @ across.T)
        return self.fuse(torch.cat([x, *spread], dim=1))


class LightMapNet(nn.Module):
    """Photo -> light map, 278 790 weights, everywhere at full resolution (names as in the public checkpoint).

    Args:
        padding: of the four plain convolutions: "zeros" as the release trains, "reflect" as it enhances.
    """

    def __init__(self, padding: Padding = "reflect") -> None:
        super().__init__()
        self.padding = padding
        self.cond1 = _conv(3, 32, padding)
        self.ResidualBlock1, self.ResidualBlock2 = ResidualBlock(32), ResidualBlock(32)
        self.PPM1 = PyramidPooling()
        self.condx = _conv(32, 64, padding)
        self.ResidualBlock3, self.ResidualBlock4 = ResidualBlock(64), ResidualBlock(64)
        self.condy = _conv(64, 32, padding)
        self.ResidualBlock5, self.ResidualBlock6 = ResidualBlock(32), ResidualBlock(32)
        self.cond_add1 = _conv(32, 1, padding)
        self.redraw()

    def redraw(self) -> None:
        """Start anew: N(0, 0.02) for the convolutions, PyTorch's own biases, slopes 0.25."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.PReLU):
                nn.init.constant_(module.weight, 0.25)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] RGB in 0..1, H and W at least 2 -> light map [B, 1, H, W], never negative."""
        front = self._front(pixels)
        means = [F.adaptive_avg_pool2d(front, n) for n in BINS]
        return self._back(front, self.PPM1.reduce(means), 0, pixels.shape[-2])

    @torch.no_grad()
    def in_strips(self, pixels: Tensor, pixels_at_once: int = 1 << 20) -> Iterator[tuple[int, Tensor]]:
        """The same light map strip by strip, so that memory does not grow with the photo.

        Strips overlap by as many rows as the convolutions reach, and share the pooled means of the whole photo, so the
        result is that of `forward` but for rounding.

        Yields:
            (first row, light map [B, 1, h, W]) from top to bottom; the first half of the work comes before the first.
        """
        height, width = pixels.shape[-2:]
        rows = max(2, pixels_at_once // width - 2 * HALO)
        cuts = [*range(0, max(1, height - rows // 2), rows), height]  # the last strip may be half as high again
        columns: list[list[Tensor]] = [[] for _ in BINS]
        for begin, end in pairwise(cuts):
            top, bottom = max(0, begin - HALO), min(height, end + HALO)
            front = self._front(pixels[..., top:bottom, :])[..., begin - top : end - top, :]
            for parts, n in zip(columns, BINS, strict=True):
                parts.append(F.adaptive_avg_pool2d(front, (end - begin, n)))
        means = [F.adaptive_avg_pool2d(torch.cat(parts, dim=-2), n) for parts, n in zip(columns, BINS, strict=True)]
        reduced = self.PPM1.reduce(means)
        for begin, end in pairwise(cuts):
            top, bottom = max(0, begin - HALO), min(height, end + HALO)
            light = self._back(self._front(pixels[..., top:bottom, :]), reduced, top, height)
            yield begin, light[..., begin - top : end - top, :]

    def _front(self, pixels: Tensor) -> Tensor:
        return self.ResidualBlock2(self.ResidualBlock1(F.leaky_relu(self.cond1(pixels), SLOPE)))

    def _back(self, front: Tensor, reduced: list[Tensor], top: int, height: int) -> Tensor:
        x = self.condx(self.PPM1(front, reduced, top, height))
        x = self.condy(self.ResidualBlock4(self.ResidualBlock3(x)))
        return F.relu(self.cond_add1(self.ResidualBlock6(self.ResidualBlock5(x))))


def _linear_weights(n: int, size: int, like: Tensor) -> Tensor:
    """[size, n] weights of linear interpolation from n points, the outer ones at the borders (align_corners)."""
    if n == 1 or size == 1:
        return F.one_hot(torch.zeros(size, dtype=torch.long), n).to(like)
    places = torch.arange(size, dtype=torch.float64) * ((n - 1) / (size - 1))
    return (1 - (places[:, None] - torch.arange(n)).abs()).clamp_min(0).to(like)
