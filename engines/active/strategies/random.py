"""Uniform at random: what every other strategy has to beat."""

from __future__ import annotations

import numpy as np

from engines.active.base import Floats, Mask, Ranking, StrategyInfo
from engines.active.reasons import Reason


class RandomDraw(Ranking):
    """Every order of the pool is equally likely."""

    info = StrategyInfo(
        name="random",
        title="Random",
        sentence="Draws images by chance: the honest yardstick, and the choice for a study that must not be biased.",
        needs_model=False,
    )

    def score(self) -> Floats:
        if self.pool.official:  # drawn when it is known how many
            return np.zeros(len(self.pool))
        return self.pool.randomness.modern.permutation(len(self.pool))

    def take(self, count: int, among: Mask | None = None) -> list[int]:
        if not self.pool.official:
            return super().take(count, among)
        free = np.flatnonzero(self.free if among is None else self.free & among).tolist()
        taken = self.pool.randomness.python.sample(free, min(count, len(free)))
        self.free[taken] = False
        return taken

    def explain(self, position: int) -> tuple[Reason, float]:
        return Reason("random"), 0.0
