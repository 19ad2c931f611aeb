"""McNemar's test, and the images on which two results differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from engines.store import Workspace
from engines.store.agreement import READY_MADE, agreement, disagreements, mcnemar
from tests.app.made_up import add_run, make_workspace


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_many_pairs_are_quick_and_finite() -> None:
    assert 0 <= mcnemar(40_000, 60_000) < 1e-100 or mcnemar(40_000, 60_000) == 0
    assert mcnemar(50_000, 50_010) == pytest.approx(0.977, abs=0.02)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "clinic")


def test_counts_and_images(ws: Workspace) -> None:
    one = add_run(ws, wrong={0: 1, 1: 1, 7: 0}, experiment="one")
    other = add_run(ws, wrong={1: 1, 12: 0}, experiment="other")
    found = agreement(ws, one, other)
    assert found is not None
    assert (found.images, found.both, found.first_only, found.second_only, found.neither) == (20, 16, 1, 2, 1)
    assert found.p_value == 1.0
    images, total = disagreements(ws, [one, other])
    assert total == 3
    assert [each.sample.name for each in images] == ["0-0.png", "1-2.png", "2-2.png"]
    assert [each.said for each in images] == [(1, 0), (0, 1), (2, 0)]
    assert [len(disagreements(ws, [one, other], first, 2)[0]) for first in (0, 2, 4)] == [2, 1, 0]


def test_the_ready_made_prompt_comes_with_a_run(ws: Workspace) -> None:
    run = add_run(ws)  # the ready-made prompt takes places 5 to 14 for class 0
    found = agreement(ws, READY_MADE, run)
    assert found is not None
    assert (found.first_only, found.second_only, found.both) == (0, 10, 10)
    assert found.p_value < 0.01
    assert disagreements(ws, [READY_MADE, run])[1] == 10


@pytest.mark.parametrize("runs", [("gone", "gone too"), ("../../etc", READY_MADE), (READY_MADE, READY_MADE)])
def test_nothing_to_compare(ws: Workspace, runs: tuple[str, str]) -> None:
    add_run(ws)
    assert agreement(ws, *runs) is None
    assert disagreements(ws, runs) == ([], 0)
