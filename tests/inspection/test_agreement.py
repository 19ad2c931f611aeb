"""Who agrees with whom: counts, McNemar's test and intervals against values computed elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from engines.inspection.agreement import class_differences, counted_pair, difference, image_gains, matrix
from engines.inspection.answers import Answers, aligned, read_answers
from engines.store import Workspace
from tests.app.made_up import add_base_to_new, add_run, make_workspace


def said(true: list[int], answers: list[int], ids: list[int] | None = None) -> Answers:
    places = np.array(ids if ids is not None else range(len(true)))
    return Answers(places, np.array(true), np.array(answers), None, None, None, None)


def test_a_pair_is_counted() -> None:
    found = counted_pair(said([0, 0, 1, 1, 1], [0, 1, 1, 0, 0]), said([0, 0, 1, 1, 1], [0, 0, 0, 0, 1]))
    assert found is not None
    assert (found.images, found.both, found.first_only, found.second_only, found.neither) == (5, 1, 1, 2, 1)
    assert counted_pair(said([0], [0], [1]), said([0], [0], [2])) is None


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_scipys_exact_binomial_test(first: int, second: int) -> None:
    true = [0] * (first + second + 1)
    one = said(true, [0] * first + [1] * second + [0])
    other = said(true, [1] * first + [0] * second + [0])
    found = counted_pair(one, other)
    assert found is not None
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert found.p_value == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    rng = np.random.default_rng(5)
    right = rng.random((2, 400)) < [[0.7], [0.78]]
    true = [0] * 400
    found = difference([(said(true, (~right[0]).astype(int).tolist()), said(true, (~right[1]).astype(int).tolist()))])
    gains = right[1].astype(float) - right[0]
    drawn = bootstrap((gains,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1))
    assert found is not None
    assert found.value == pytest.approx(gains.mean())
    assert (found.low, found.high) == pytest.approx(tuple(drawn.confidence_interval), abs=0.006)


def test_seeds_are_paired_and_images_are_what_counts() -> None:
    true = [0, 0, 1, 1]
    nothing = said(true, [1, 1, 0, 0])
    pairs = [(nothing, said(true, [0, 1, 0, 0])), (nothing, said(true, [0, 0, 0, 0]))]
    _, gains = image_gains(pairs)
    assert gains.tolist() == [1.0, 0.5, 0.0, 0.0]
    found = difference(pairs)
    assert found is not None
    assert (found.value, found.images) == (0.375, 4)
    assert found.low < 0.375 < found.high
    assert difference(pairs) == found
    by_class = class_differences(pairs)
    assert {c: d.value for c, d in by_class.items()} == {0: 0.75, 1: 0.0}
    assert (by_class[1].low, by_class[1].high) == (0.0, 0.0)
    assert difference([]) is None


def test_results_alike_differ_by_nothing() -> None:
    one = said([0, 1, 0], [0, 0, 0])
    found = difference([(one, one)])
    assert found is not None
    assert (found.value, found.low, found.high, found.clear) == (0.0, 0.0, 0.0, False)


def test_runs_against_images() -> None:
    rows = [said([0, 1, 2], [0, 1, 1], [5, 6, 7]), said([1, 2, 0], [0, 1, 0], [6, 7, 8]), said([1, 2], [1, 1], [6, 7])]
    found = matrix(rows)
    assert found is not None
    assert found.sample_ids.tolist() == [6, 7]
    assert found.right.tolist() == [[True, False], [False, False], [True, False]]
    assert found.alike.tolist() == [[1.0, 0.5, 1.0], [0.5, 1.0, 0.5], [1.0, 0.5, 1.0]]
    assert found.differing.tolist() == [0]
    assert matrix([]) is None


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "clinic")


def test_answers_are_read_with_their_probabilities(ws: Workspace) -> None:
    run = add_run(ws, wrong={0: 1})
    learned, ready = read_answers(ws, run), read_answers(ws, run, ready_made=True)
    assert learned is not None
    assert ready is not None
    assert (learned.right.mean(), ready.right.mean()) == (0.95, 0.5)
    assert learned.sure is not None
    assert learned.true_share is not None
    assert learned.top_classes is not None
    assert learned.sure[0] == pytest.approx(0.9, abs=1e-6)
    assert learned.true_share[0] == pytest.approx(0.1 / 3, abs=1e-6)
    assert learned.top_classes.shape == (20, 3)
    assert learned.top_classes[0, 0] == 1
    assert ready.true_share is not None
    assert ready.true_share[6] == pytest.approx(0.1 / 3, abs=1e-6)
    assert [len(each.true) for each in aligned([learned, ready])] == [20, 20]


@pytest.mark.parametrize("run", ["gone", "../../etc"])
def test_no_answers(ws: Workspace, run: str) -> None:
    assert read_answers(ws, run) is None


def test_an_older_run_without_probabilities_is_read(ws: Workspace) -> None:
    import pyarrow.parquet as pq

    run = add_run(ws, wrong={0: 1})
    file = ws.run_folder(run) / "predictions.parquet"
    pq.write_table(pq.read_table(file, columns=["sample_id", "true", "predicted", "ready_made"]), file)
    ready = read_answers(ws, run, ready_made=True)
    assert ready is not None
    assert (ready.sure, ready.true_share, ready.top_classes) == (None, None, None)
    pq.write_table(pq.read_table(file, columns=["sample_id", "true", "predicted"]), file)
    assert read_answers(ws, run, ready_made=True) is None


def test_both_halves_of_a_base_to_new_run_are_read(ws: Workspace) -> None:
    found = read_answers(ws, add_base_to_new(ws))
    assert found is not None
    assert set(found.true.tolist()) == {0, 1, 2, 3}
