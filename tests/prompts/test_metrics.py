"""Metrics against values computed by hand and by scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score

from engines.prompts import metrics

labels = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(labels)
def test_equal_to_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs).T
    present = np.unique(true)
    assert metrics.macro_f1(true, predicted) == pytest.approx(
        f1_score(true, predicted, labels=present, average="macro", zero_division=0)
    )
    np.testing.assert_array_equal(
        metrics.confusion_matrix(true, predicted, 5), confusion_matrix(true, predicted, labels=range(5))
    )


def test_calibration_by_hand() -> None:
    # Two images at 0.9 (one right), two at 0.6 (both right): gaps 0.4 and 0.4, each on half of the images.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert metrics.expected_calibration_error(probabilities, np.array([0, 1, 0, 0])) == pytest.approx(0.4)


def test_perfectly_calibrated() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4)
    assert metrics.expected_calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0.0)


def test_harmonic_mean() -> None:
    assert metrics.harmonic_mean(0.8226, 0.6322) == pytest.approx(0.7149, abs=1e-4)
    assert metrics.harmonic_mean(0.0, 0.0) == 0.0


@given(labels)
def test_summary_adds_up(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs).T
    probabilities = np.eye(5)[predicted] * 0.9 + 0.02
    summary = metrics.summarise(probabilities, true, list("abcde"))
    assert sum(map(sum, summary["confusion"])) == len(pairs)
    assert sum(c["count"] for c in summary["per_class"]) == len(pairs)
    weighted = sum(c["count"] * c["accuracy"] for c in summary["per_class"]) / len(pairs)
    assert weighted == pytest.approx(summary["accuracy"])
    assert sum(b["share"] for b in summary["reliability"]) == pytest.approx(1)


def test_no_images() -> None:
    summary = metrics.summarise(np.zeros((0, 3)), np.zeros(0, np.int64), list("abc"))
    assert summary["images"] == 0
    assert summary["per_class"] == []
