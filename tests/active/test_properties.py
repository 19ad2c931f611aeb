"""What holds for every strategy, balanced or not, on every pool."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.active import Randomness, available_strategies, pick, select
from engines.errors import Cancelled
from tests.active.pools import STRATEGIES, MadeUp, evenness, made_up, pools

names = st.sampled_from(STRATEGIES + [f"pcb-{name}" for name in STRATEGIES])
budgets = st.integers(1, 40)


def test_all_strategies_are_tried_here() -> None:
    assert [info.name for info in available_strategies()] == STRATEGIES


@settings(deadline=None)
@given(pools(), names, budgets, st.integers(0, 2**32 - 1), st.sampled_from(["corrected", "official"]), st.booleans())
def test_exactly_the_budget_once_each_and_never_what_has_a_label(
    pool: MadeUp, name: str, budget: int, seed: int, rule: str, official: bool
) -> None:
    compat = "official" if official else None
    picks = select(name, *pool.arrays, budget, seed, labels=pool.labels, rule=rule, compat=compat)  # type: ignore[arg-type]
    assert len(picks) == min(budget, len(pool.features) - len(pool.labelled))
    assert len(set(picks)) == len(picks)
    assert not set(picks) & set(pool.labelled.tolist())
    assert all(0 <= index < len(pool.features) for index in picks)


@settings(deadline=None)
@given(pools(), st.sampled_from(STRATEGIES), budgets, st.integers(0, 99))
def test_balanced_picks_are_at_least_as_even_as_the_wrapped_strategy(
    pool: MadeUp, name: str, budget: int, seed: int
) -> None:
    """Evenness of the labels so far and the answers of the model for the picks."""
    before = np.bincount(pool.labels, minlength=pool.classes)
    answers = pool.probabilities.argmax(axis=1)

    def after(strategy: str) -> float:
        picks = select(strategy, *pool.arrays, budget, seed, labels=pool.labels)
        return evenness(before + np.bincount(answers[picks], minlength=pool.classes))

    assert after(f"pcb-{name}") >= after(name) - 1e-9


@settings(deadline=None)
@given(pools(), names, budgets, st.integers(0, 99), st.data())
def test_only_rows_of_the_given_pool(pool: MadeUp, name: str, budget: int, seed: int, data: st.DataObject) -> None:
    free = sorted(set(range(len(pool.features))) - set(pool.labelled.tolist()))
    allowed = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
    picks = select(name, *pool.arrays, budget, seed, labels=pool.labels, pool=allowed)
    assert set(picks) <= set(allowed)
    assert len(picks) == min(budget, len(allowed))
    mask = np.isin(np.arange(len(pool.features)), allowed)
    assert select(name, *pool.arrays, budget, seed, labels=pool.labels, pool=mask) == picks


@settings(deadline=None)
@given(pools(), names, budgets, st.integers(0, 99))
def test_the_arguments_alone_decide(pool: MadeUp, name: str, budget: int, seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    first = select(name, *pool.arrays, budget, seed, labels=pool.labels)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]
    random.seed(seed + 1)
    np.random.seed(seed + 1)
    assert select(name, *pool.arrays, budget, seed, labels=pool.labels) == first
    order = np.random.default_rng(seed).permutation(len(pool.labelled))
    again = select(
        name, pool.features, pool.probabilities, pool.labelled[order], budget, seed, labels=pool.labels[order]
    )
    assert name.endswith("coreset") or again == first  # centres in another order round differently


@pytest.mark.parametrize("name", ["random", "badge", "pcb-random", "pcb-badge"])
def test_seeds_differ_and_zero_is_one_of_them(name: str) -> None:
    pool = made_up(size=200)
    picks = {seed: tuple(select(name, *pool.arrays, 12, seed, labels=pool.labels)) for seed in (0, 1, 2)}
    assert len(set(picks.values())) == 3
    assert picks[0] == tuple(select(name, *pool.arrays, 12, 0, labels=pool.labels))


@pytest.mark.parametrize("compat", [None, "official"])
def test_a_stream_goes_on_from_call_to_call(compat: str | None) -> None:
    pool, stream = made_up(size=200), Randomness(3)
    first, second = (select("random", *pool.arrays, 12, stream, compat=compat) for _ in range(2))  # type: ignore[arg-type]
    assert first != second
    assert first == select("random", *pool.arrays, 12, 3, compat=compat)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STRATEGIES)
def test_two_spellings_of_balanced(name: str) -> None:
    pool = made_up()
    one = pick(f"pcb-{name}", *pool.arrays, 8, labels=pool.labels)
    assert one == pick(name, *pool.arrays, 8, labels=pool.labels, balanced=True)


@pytest.mark.parametrize("name", [*STRATEGIES, "pcb-entropy", "pcb-coreset", "pcb-badge"])
def test_copies_of_one_image_end(name: str) -> None:
    """All distances are 0 from the first pick on: the rest follows all the same."""
    pool = made_up(size=50, copies=1.0, labelled=0)
    for compat in (None, "official"):
        picks = select(name, *pool.arrays, 30, labels=[], compat=compat)  # type: ignore[arg-type]
        assert len(set(picks)) == 30


@pytest.mark.parametrize("name", ["coreset", "badge"])
def test_copies_come_last(name: str) -> None:
    pool = made_up(size=60, copies=0.5, labelled=0)
    images = np.unique(pool.features, axis=0, return_inverse=True)[1]
    different = len(set(images.tolist()))
    picks = select(name, *pool.arrays, different)
    assert len(set(images[picks].tolist())) == different


@pytest.mark.parametrize("rule", ["corrected", "official"])
def test_fewer_candidates_than_the_budget_end(rule: str) -> None:
    pool = made_up(size=50, classes=6)
    picks = select("pcb-entropy", *pool.arrays, 10, labels=pool.labels, rule=rule, candidates=3)  # type: ignore[arg-type]
    assert len(set(picks)) == 10


@pytest.mark.parametrize("name", STRATEGIES)
def test_half_precision_and_memory_maps(name: str, tmp_path) -> None:
    pool = made_up(size=300)
    np.save(tmp_path / "features.npy", pool.features.astype(np.float16))
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    picks = select(f"pcb-{name}", mapped, pool.probabilities, pool.labelled, 9, labels=pool.labels)
    assert picks == select(f"pcb-{name}", np.array(mapped), *pool.arrays[1:], 9, labels=pool.labels)


@pytest.mark.parametrize("name", ["entropy", "coreset", "badge", "pcb-entropy", "pcb-coreset", "pcb-badge"])
def test_it_can_be_stopped(name: str) -> None:
    def stop() -> None:
        raise Cancelled

    pool = made_up()
    with pytest.raises(Cancelled):
        select(name, *pool.arrays, 5, labels=pool.labels, check_cancelled=stop)
