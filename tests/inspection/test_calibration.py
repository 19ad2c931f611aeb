"""Calibration against values by hand and against the error that summaries carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.inspection.answers import Answers, read_answers
from engines.inspection.calibration import (
    bin_places,
    calibration,
    calibration_change,
    expected_calibration_error,
    reliability,
)
from engines.prompts import metrics
from tests.app.made_up import add_run, make_workspace


def answers(sure: list[float], right: list[bool], true: list[int] | None = None) -> Answers:
    labels = np.array(true if true is not None else [0] * len(sure))
    said = np.where(right, labels, labels + 1)
    return Answers(np.arange(len(sure)), labels, said, np.array(sure), np.array(sure), None, None)


def test_the_error_by_hand() -> None:
    sure, right = np.array([0.95, 0.94, 0.55, 0.56, 0.54]), np.array([True, False, True, False, False])
    # bins of 1/15: (14/15, 1]: both first, gap |0.5 - 0.945|; (8/15, 9/15]: the others, gap |1/3 - 0.55|
    expected = (2 * abs(0.5 - 0.945) + 3 * abs(1 / 3 - 0.55)) / 5
    assert expected_calibration_error(sure, right) == pytest.approx(expected)
    bins = reliability(sure, right)
    assert [(b.confidence, b.accuracy, b.share) for b in bins] == [
        pytest.approx((0.55, 1 / 3, 0.6)),
        pytest.approx((0.945, 0.5, 0.4)),
    ]


def test_equal_mass_by_hand() -> None:
    sure, right = np.array([0.9, 0.2, 0.8, 0.4]), np.array([True, False, False, True])
    assert bin_places(sure, "equal-mass", 2).tolist() == [1, 0, 1, 0]
    expected = (abs(0.5 - 0.3) + abs(0.5 - 0.85)) / 2
    assert expected_calibration_error(sure, right, "equal-mass", 2) == pytest.approx(expected)


def test_edges_are_in_the_bin_below() -> None:
    assert bin_places(np.array([1.0, 0.2, 0.2000001, 0.0]), bins=5).tolist() == [4, 0, 1, 0]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 10_000))
def test_the_error_is_what_summaries_say(images: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(4), images)
    true = rng.integers(0, 4, images)
    sure, right = shares.max(axis=1), shares.argmax(axis=1) == true
    assert expected_calibration_error(sure, right) == pytest.approx(metrics.expected_calibration_error(shares, true))
    assert 0 <= expected_calibration_error(sure, right, "equal-mass") <= 1
    place = np.bincount(bin_places(sure, "equal-mass"), minlength=15)
    assert place.max() - place.min() <= 1


def test_the_interval_holds_the_value_and_shrinks_with_more_images() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for images in (200, 5000):
        sure = rng.uniform(0.5, 1, images)
        right = rng.random(images) < sure - 0.1
        found = calibration(answers(sure.tolist(), right.tolist()), resamples=300)
        assert found is not None
        assert found.ece.low <= found.ece.value <= found.ece.high
        assert found.surplus == pytest.approx(0.1, abs=0.08)
        widths.append(found.ece.high - found.ece.low)
    assert widths[1] < widths[0] / 3
    assert found.ece.low < 0.1 < found.ece.high


def test_class_by_class() -> None:
    found = calibration(answers([0.9, 0.8, 0.6], [True, False, True], [0, 0, 1]), resamples=20)
    assert found is not None
    first, second = found.per_class
    assert (first.position, first.images, first.accuracy) == (0, 2, 0.5)
    assert first.confidence == pytest.approx(0.85)
    assert (second.position, second.images, second.ece) == (1, 1, pytest.approx(0.4))


def test_before_and_after(tmp_path: Path) -> None:
    ws = make_workspace(tmp_path / "clinic")
    run = add_run(ws, wrong={0: 1})
    before, after = read_answers(ws, run, ready_made=True), read_answers(ws, run)
    assert before is not None
    assert after is not None
    found = calibration_change(before, after)
    assert found is not None
    first, second, change = found
    assert change.value == pytest.approx(second.ece.value - first.ece.value)
    assert first.surplus == pytest.approx(0.3905, abs=1e-6)  # sure of 0.9 to 0.881, right on half
    assert change.high < 0
    assert calibration_change(before, after) == found


def test_an_older_run_has_none() -> None:
    found = answers([0.5], [True])
    assert calibration(Answers(found.sample_ids, found.true, found.said, None, None, None, None)) is None
