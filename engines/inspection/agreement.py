"""Who agrees with whom: runs against images, and whether a difference between two results can be chance. Torch-free.

Seeds are paired: each seed of one result stands beside the same seed of the other, and an image counts with the mean
over its seeds. Images are what is drawn at random, so intervals come from drawing them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.inspection.answers import Answers, Bools, Floats, Ints, aligned
from engines.store.agreement import Agreement

RESAMPLES = 10_000
Pair = tuple[Answers, Answers]


@dataclass(frozen=True)
class Difference:
    """How much larger a share the second of two results got right, and where that may lie (95%)."""

    value: float
    low: float
    high: float
    images: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out no difference at all."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Matrix:
    """R results against N images."""

    sample_ids: Ints
    true: Ints
    said: Ints
    """[R, N]"""
    right: Bools
    """[R, N]"""

    @property
    def alike(self) -> Floats:
        """[R, R]: share of the images that two results answer alike."""
        return np.array([[float((one == other).mean()) for other in self.said] for one in self.said])

    @property
    def differing(self) -> Ints:
        """Places of the images on which not all say the same."""
        return np.flatnonzero((self.said != self.said[:1]).any(axis=0))


def matrix(found: Sequence[Answers]) -> Matrix | None:
    """Results against the images that all were tested on; None where there are none."""
    rows = aligned(found)
    if not rows:
        return None
    said = np.stack([row.said for row in rows])
    return Matrix(rows[0].sample_ids, rows[0].true, said, said == rows[0].true)


def counted_pair(first: Answers, second: Answers) -> Agreement | None:
    """One seed of two results, image by image; None where they share no image."""
    both = matrix([first, second])
    if both is None:
        return None
    a, b = both.right
    counts = (int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum()))
    return Agreement(len(a), *counts)


def difference(pairs: Sequence[Pair], resamples: int = RESAMPLES, seed: int = 0) -> Difference | None:
    """Paired bootstrap of the difference in share right, second minus first (Efron and Tibshirani 1993, chapter 13).

    Percentile interval of 95% over images drawn again with replacement; deterministic for a `seed`.

    Args:
        pairs: the two results' answers, one pair a seed.
    """
    _, gains = image_gains(pairs)
    return _bootstrap(gains, resamples, seed) if len(gains) else None


def class_differences(pairs: Sequence[Pair], resamples: int = RESAMPLES, seed: int = 0) -> dict[int, Difference]:
    """`difference` for every class by itself, by class position."""
    true, gains = image_gains(pairs)
    return {int(c): _bootstrap(gains[true == c], resamples, seed) for c in np.unique(true)}


def image_gains(pairs: Sequence[Pair]) -> tuple[Ints, Floats]:
    """(true classes [N], gains [N] from -1 to 1): how much oftener the second result is right on each image."""
    rows = [both for pair in pairs if (both := aligned(pair))]
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0)
    ids = np.concatenate([first.sample_ids for first, _ in rows])
    gains = np.concatenate([second.right.astype(np.float64) - first.right for first, second in rows])
    true = np.concatenate([first.true for first, _ in rows])
    _, at, place, times = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
    return true[at], np.bincount(place, gains) / times


def _bootstrap(gains: Floats, resamples: int, seed: int) -> Difference:
    # The mean of a resample depends only on how often each value is drawn: a multinomial, whatever the images' number.
    values, counts = np.unique(np.round(gains, 9), return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(gains), counts / len(gains), size=resamples) @ values / len(gains)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(float(gains.mean()), float(low), float(high), len(gains))
