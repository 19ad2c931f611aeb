"""Zero-DCE (Guo et al., CVPR 2020): brightening curves learned from the user's own photos, without references.

Written from a description of the network and its losses; the authors' weights are non-commercial, so there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.enhance.checkpoint import read_tensors, write_tensors
from engines.errors import BackboneError, ConfigError

STEPS = 8


class ZeroDCE(nn.Module):
    """Seven convolutions that draw eight curve maps, each with three channels."""

    def __init__(self) -> None:
        super().__init__()
        widths = [(3, 32), (32, 32), (32, 32), (32, 32), (64, 32), (64, 32), (64, 3 * STEPS)]
        convs = [nn.Conv2d(a, b, 3, padding=1) for a, b in widths]
        self.convs = nn.ModuleList(convs)
        for conv in convs:
            nn.init.normal_(conv.weight, 0.0, 0.02)

    def curves(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 24, H, W] in -1..1."""
        layers = list(self.convs)
        x1 = F.relu(layers[0](pixels))
        x2 = F.relu(layers[1](x1))
        x3 = F.relu(layers[2](x2))
        x4 = F.relu(layers[3](x3))
        x5 = F.relu(layers[4](torch.cat([x3, x4], 1)))
        x6 = F.relu(layers[5](torch.cat([x2, x5], 1)))
        return layers[6](torch.cat([x1, x6], 1)).tanh()

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] in 0..1 -> the same, brightened."""
        return bent(pixels, self.curves(pixels))

    def enhance(self, pixels: np.ndarray, side: int = 512) -> np.ndarray:
        """[H, W, 3] float32 -> the same; curves are drawn on a copy of at most side x side, and enlarged."""
        height, width = pixels.shape[:2]
        whole = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        scale = min(1.0, side / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        with torch.no_grad():
            small = F.interpolate(whole, size, mode="bilinear", antialias=True, align_corners=False)
            maps = self.curves(small)
            result = whole
            for r in maps.chunk(STEPS, 1):  # one after the other: 24 maps of a large photo are too many
                large = F.interpolate(r, (height, width), mode="bilinear", align_corners=False)
                result = result + large * (result.square() - result)
        return result[0].permute(1, 2, 0).clamp(0, 1).contiguous().numpy()


def bent(pixels: Tensor, curves: Tensor) -> Tensor:
    """Eight times x <- x + r (x^2 - x)."""
    for r in curves.chunk(STEPS, 1):
        pixels = pixels + r * (pixels.square() - pixels)
    return pixels


def zero_reference_loss(pixels: Tensor, enhanced: Tensor, curves: Tensor) -> Tensor:
    """200 smoothness of the curves + spatial consistency + 5 colour constancy + 10 exposure; a scalar."""
    down, across = curves.diff(dim=2).square(), curves.diff(dim=3).square()
    smooth = 2 * (down.sum() / (down.shape[2] * curves.shape[3]) + across.sum() / (curves.shape[2] * across.shape[3]))
    smooth = smooth / len(curves)
    before, after = (F.avg_pool2d(image.mean(1, keepdim=True), 4) for image in (pixels, enhanced))
    spatial = (_neighbours(after) - _neighbours(before)).square().sum(1).mean()
    red, green, blue = enhanced.mean(dim=(2, 3)).unbind(1)
    colour = ((red - green) ** 4 + (red - blue) ** 4 + (blue - green) ** 4 + 1e-20).sqrt().mean()
    exposure = (F.avg_pool2d(enhanced.mean(1, keepdim=True), 16) - 0.6).square().mean()
    return 200 * smooth + spatial + 5 * colour + 10 * exposure


def train_zero_dce(
    network: ZeroDCE, photos: Tensor, steps: int, batch: int = 8, learning_rate: float = 1e-4, seed: int = 0
) -> Iterator[float]:
    """Train in place on photos [N, 3, S, S] uint8; yields each step's loss.

    Raises:
        ConfigError: no photos, or smaller than 16 pixels.
    """
    if photos.ndim != 4 or not len(photos) or min(photos.shape[-2:]) < 16:
        raise ConfigError("Zero-DCE needs photos of at least 16 x 16 pixels to learn from.", "Choose another folder.")
    optimiser = torch.optim.Adam(network.parameters(), learning_rate, weight_decay=1e-4)
    device = next(network.parameters()).device
    for step in range(steps):
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = photos[torch.randint(len(photos), (min(batch, len(photos)),), generator=draw)]
        pixels = chosen.to(device).float() / 255
        curves = network.curves(pixels)
        loss = zero_reference_loss(pixels, bent(pixels, curves), curves)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimiser.step()
        yield float(loss.detach())


def save_zero_dce(network: ZeroDCE, path: Path) -> None:
    """As safetensors."""
    write_tensors(path, network.state_dict(), {"kind": "zero-dce"})


def load_zero_dce(path: Path) -> ZeroDCE:
    """
    Raises:
        BackboneError: the file is none of a Zero-DCE.
    """
    tensors, _ = read_tensors(path)
    network = ZeroDCE()
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise BackboneError(
            f"“{path.name}” is no Zero-DCE.", "Choose a file that was trained here.", str(error)
        ) from error
    return network.eval()


def _neighbours(grey: Tensor) -> Tensor:
    """[B, 4, h, w]: differences to the left, right, upper and lower neighbour; beyond the border there is black."""
    padded = F.pad(grey, (1, 1, 1, 1))
    centre = padded[..., 1:-1, 1:-1]
    beside = [padded[..., 1:-1, :-2], padded[..., 1:-1, 2:], padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]]
    return torch.cat([centre - other for other in beside], dim=1)
