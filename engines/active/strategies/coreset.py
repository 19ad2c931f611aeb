"""Coreset by k-centre greedy (Sener and Savarese, ICLR 2018, algorithm 1) on unit image features."""

from __future__ import annotations

import numpy as np

from engines.active.base import Floats, Mask, Pool, Positions, Strategy, StrategyInfo
from engines.active.nearest import NearestCentre, Points
from engines.active.reasons import Reason


class Coreset(Strategy):
    """Again and again the image farthest from everything labelled or already picked; ties go to the first.

    Without any label the first pick is the image nearest to the mean of the pool (in official mode the first image).
    """

    info = StrategyInfo(
        name="coreset",
        title="Coreset (k-centre)",
        sentence="Shows the images that look least like anything labelled so far; needs no model.",
        needs_model=False,
        needs_features=True,
    )
    candidate_cap = 20

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.nearest = NearestCentre(len(pool), [pool.feature_rows], pool.dtype, pool.check_cancelled)
        self.distances: dict[int, float] = {}
        if len(pool.labelled):
            self.nearest.add(Points.of([pool.labelled_features()]))
            self.nearest.refresh()
        self._front = Front(self.nearest)

    def take(self, count: int, among: Mask | None = None) -> list[int]:
        taken: list[int] = []
        front = self._front if among is None else Front(self.nearest, np.flatnonzero(among))
        while len(taken) < count:
            self.pool.check_cancelled()
            position = self._next(front)
            if position is None:
                break
            self.distances[position] = float(np.sqrt(self.nearest.squared[position]))
            self.nearest.add(self.nearest.points(np.array([position])))
            self.nearest.squared[position] = -1  # below every distance: never the farthest again
            taken.append(position)
        return taken

    def _next(self, front: Front) -> int | None:
        if self.pool.official:  # as plainly as the official code: nobody can then differ by the handling of ties
            self.nearest.refresh()
            best = front.positions[np.argmax(self.nearest.squared[front.positions])]
            return int(best) if self.nearest.squared[best] >= 0 else None
        if not self.nearest.centres:
            return self._most_typical(front.positions)
        return front.farthest()

    def _most_typical(self, allowed: Positions) -> int | None:
        if not len(allowed):
            return None
        mean = np.zeros(self.pool.feature_rows(slice(0, 1)).shape[1])
        for chunk in self.pool.chunks():
            mean += self.pool.feature_rows(chunk).sum(axis=0, dtype=np.float64)
        likeness = np.empty(len(self.pool))
        for chunk in self.pool.chunks():
            likeness[chunk] = self.pool.feature_rows(chunk) @ mean.astype(self.pool.dtype)
        return int(allowed[np.argmax(likeness[allowed])])

    def explain(self, position: int) -> tuple[Reason, float]:
        distance = self.distances[position]
        if not np.isfinite(distance):
            return Reason("typical"), 0.0
        return Reason("far", distance=distance), distance


class Front:
    """Finds the farthest point without a pass over all of them.

    The distances on file are upper bounds. Only the points with the highest bounds, the front, are looked at: the
    highest of them are brought up to date until the first of the front is exact and not below any bound behind it.
    """

    SIZE = 4096
    BLOCK = 64

    def __init__(self, nearest: NearestCentre, positions: Positions | None = None) -> None:
        self.nearest = nearest
        self.positions = np.arange(len(nearest.squared)) if positions is None else positions
        self._front = np.empty(0, np.int64)
        self._behind = np.inf

    def farthest(self) -> int | None:
        """The position farthest from all centres, None when all are taken."""
        nearest, block = self.nearest, self.BLOCK
        while len(self.positions):
            best = self._first(max(self.SIZE, block))
            if nearest.squared[best] < 0:
                return None
            if nearest.seen[best] == nearest.centres:
                return best
            old = self._front[nearest.seen[self._front] < nearest.centres]
            nearest.refresh(old[_highest(nearest.squared[old], block)[0]])
            block *= 4
        return None

    def _first(self, size: int) -> int:
        """The first of the front; draws a new front of `size` when one behind may be farther."""
        squared = self.nearest.squared
        if len(self._front):
            best = self._front[np.argmax(squared[self._front])]
            if squared[best] >= self._behind:
                return int(best)
        first, self._behind = _highest(squared[self.positions], size)
        self._front = self.positions[first]
        return int(self._front[np.argmax(squared[self._front])])


def _highest(values: Floats, count: int) -> tuple[Positions, float]:
    """Where the `count` highest values are, ascending, and the highest of the others."""
    if count >= len(values):
        return np.arange(len(values)), -np.inf
    order = np.argpartition(values, len(values) - count)
    return np.sort(order[-count:]), float(values[order[:-count]].max())
