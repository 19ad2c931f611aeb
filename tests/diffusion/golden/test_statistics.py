"""Paired comparisons against hand-computed and independently computed values."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.diffusion.golden.noise import noise_facts
from engines.diffusion.golden.statistics import by_prompt, compare
from engines.errors import ConfigError


def test_the_example_of_the_verdict() -> None:
    found = compare([0.0] * 100, [1.0] * 61 + [-1.0] * 39)
    assert found.verdict() == "golden won 61 of 100 pairs, 95% interval 51–71%: it helps."
    # Clopper and Pearson: the true rates at which 61 and more, or 61 and fewer, have a probability of 2.5%.
    for rate, wins in [(found.low, range(61, 101)), (found.high, range(62))]:
        tail = sum(comb(100, k) * rate**k * (1 - rate) ** (100 - k) for k in wins)
        assert tail == pytest.approx(0.025, abs=1e-9)
    assert found.p_sign == pytest.approx(2 * sum(comb(100, k) for k in range(61, 101)) / 2**100)


def test_wilcoxon_by_trying_all_signs() -> None:
    gains = [0.3, -0.1, 0.7, 0.9, -0.2, 1.1, 0.4]
    found = compare([0.0] * 7, gains)
    ranks = np.abs(gains).argsort().argsort() + 1
    positive = ranks[np.array(gains) > 0].sum()
    sums = [sum(r for r, up in zip(ranks, signs, strict=True) if up) for signs in product([0, 1], repeat=7)]
    rarer = np.mean([abs(s - ranks.sum() / 2) >= abs(positive - ranks.sum() / 2) for s in sums])
    assert found.p_wilcoxon == pytest.approx(rarer)
    assert found.rank_effect == pytest.approx((2 * positive - ranks.sum()) / ranks.sum())
    assert found.effect == pytest.approx(np.mean(gains) / np.std(gains, ddof=1))
    assert found.mean_gain == pytest.approx(np.mean(gains))


def test_ties_decide_nothing() -> None:
    found = compare([1, 1, 1, 0], [1, 1, 0, 1])
    assert (found.wins, found.losses, found.ties, found.rate, found.share) == (1, 1, 2, 0.5, 0.25)
    assert "this does not tell" in found.verdict()
    assert "(2 more were tied)" in found.verdict()
    every = compare([0.2] * 5, [0.2] * 5)
    assert every.verdict() == "All 5 pairs were tied: nothing can be said."
    assert (every.p_sign, every.p_wilcoxon, every.effect, every.rate) == (1, 1, 0, 0.5)


def test_harm_is_said() -> None:
    assert compare([1.0] * 20, [0.5] * 20).verdict("NPNet").endswith("it makes images worse.")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=40))
def test_changing_sides_mirrors_everything(pairs: list[tuple[int, int]]) -> None:
    before, after = zip(*pairs, strict=True)
    one, other = compare(before, after), compare(after, before)
    assert one.pairs == len(pairs)
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    assert one.low == pytest.approx(1 - other.high, abs=1e-9)
    assert one.low <= one.rate <= one.high
    assert one.p_wilcoxon == pytest.approx(other.p_wilcoxon)
    assert one.effect == pytest.approx(-other.effect)
    assert one.rank_effect == pytest.approx(-other.rank_effect)


@pytest.mark.parametrize("scores", [([], []), ([1.0], []), ([1.0], [float("nan")]), ([float("inf")], [1.0])])
def test_what_cannot_be_compared(scores: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ConfigError):
        compare(*scores)


def test_points_of_the_scatter() -> None:
    found = by_prompt(["b", "a", "b"], [1, 2, 3], [2, 2, 7])
    assert [(one.prompt, one.standard, one.golden, one.pairs, one.wins) for one in found] == [
        ("b", 2, 4.5, 2, 2),
        ("a", 2, 2, 1, 0),
    ]


def test_noise() -> None:
    source = torch.tensor([[1.0, -1.0, 1.0, -1.0], [3.0, 0.0, 0.0, 1.0]]).reshape(2, 1, 2, 2)
    noise = torch.stack([2 * source[0], -source[1]])
    two, other = noise_facts(noise, source)
    assert (two.mean, two.std, two.kurtosis, two.cosine) == pytest.approx((0, 2, -2, 1))
    assert (other.mean, other.cosine) == pytest.approx((-1, -1))
    # Fourth moment of (-3, 0, 0, -1) about -1 is (16 + 1 + 1 + 0) / 4, the second (4 + 1 + 1 + 0) / 4.
    assert other.kurtosis == pytest.approx(4.5 / 1.5**2 - 3)
    assert noise_facts(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))[0].cosine == 0
