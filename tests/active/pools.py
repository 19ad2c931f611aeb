"""Pools to choose from, made up from a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

STRATEGIES = ["badge", "coreset", "entropy", "margin", "random"]


@dataclass
class MadeUp:
    features: np.ndarray
    probabilities: np.ndarray
    labelled: np.ndarray
    labels: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.features, self.probabilities, self.labelled

    @property
    def classes(self) -> int:
        return self.probabilities.shape[1]


def made_up(
    seed: int = 0, size: int = 60, classes: int = 4, labelled: int = 6, skew: float = 1.0, copies: float = 0.0
) -> MadeUp:
    """Images around class centres; class c is so frequent as (c + 1)^-skew, and a share `copies` repeats others."""
    rng = np.random.default_rng(seed)
    shares = (1.0 + np.arange(classes)) ** -skew
    truth = rng.choice(classes, size, p=shares / shares.sum())
    centres = rng.standard_normal((classes, 16))
    rows = centres[truth] + rng.standard_normal((size, 16))
    again = rng.random(size) < copies
    rows[again], truth[again] = rows[0], truth[0]
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    logits = features @ centres.T
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    order = rng.permutation(size)[:labelled]
    return MadeUp(features, (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), order, truth[order])


@st.composite
def pools(draw: st.DrawFn) -> MadeUp:
    size = draw(st.integers(2, 90))
    return made_up(
        seed=draw(st.integers(0, 10_000)),
        size=size,
        classes=draw(st.integers(1, 7)),
        labelled=draw(st.integers(0, min(20, size - 1))),
        skew=draw(st.sampled_from([0.0, 1.0, 3.0])),
        copies=draw(st.sampled_from([0.0, 0.0, 0.5, 1.0])),
    )


def evenness(counts: Any) -> float:
    """Entropy of counts (nats); 0 for no counts."""
    shares = np.asarray(counts, float)
    shares = shares[shares > 0] / max(shares.sum(), 1)
    return float(-(shares * np.log(shares)).sum())
