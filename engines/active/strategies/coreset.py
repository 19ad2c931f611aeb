"""Coreset by k-centre greedy (Sener and Savarese, ICLR 2018, algorithm 1) on unit image features."""

from __future__ import annotations

import numpy as np

from engines.active.base import Mask, Pool, Positions, Strategy, StrategyInfo
from engines.active.nearest import NearestCentre, Points
from engines.active.reasons import Reason

FIRST_BLOCK = 1024


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

    def take(self, count: int, among: Mask | None = None) -> list[int]:
        taken: list[int] = []
        while len(taken) < count:
            self.pool.check_cancelled()
            position = self._farthest(among)
            if position is None:
                break
            self.distances[position] = float(np.sqrt(self.nearest.squared[position]))
            self.nearest.add(self.nearest.points(np.array([position])))
            self.nearest.squared[position] = -1  # below every distance: never the farthest again
            taken.append(position)
        return taken

    def _farthest(self, among: Mask | None) -> int | None:
        """The farthest position. What heads the list of upper bounds is brought up to date until its head is exact."""
        nearest, block = self.nearest, FIRST_BLOCK
        if not nearest.centres and not self.pool.official:
            return self._most_typical(among)
        while True:
            bounds = nearest.squared if among is None else np.where(among, nearest.squared, -1)
            best = int(np.argmax(bounds))
            if bounds[best] < 0:
                return None
            if nearest.seen[best] == nearest.centres:
                return best
            nearest.refresh(_highest(np.where(nearest.seen < nearest.centres, bounds, -1), block))
            block *= 4

    def _most_typical(self, among: Mask | None) -> int | None:
        allowed = np.arange(len(self.pool)) if among is None else np.flatnonzero(among)
        if not len(allowed):
            return None
        mean = sum(self.pool.feature_rows(chunk).sum(axis=0, dtype=np.float64) for chunk in self.pool.chunks())
        likeness = np.empty(len(self.pool))
        for chunk in self.pool.chunks():
            likeness[chunk] = self.pool.feature_rows(chunk) @ np.asarray(mean, self.pool.dtype)
        return int(allowed[np.argmax(likeness[allowed])])

    def explain(self, position: int) -> tuple[Reason, float]:
        distance = self.distances[position]
        if not np.isfinite(distance):
            return Reason("typical"), 0.0
        return Reason("far", distance=distance), distance


def _highest(values: np.ndarray, count: int) -> Positions:
    """Positions of the `count` highest values, ascending."""
    if count >= len(values):
        return np.arange(len(values))
    return np.sort(np.argpartition(values, len(values) - count)[-count:])
