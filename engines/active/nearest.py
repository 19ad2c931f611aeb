"""Distances to the nearest of a growing set of centres, over pools too large to compare with everything each time.

A point is a product of factors, x = a ⊗ b ⊗ …, so that its inner products are products of the factors' and the long
vector is never written down: |x - y|² = |x|² + |y|² - 2 (a·a')(b·b')…. With one factor this is the ordinary distance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from engines.active.base import CHUNK, Floats, Positions, chunks

Read = Callable[[Positions | slice], Floats]
COMPARISONS = 256 * CHUNK
"""Distances computed at a time: 8 MiB."""


@dataclass
class Points:
    """k points: factors [k, d] each, and squared lengths [k]."""

    factors: list[Floats]
    squared_norms: Floats

    @classmethod
    def of(cls, factors: list[Floats]) -> Points:
        norms = [np.einsum("nd,nd->n", factor, factor) for factor in factors]
        return cls(factors, reduce(np.multiply, norms))

    def __len__(self) -> int:
        return len(self.squared_norms)

    def __getitem__(self, index: slice) -> Points:
        return Points([factor[index] for factor in self.factors], self.squared_norms[index])

    def squared_distances(self, others: Points) -> Floats:
        """[k, m] to `others`. Differences within rounding count as none, so that copies are at distance 0."""
        pairs = zip(self.factors, others.factors, strict=True)
        inner = reduce(np.multiply, [mine @ theirs.T for mine, theirs in pairs])
        total = self.squared_norms[:, None] + others.squared_norms
        distances = total - 2 * inner
        rounding = 16 * np.finfo(total.dtype).eps
        distances[distances <= rounding * total] = 0
        return distances


class NearestCentre:
    """Squared distance of each of n points to its nearest centre, brought up to date only where it is asked for.

    A new centre can only bring the distances down, so a value not yet compared with the newest centres is an upper
    bound. That is enough to find the farthest point, or to draw a point, exactly, without a pass over all of them.

    Attributes:
        squared: [n] upper bounds, exact where `seen` equals the number of centres.
        seen: [n] number of centres that `squared` has been compared with.
    """

    def __init__(
        self, count: int, read: Sequence[Read], dtype: type[np.floating[Any]], check_cancelled: Callable[[], None]
    ) -> None:
        self.read = read
        self.check_cancelled = check_cancelled
        self.squared = np.full(count, np.inf, dtype)
        self.seen = np.zeros(count, np.int32)
        self.centres = 0
        self._store: Points | None = None

    def points(self, positions: Positions | slice) -> Points:
        """The points at `positions`."""
        return Points.of([read(positions) for read in self.read])

    def add(self, centres: Points) -> None:
        """Further centres."""
        needed = self.centres + len(centres)
        if self._store is None:
            self._store = Points([np.empty((0, f.shape[1]), f.dtype) for f in centres.factors], np.empty(0))
        if needed > len(self._store):
            self._store = _grown(self._store, centres, max(64, 2 * needed))
        new = slice(self.centres, needed)
        for stored, factor in zip(self._store.factors, centres.factors, strict=True):
            stored[new] = factor
        self._store.squared_norms[new] = centres.squared_norms
        self.centres = needed

    def refresh(self, positions: Positions | None = None) -> None:
        """Compare `positions` (all, if None) with the centres they have not seen."""
        count = len(self.squared) if positions is None else len(positions)
        for chunk in chunks(count, self.check_cancelled):
            self._refresh(chunk if positions is None else positions[chunk])

    def _refresh(self, part: Positions | slice) -> None:
        first = int(self.seen[part].min(initial=self.centres))
        if first == self.centres or self._store is None:
            return
        points = self.points(part)
        nearest = self.squared[part]
        step = COMPARISONS // len(points)
        for start in range(first, self.centres, step):
            centres = self._store[start : min(start + step, self.centres)]
            nearest = np.minimum(nearest, points.squared_distances(centres).min(axis=1))
        self.squared[part] = nearest
        self.seen[part] = self.centres


def _grown(store: Points, like: Points, capacity: int) -> Points:
    grown = Points(
        [np.empty((capacity, factor.shape[1]), factor.dtype) for factor in like.factors],
        np.empty(capacity, like.squared_norms.dtype),
    )
    for new, old in zip(grown.factors, store.factors, strict=True):
        new[: len(old)] = old
    grown.squared_norms[: len(store)] = store.squared_norms
    return grown
