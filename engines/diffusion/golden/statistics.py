"""Does golden noise help? Paired comparisons, with how sure one can be. Costs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import ConfigError

CONFIDENCE = 0.95
EVEN = 0.5


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores of the same prompts and seeds with two noises, compared pair by pair."""

    wins: int
    losses: int
    ties: int
    low: float
    high: float
    """Exact 95% interval (Clopper and Pearson) of the winning rate among pairs that are not tied."""
    p_sign: float
    """Probability of wins so uneven (either way) if both were equally good: exact binomial test."""
    p_wilcoxon: float
    """The same by Wilcoxon's signed-rank test, which hears how large differences are; ties are left out."""
    mean_gain: float
    """Mean difference of scores."""
    effect: float
    """Mean difference over the differences' standard deviation (Cohen's d for pairs); 0.2 is small, 0.8 large."""
    rank_effect: float
    """Rank-biserial correlation of pairs (Kerby 2014): from -1, all worse, to 1, all better."""

    @property
    def pairs(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def decided(self) -> int:
        """Pairs that are not tied."""
        return self.wins + self.losses

    @property
    def rate(self) -> float:
        """Winning rate among decided pairs; a half where all are tied."""
        return self.wins / self.decided if self.decided else EVEN

    @property
    def share(self) -> float:
        """Wins among all pairs, as the paper counts: ties count as not won."""
        return self.wins / self.pairs

    def verdict(self, name: str = "golden") -> str:
        """In words, such as “golden won 61 of 100 pairs, 95% interval 51–71%”."""
        tied = f" ({self.ties} more {'was' if self.ties == 1 else 'were'} tied)" if self.ties else ""
        if not self.decided:
            return f"All {self.pairs} pairs were tied: nothing can be said."
        counted = f"{name} won {self.wins} of {self.decided} pairs{tied}, 95% interval {_range(self.low, self.high)}"
        if self.low > EVEN:
            return f"{counted}: it helps."
        if self.high < EVEN:
            return f"{counted}: it makes images worse."
        return f"{counted}: this does not tell whether it helps."


@dataclass(frozen=True, slots=True)
class PromptResult:
    """Mean scores of one prompt over its seeds."""

    prompt: str
    standard: float
    golden: float
    pairs: int
    wins: int


def compare(standard: Sequence[float], golden: Sequence[float]) -> Comparison:
    """Compares scores pair by pair.

    Pairs count as independent. With several seeds a prompt they are not quite: compare the means of `by_prompt` too.

    Args:
        standard, golden: scores of the same prompts and seeds in the same order.
    Raises:
        ConfigError: no pairs, not as many on both sides, or scores that are no numbers.
    """
    from scipy import stats

    before, after = _scores(standard), _scores(golden)
    if len(before) != len(after) or not len(before):
        raise ConfigError(
            f"There are {len(before)} standard and {len(after)} golden scores.",
            "Judge at least one pair on both sides.",
        )
    gains = after - before
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    decided = gains[gains != 0]
    low, high, p_sign, p_wilcoxon, rank_effect = 0.0, 1.0, 1.0, 1.0, 0.0
    if len(decided):
        counted = stats.binomtest(wins, len(decided), EVEN)
        interval = counted.proportion_ci(CONFIDENCE, method="exact")
        low, high, p_sign = float(interval.low), float(interval.high), float(counted.pvalue)
        p_wilcoxon = float(stats.wilcoxon(decided).pvalue)
        ranks = stats.rankdata(np.abs(decided))
        rank_effect = float((ranks * np.sign(decided)).sum() / ranks.sum())
    return Comparison(
        wins=wins,
        losses=losses,
        ties=len(gains) - wins - losses,
        low=low,
        high=high,
        p_sign=p_sign,
        p_wilcoxon=p_wilcoxon,
        mean_gain=float(gains.mean()),
        effect=_effect(gains),
        rank_effect=rank_effect,
    )


def by_prompt(prompts: Sequence[str], standard: Sequence[float], golden: Sequence[float]) -> list[PromptResult]:
    """Mean scores of every prompt, in the order of their first appearance: the points of the scatter."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for prompt, *both in zip(prompts, standard, golden, strict=True):
        rows.setdefault(prompt, []).append((both[0], both[1]))
    return [
        PromptResult(
            prompt,
            standard=math.fsum(before for before, _ in scores) / len(scores),
            golden=math.fsum(after for _, after in scores) / len(scores),
            pairs=len(scores),
            wins=sum(after > before for before, after in scores),
        )
        for prompt, scores in rows.items()
    ]


def _scores(values: Sequence[float]) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ConfigError("Some scores are no numbers.", "Leave out the pairs whose images could not be made.")
    return found


def _effect(gains: NDArray[np.float64]) -> float:
    spread = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
    return float(gains.mean()) / spread if spread > 0 else 0.0


def _range(low: float, high: float) -> str:
    return f"{100 * low:.0f}–{100 * high:.0f}%"
