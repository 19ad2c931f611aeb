"""Brightening a photo by its light map: any size, bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engines.enhance.checkpoint import load_network
from engines.enhance.network import LightMapNet, Padding
from engines.errors import ConfigError

SIDE = 768
DARKEST = 1e-3
"""Light maps are kept above this: the release divides 0 by 0. Far under the smallest value seen on real photos."""


def enhance_with(pixels: np.ndarray, light: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """clamp(x / L^s, 0, 1); s = 1 is the paper's, 0 leaves the photo as it is.

    Args:
        pixels: [H, W, 3] float32 in 0..1.
        light: [H, W].
        strength: s in 0..1.
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"A strength of {strength:g} is not possible.", "Choose one from 0 (nothing) to 1 (all).")
    if strength == 0:
        return pixels
    divisor = np.maximum(light, DARKEST) ** np.float32(strength)
    return np.clip(pixels / divisor[..., None], 0, 1).astype(np.float32)


class ClipLitEnhancer:
    """A trained light-map network, ready for photos."""

    def __init__(self, network: LightMapNet, device: str | torch.device = "cpu") -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.device = torch.device(device)

    def light_map(self, pixels: np.ndarray, side: int | None = SIDE) -> np.ndarray:
        """How much light each pixel got: [H, W, 3] float32 in 0..1 -> [H, W] float32.

        Args:
            side: the network sees a copy of at most side x side pixels' area, aspect kept, and its light map is
                enlarged along the photo's edges. None computes it at the photo's own size, strip by strip.
        """
        height, width = _check(pixels)
        if side is not None and side < 2:
            raise ConfigError(f"A light map of {side} pixels shows nothing.", "Choose 256 or more.")
        scale = 1.0 if side is None else (side * side / (height * width)) ** 0.5
        if scale >= 1:
            return self._native(pixels)
        small = shrunk(pixels, max(2, round(height * scale)), max(2, round(width * scale)))
        return enlarge(self._native(small), small, pixels)

    def enhance(self, pixels: np.ndarray, strength: float = 1.0, side: int | None = SIDE) -> np.ndarray:
        """[H, W, 3] float32 in 0..1 -> the same, brightened; see `light_map` and `enhance_with`."""
        return enhance_with(pixels, self.light_map(pixels, side), strength)

    __call__ = enhance

    def _native(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        grown = np.pad(pixels, ((0, max(0, 2 - height)), (0, max(0, 2 - width)), (0, 0)), "edge")
        light = np.empty(grown.shape[:2], np.float32)
        for top, strip in self.network.in_strips(_tensor(grown).to(self.device)):
            light[top : top + strip.shape[-2]] = strip[0, 0].cpu().numpy()
        return light[:height, :width]


def load_enhancer(
    path: str | Path, device: str | torch.device = "cpu", padding: Padding = "reflect"
) -> ClipLitEnhancer:
    """The enhancer of a file: the public CLIP-LIT checkpoint (.pth), one trained here, or a training's folder.

    Raises:
        BackboneError: the file is missing, damaged, or no such network.
    """
    path = Path(path)
    return ClipLitEnhancer(load_network(path / "enhancer.safetensors" if path.is_dir() else path, padding), device)


def enlarge(light: np.ndarray, small: np.ndarray, pixels: np.ndarray, radius: int = 4, eps: float = 1e-3) -> np.ndarray:
    """A light map of a reduced copy at the photo's size, edges where the photo has them.

    The fast guided filter (He and Sun, arXiv:1505.00996): around every pixel the map is taken as a linear function of
    lightness, a * lightness + b; a and b are found on the copy and enlarged, lightness is the photo's own.

    Args:
        light: [h, w]; small: [h, w, 3]; pixels: [H, W, 3].
        radius: of the windows, in pixels of the copy.
        eps: how much lightness must vary in a window to count as an edge.
    Returns:
        [H, W] float32, within the map's own range.
    """
    guide, target = _tensor(small).mean(1, keepdim=True), torch.from_numpy(light)[None, None]
    mean_g, mean_t = _box(guide, radius), _box(target, radius)
    slope = (_box(guide * target, radius) - mean_g * mean_t) / (_box(guide * guide, radius) - mean_g**2 + eps)
    field = torch.cat([_box(slope, radius), _box(mean_t - slope * mean_g, radius)], dim=1)
    height, width = pixels.shape[:2]
    large = F.interpolate(field, (height, width), mode="bilinear", align_corners=False)[0].numpy()
    grey = pixels.mean(axis=2)
    return np.clip(large[0] * grey + large[1], light.min(), light.max())


def _box(x: Tensor, radius: int) -> Tensor:
    side = 2 * radius + 1
    return F.avg_pool2d(x, side, 1, radius, count_include_pad=False)


def shrunk(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """A smaller copy of [H, W, 3] in 0..1, smoothed."""
    small = F.interpolate(_tensor(pixels), (height, width), mode="bilinear", antialias=True, align_corners=False)
    return small[0].permute(1, 2, 0).clamp(0, 1).contiguous().numpy()


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32))[None]


def _check(pixels: np.ndarray) -> tuple[int, int]:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ConfigError(f"An image of the shape {pixels.shape} cannot be enhanced.", "Give [H, W, 3], RGB in 0..1.")
    return pixels.shape[0], pixels.shape[1]
