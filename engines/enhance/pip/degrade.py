"""Five kinds of damage, made on clean pictures (own choices: the paper uses collected data sets)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.enhance.pip.settings import DAMAGES
from engines.errors import ConfigError


def degrade(clean: Tensor, kinds: Tensor, draw: torch.Generator) -> Tensor:
    """Damages each picture in its own way; strength and shape are drawn.

    Args:
        clean: [B, 3, H, W] RGB in 0..1, sides of at least 16 pixels.
        kinds: [B] numbers of `DAMAGES`.
    Returns:
        [B, 3, H, W] in 0..1, in steps of 1/255 as files have them.
    """
    if clean.ndim != 4 or clean.shape[1] != 3 or min(clean.shape[-2:]) < 16:
        raise ConfigError("Only colour pictures of at least 16 x 16 pixels can be damaged.", "Choose larger ones.")
    damaged = [_DAMAGE[DAMAGES[kind]](picture, draw) for picture, kind in zip(clean, kinds.tolist(), strict=True)]
    return (torch.stack(damaged).clamp(0, 1) * 255).floor() / 255


def _between(low: float, high: float, draw: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=draw))


def _noise(x: Tensor, draw: torch.Generator) -> Tensor:
    """Gaussian, sigma 15, 25 or 50 of 255, as in the paper."""
    sigma = (15, 25, 50)[int(torch.randint(3, (), generator=draw))] / 255
    return x + sigma * torch.randn(x.shape, generator=draw)


def _rain(x: Tensor, draw: torch.Generator) -> Tensor:
    """Bright streaks: sparse drops, drawn out along one slanted line."""
    drops = (torch.rand(1, 1, *x.shape[-2:], generator=draw) < _between(0.004, 0.015, draw)).float()
    length, slope = int(_between(9, 15, draw)) | 1, _between(-0.5, 0.5, draw)
    streaks = F.conv2d(drops, _line(length, 1.0, slope), padding=length // 2)[0]
    return x + _between(0.5, 0.9, draw) * (streaks * length / 3).clamp(max=1)


def _haze(x: Tensor, draw: torch.Generator) -> Tensor:
    """x t + A (1 - t), with a transmission t that changes slowly as distance would (Koschmieder)."""
    distance = F.interpolate(torch.rand(1, 1, 3, 3, generator=draw), x.shape[-2:], mode="bicubic")[0].clamp(0, 1)
    transmission = torch.exp(-_between(0.8, 1.8, draw) * (0.3 + distance))
    return x * transmission + _between(0.75, 1.0, draw) * (1 - transmission)


def _blur(x: Tensor, draw: torch.Generator) -> Tensor:
    """Motion along a line of 5 to 13 pixels."""
    length = int(_between(5, 14, draw)) | 1
    steps = (1.0, _between(-1, 1, draw)) if torch.rand((), generator=draw) < 0.5 else (_between(-1, 1, draw), 1.0)
    padded = F.pad(x[:, None], [length // 2] * 4, "reflect")
    return F.conv2d(padded, _line(length, *steps))[:, 0]


def _low_light(x: Tensor, draw: torch.Generator) -> Tensor:
    """A power and a gain below 1, then the noise of a short exposure."""
    dark = _between(0.3, 0.7, draw) * x.clamp_min(0) ** _between(1.5, 2.5, draw)
    return dark + _between(2, 8, draw) / 255 * torch.randn(x.shape, generator=draw)


def _line(length: int, down: float, across: float) -> Tensor:
    """[1, 1, length, length] kernel of sum 1: a line through the middle, for steps (down, across) within -1..1."""
    kernel, middle = torch.zeros(length, length), length // 2
    for step in torch.linspace(-middle, middle, 4 * length).tolist():
        kernel[round(middle + step * down), round(middle + step * across)] += 1
    return (kernel / kernel.sum())[None, None]


_DAMAGE: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "noise": _noise,
    "rain": _rain,
    "haze": _haze,
    "blur": _blur,
    "low light": _low_light,
}
