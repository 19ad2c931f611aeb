"""Entropy sampling: the images whose class probabilities are most spread."""

from __future__ import annotations

import numpy as np

from engines.active.base import Floats, Ranking, StrategyInfo
from engines.active.reasons import Reason


def negative_entropy(probabilities: Floats) -> Floats:
    """[n] sum over classes of p · log(p + 1e-6) (natural logarithm) for probabilities [n, C]; low is uncertain.

    The 1e-6 is the official PCB code's.
    """
    return np.einsum("nc,nc->n", probabilities, np.log(probabilities + probabilities.dtype.type(1e-6)))


class Entropy(Ranking):
    """Highest entropy of the model's answer first."""

    info = StrategyInfo(
        name="entropy",
        title="Entropy",
        sentence="Shows the images on which the model hesitates most between all classes.",
        needs_model=True,
    )

    def score(self) -> Floats:
        scores = np.empty(len(self.pool), self.pool.dtype)
        for chunk in self.pool.chunks():
            scores[chunk] = negative_entropy(self.pool.probability_rows(chunk))
        return scores

    def explain(self, position: int) -> tuple[Reason, float]:
        classes, probabilities = self.top_two(position)
        return Reason("uncertain", classes, probabilities), -float(self.scores[position])
