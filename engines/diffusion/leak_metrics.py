"""How well a word's attention keeps to its object: IoU, pointing, and where the rest of it falls.

Maps are [s, s] and not negative; masks are [H, H] of any size. Maps of a word of several tokens are the sums of theirs
(`losses.word_heat`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.diffusion.background import coverage
from engines.errors import ConfigError

THRESHOLD = 0.3
"""Of the map's maximum, as DPL's official helper sets it."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Where a word's attention falls; all parts together are 1."""

    own: float
    """On the object that the word names."""
    others: tuple[float, ...]
    """On each other object, in the order of the masks, the own one left out."""
    background: float

    @property
    def leaked(self) -> float:
        """Everything that is not on the own object."""
        return sum(self.others) + self.background


def leak_shares(heat: Tensor, masks: Sequence[Tensor], own: int) -> Shares:
    """Shares of a map's mass on objects and background.

    A pixel of several masks belongs to the own object if that is one of them, else to the first of the others. Cells of
    the map that are covered partly are counted partly.

    Args:
        heat: [s, s].
        masks: [H, H] bool, one for each object.
        own: number of the object that the word names.

    Raises:
        ConfigError: there is no such object, masks have different sizes, or the map is empty.
    """
    if not 0 <= own < len(masks):
        raise ConfigError(
            f"There are {len(masks)} masks, so there is none with number {own}.", "Choose a word that has a mask."
        )
    if len({mask.shape for mask in masks}) > 1:
        raise ConfigError("The masks have different sizes.", "Draw all masks on the same image.")
    total = _mass(heat)
    order = [own, *(number for number in range(len(masks)) if number != own)]
    taken, apart = torch.zeros_like(masks[own], dtype=torch.bool), []
    for number in order:
        apart.append(masks[number].bool() & ~taken)
        taken = taken | masks[number].bool()
    covered = coverage([*apart, ~taken], heat.shape[-1]).to(heat)
    first, *others, background = ((covered * heat).sum(dim=(1, 2)) / total).tolist()
    return Shares(first, tuple(others), background)


def attention_iou(heat: Tensor, mask: Tensor, threshold: float = THRESHOLD) -> float:
    """Intersection over union of a mask and the part of a map, scaled to its size, above a share of the maximum.

    Args:
        heat: [s, s].
        mask: [H, H] bool.
        threshold: of the map's maximum, 0 to below 1.

    Raises:
        ConfigError: the mask or the map is empty, or the threshold out of range.
    """
    if not 0 <= threshold < 1:
        raise ConfigError(f"{threshold} is no threshold of a map.", "Choose a number from 0 to below 1.")
    _mass(heat)
    there = _not_empty(mask)
    scaled = F.interpolate(heat.float()[None, None], mask.shape, mode="bilinear", align_corners=False)[0, 0]
    seen = scaled > threshold * heat.float().max()
    return float((seen & there).sum() / (seen | there).sum())


def points_at(heat: Tensor, mask: Tensor) -> bool:
    """Whether the strongest cell of a map lies on the object: at least half of it is covered (pointing game).

    Raises:
        ConfigError: the mask or the map is empty.
    """
    _mass(heat)
    covered = coverage([_not_empty(mask)], heat.shape[-1])[0]
    return bool(covered.flatten()[heat.argmax()] >= 0.5)


def _mass(heat: Tensor) -> Tensor:
    total = heat.sum()
    if not (torch.isfinite(total) and total > 0):
        raise ConfigError("The attention map is empty.", "Choose a word that the model reads.")
    return total


def _not_empty(mask: Tensor) -> Tensor:
    if not mask.any():
        raise ConfigError("The mask is empty.", "Draw it over the object.")
    return mask.bool()
