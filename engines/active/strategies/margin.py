"""Margin sampling: the images whose two likeliest classes are closest (Scheffer et al., 2001)."""

from __future__ import annotations

import numpy as np

from engines.active.base import Floats, Ranking, StrategyInfo
from engines.active.reasons import Reason


class Margin(Ranking):
    """Smallest difference between the best and the second-best probability first."""

    info = StrategyInfo(
        name="margin",
        title="Margin",
        sentence="Shows the images on which the model can hardly decide between two classes.",
        needs_model=True,
    )

    def score(self) -> Floats:
        scores = np.empty(len(self.pool), self.pool.dtype)
        for chunk in self.pool.chunks():
            scores[chunk] = margins(self.pool.probability_rows(chunk))
        return scores

    def explain(self, position: int) -> tuple[Reason, float]:
        classes, probabilities = self.top_two(position)
        return Reason("torn", classes, probabilities), 1 - float(self.scores[position])


def margins(probabilities: Floats) -> Floats:
    """[n] best minus second-best of probabilities [n, C]; with one class, that class's own."""
    best = probabilities.max(axis=1)
    rest = probabilities.copy()
    rest[np.arange(len(rest)), probabilities.argmax(axis=1)] = 0
    return best - rest.max(axis=1)
