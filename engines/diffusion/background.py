"""Which part of an image belongs to none of the caption's nouns: clusters of self-attention that no noun looks at.

DPL's supplement, section "background mask"; k-means over the rows of averaged self-attention, as Patashnik et al.
(arXiv:2303.11306) do for objects.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.nn import functional as F

from engines.diffusion.settings import CLUSTERS, LEAST_ATTENTION

_OFFICIAL_SIZE = 512


@dataclass(frozen=True, slots=True)
class Background:
    """Clusters of an image's places, and the words that look at them."""

    clusters: NDArray[np.int64]
    """[side, side]; which cluster a place belongs to."""
    owners: tuple[int | None, ...]
    """For each cluster the number of the word that looks at it most; None for background."""

    @property
    def mask(self) -> Tensor | None:
        """[side, side], where the background is; None where every cluster has a word."""
        free = [number for number, owner in enumerate(self.owners) if owner is None]
        return torch.from_numpy(np.isin(self.clusters, free)) if free else None


def find_background(
    self_attention: Tensor, heat: Tensor, clusters: int = CLUSTERS, least: float = LEAST_ATTENTION, seed: int = 1
) -> Background:
    """Clusters places that look at the same places, and asks of each which word looks at it.

    Args:
        self_attention: [side * side, side * side], averaged over a run.
        heat: [n, s, s], averaged maps of n words.
        clusters: how many.
        least: mean of a word's normalised map below which it does not own a cluster.
        seed: of k-means; 10 starts are tried.
    """
    rows = self_attention.float().cpu().numpy()
    side = round(len(rows) ** 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different places than clusters: a flat image
        labels = KMeans(n_clusters=min(clusters, len(rows)), n_init=10, random_state=seed).fit_predict(rows)
    grid = labels.astype(np.int64).reshape(side, side)
    return Background(grid, owners_of(grid, heat, clusters, least))


def owners_of(
    clusters: NDArray[np.int64], heat: Tensor, count: int = CLUSTERS, least: float = LEAST_ATTENTION
) -> tuple[int | None, ...]:
    """The word that looks at each cluster most, or None where that is less than `least`.

    Args:
        clusters: [side, side] of numbers below `count`.
        heat: [n, s, s], averaged maps of n words, s a divisor of side or not.
        count: how many clusters.
        least: of the mean of maps, normalised to (m - |min m|) / max m.
    """
    flat = heat.float().flatten(1)
    normalised = (flat - flat.amin(dim=1, keepdim=True).abs()) / flat.amax(dim=1, keepdim=True).clamp(min=1e-12)
    maps = F.interpolate(normalised.view(1, *heat.shape), clusters.shape, mode="nearest")[0].cpu().numpy()
    owners: list[int | None] = []
    for number in range(count):
        inside = clusters == number
        means = maps[:, inside].mean(axis=1) if len(maps) and inside.any() else np.zeros(1)
        best = int(means.argmax())
        owners.append(best if means[best] > least else None)
    return tuple(owners)


def shrink_mask(mask: Tensor, side: int, official: bool = False) -> Tensor:
    """A mask [S, S] at the size of the maps: [side, side] bool, true where at least half of a cell is covered.

    Args:
        mask: any size.
        side: wanted.
        official: as the official code reads its saved mask, which lets it grow by about a cell: enlarged to 512,
            shrunk bicubically, and everything that is not zero counts.
    """
    if not official:
        return F.adaptive_avg_pool2d(mask.float()[None, None], side)[0, 0] > 0.5
    large = F.interpolate(mask.float()[None, None], (_OFFICIAL_SIZE,) * 2, mode="nearest")[0, 0]
    picture = Image.fromarray((large.cpu().numpy() * 255).astype(np.uint8))
    small = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
    return torch.from_numpy(small != 0).to(mask.device)


def coverage(masks: Sequence[Tensor] | Tensor, side: int) -> Tensor:
    """Share of each cell that a mask covers: n masks [H, W] to [n, side, side]. Small things do not vanish."""
    return torch.stack([F.adaptive_avg_pool2d(mask.float()[None, None], side)[0, 0] for mask in masks])
