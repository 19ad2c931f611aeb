"""Maps of how damaged each place of an image is: what they are blurred with, and how they are held to the truth."""

from __future__ import annotations

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor


def map_terms(maps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Focal loss, and dice loss of the damaged and of the normal map: maps [B, 2, H, W] against a mask [B, H, W]."""
    normal, damaged = maps.unbind(dim=1)
    true, other = torch.where(mask > 0.5, damaged, normal), torch.where(mask > 0.5, normal, damaged)
    # The official code keeps targets between 1e-5 and 1 - 1e-5, and adds 1e-5 again.
    p = (1 - 1e-5) * true + 1e-5 * other + 1e-5
    focal = -((1 - p) ** 2 * p.log()).mean()
    return focal, _dice(damaged, mask), _dice(normal, 1 - mask)


def _dice(x: Tensor, mask: Tensor) -> Tensor:
    """1 - mean over images of (2 |xg| + 1) / (|x| + |g| + 1)."""
    x, mask = x.flatten(1), mask.flatten(1)
    return 1 - ((2 * (x * mask).sum(dim=1) + 1) / (x.sum(dim=1) + mask.sum(dim=1) + 1)).mean()


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Maps [B, H, W] blurred by a Gaussian, mirrored at the edges."""
    return torch.from_numpy(gaussian_filter(maps.numpy(), sigma=(0, sigma, sigma), mode="reflect"))
