"""Losses on attention maps: what is disjoint, what leaks, words of several tokens, masks of LocInv."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.diffusion.losses import (
    LeakageSettings,
    MaskSettings,
    TermSettings,
    balancing,
    disjoint,
    dissimilarity,
    leakage_objective,
    mask_objective,
    on_background,
    outside,
    strengths,
    unbound,
    word_heat,
)
from engines.diffusion.words import Word

SIDE, TOKENS = 8, 12
CAT, DOG, LONG = Word("cat", (2,)), Word("dog", (5,)), Word("dermatofibroma", (7, 8, 9))


def looking(**at: list[tuple[int, int]]) -> Tensor:
    """Maps in which tokens (t2=...) look at some cells with 0.5 each; the start token has the rest."""
    maps = torch.zeros(SIDE, SIDE, TOKENS)
    for name, cells in at.items():
        for row, column in cells:
            maps[row, column, int(name[1:])] = 0.5
    maps[..., 0] = 1 - maps.sum(dim=-1)
    return maps


def mask(*cells: tuple[int, int]) -> Tensor:
    found = torch.zeros(SIDE, SIDE)
    for row, column in cells:
        found[row, column] = 1
    return found


def test_a_word_of_several_tokens_looks_where_any_of_them_looks() -> None:
    maps = looking(t7=[(0, 0)], t8=[(1, 1)], t9=[(0, 0)])
    heat = word_heat(maps, [LONG]).view(SIDE, SIDE)
    assert float(heat[0, 0]) == 1
    assert float(heat[1, 1]) == 0.5
    assert float(heat.sum()) == 1.5


def test_disjoint_words_and_words_that_share() -> None:
    apart = looking(t2=[(0, 0)], t5=[(7, 7)])
    assert float(disjoint(apart, [CAT, DOG])) == 0
    # Two of four cells are shared: cosine 1/2.
    half = looking(t2=[(0, 0), (0, 1)], t5=[(0, 1), (0, 2)])
    assert float(disjoint(half, [CAT, DOG])) == pytest.approx(0.5)
    # Three words, one pair of three shares everything.
    three = looking(t2=[(0, 0)], t5=[(0, 0)], t7=[(5, 5)])
    assert float(disjoint(three, [CAT, DOG, LONG])) == pytest.approx(1 / 3)


def test_one_word_has_nobody_to_share_with() -> None:
    maps = looking(t2=[(0, 0)]).requires_grad_()
    assert float(disjoint(maps, [CAT])) == 0
    objective = leakage_objective([CAT], mask((3, 3)), LeakageSettings())
    losses = objective.measure(maps)
    objective.total(losses).backward()
    assert maps.grad is not None
    assert bool(maps.grad.isfinite().all())
    assert float(maps.grad.abs().sum()) > 0


def test_leakage_onto_the_background() -> None:
    maps = looking(t2=[(0, 0), (4, 4)], t5=[(4, 4)])
    # cat: one of two cells lies on a background of one cell; dog: all of it.
    assert float(on_background(maps, [CAT, DOG], mask((4, 4)))) == pytest.approx((1 / math.sqrt(2) + 1) / 2)
    assert float(on_background(maps, [CAT], mask((7, 7)))) == 0


def test_the_weakest_word_is_the_one_that_is_balanced() -> None:
    maps = looking(t2=[(2, 2), (2, 3), (3, 2), (3, 3)], t5=[])
    strong, weak = strengths(maps, [CAT, DOG], smooth=False)
    assert float(strong) > 0.99
    assert float(weak) == pytest.approx(1 / (TOKENS - 2))  # nobody looks there: all tokens are equal
    assert float(balancing(maps, [CAT, DOG], smooth=False)) == pytest.approx(1 - float(weak))
    mean = balancing(maps, [CAT, DOG], "mean", smooth=False)
    assert float(mean) == pytest.approx(1 - (float(strong) + float(weak)) / 2)


def test_losses_of_masks() -> None:
    maps = looking(t2=[(0, 0), (0, 1)], t5=[(7, 7)])
    right = torch.stack([mask((0, 0), (0, 1)), mask((7, 7))])
    assert float(dissimilarity(maps, [CAT, DOG], right)) == pytest.approx(0, abs=1e-6)
    assert float(outside(maps, [CAT, DOG], right)) == pytest.approx(0, abs=1e-6)
    wrong = torch.stack([mask((0, 0), (5, 5)), mask((3, 3))])
    assert float(dissimilarity(maps, [CAT, DOG], wrong)) == pytest.approx(1 - 0.5 / 2)
    assert float(outside(maps, [CAT, DOG], wrong)) == pytest.approx((0.5 + 1) / 2)


def test_an_adjective_is_bound_to_its_noun() -> None:
    maps = looking(t1=[(0, 0)], t2=[(0, 0)], t5=[(6, 6)])
    red = Word("red", (1,))
    assert float(unbound(maps, [red], [CAT])) == pytest.approx(0, abs=1e-6)
    assert float(unbound(maps, [red], [DOG])) == 1
    objective = mask_objective([CAT, DOG], torch.ones(2, SIDE, SIDE), [(red, DOG)], MaskSettings())
    assert set(objective.measure(maps)) == {"similarity", "overlap", "binding"}


def test_without_a_background_its_loss_is_left_out() -> None:
    objective = leakage_objective([CAT, DOG], None, LeakageSettings())
    assert [term.name for term in objective.terms] == ["balancing", "disjoint"]


@settings(deadline=None)
@given(
    weight=st.floats(0, 10),
    alpha=st.floats(1, 100),
    beta=st.floats(0.01, 1),
    first=st.floats(0, 50),
    later=st.floats(0, 50),
)
def test_thresholds_fall_from_step_to_step(
    weight: float, alpha: float, beta: float, first: float, later: float
) -> None:
    term = TermSettings(weight=weight, alpha=alpha, beta=beta)
    low, high = sorted((first, later))
    assert term.threshold(high) <= term.threshold(low) <= beta


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 0.9))
def test_losses_stay_between_0_and_1_and_do_not_depend_on_the_strength(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(SIDE, SIDE, TOKENS, generator=generator).softmax(dim=-1)
    words, background = [CAT, DOG, LONG], torch.rand(SIDE, SIDE, generator=generator) > 0.5
    masks = torch.rand(3, SIDE, SIDE, generator=generator)
    for loss in (
        lambda given: disjoint(given, words),
        lambda given: on_background(given, words, background),
        lambda given: dissimilarity(given, words, masks),
        lambda given: outside(given, words, masks),
    ):
        value = float(loss(maps))
        assert -1e-6 <= value <= 1 + 1e-6
        assert float(loss(maps * scale)) == pytest.approx(value, abs=1e-4)
    assert 0 <= float(balancing(maps, words)) <= 1


def test_it_is_enough_when_every_loss_is_small() -> None:
    objective = leakage_objective([CAT, DOG], mask((4, 4)), LeakageSettings())
    good = {"balancing": torch.tensor(0.2), "disjoint": torch.tensor(0.5), "background": torch.tensor(0.5)}
    assert objective.satisfied(good, 0)
    assert not objective.satisfied(good, 25)  # 0.2 is above 0.3 exp(-1) by then
    for name in good:
        assert not objective.satisfied(good | {name: torch.tensor(0.95)}, 0)
    assert float(objective.total(good)) == pytest.approx(0.2 + 0.05 * 0.5 + 0.05 * 0.5)
