"""Sentences about results, against values worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from app.components.results import (
    calibration_sentence,
    estimate_sentence,
    interval,
    result_sentence,
    verdict,
    wilson,
)


def summary(accuracy: float, ready_made: float, images: int = 200, **more: Any) -> dict[str, Any]:
    return {
        "images": images,
        "accuracy": accuracy,
        "class_names": ["a", "b", "c", "d"],
        "zero_shot": {"accuracy": ready_made},
    } | more


@pytest.mark.parametrize(
    ("hits", "images", "low", "high"),
    # Published examples: Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_published_intervals(hits: int, images: int, low: float, high: float) -> None:
    assert wilson(hits, images) == pytest.approx((low, high), abs=5e-5)


def test_wilson_solves_its_quadratic() -> None:
    """Both ends p satisfy |share - p| = z * sqrt(p (1 - p) / n), which defines the interval."""
    for end in wilson(37, 50):
        assert abs(37 / 50 - end) == pytest.approx(1.959963984540054 * (end * (1 - end) / 50) ** 0.5, rel=1e-12)


def test_wilson_stays_within_bounds() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(20, 20)[1] == 1.0
    assert wilson(20, 20)[0] == pytest.approx(20 / (20 + 1.959963984540054**2))


def test_interval_of_several_seeds_is_their_standard_deviation() -> None:
    found = interval([0.90, 0.92, 0.94], 100)
    assert found.value == pytest.approx(0.92)
    assert found.spread == pytest.approx(0.0163299, abs=1e-6)  # sqrt((0.02² + 0 + 0.02²) / 3)
    assert found.repeats == 3


def test_interval_of_one_seed_is_over_the_test_images() -> None:
    found = interval([0.5], 100)
    assert (found.low, found.high) == pytest.approx((0.4038, 0.5962), abs=5e-5)


def test_sentence_over_seeds() -> None:
    runs = [summary(accuracy, 0.74) for accuracy in (0.902, 0.912, 0.922)]
    expected = "CoOp got 91.2% right (±0.8 over 3 seeds); the ready-made prompt 74.0%."
    assert result_sentence("CoOp", True, runs) == expected


def test_sentence_of_one_seed_gives_the_interval() -> None:
    expected = "CoOp got 50.0% right (from 100 test images: between 40.4% and 59.6%); the ready-made prompt 25.0%."
    assert result_sentence("CoOp", True, [summary(0.5, 0.25, images=100)]) == expected


def test_sentence_of_a_method_without_training_names_chance() -> None:
    sentence = result_sentence("Zero-shot CLIP", False, [summary(0.5, 0.5, images=100)])
    assert sentence.endswith("without any training; guessing would get 25.0%.")


def test_sentence_without_test_images() -> None:
    sentence = result_sentence("CoOp", True, [summary(float("nan"), float("nan"), images=0)])
    assert sentence == "CoOp is trained, but there was no labelled image left to test it on."


def test_sentence_for_classes_it_never_saw() -> None:
    ready = {"accuracy": 0.5, "base_accuracy": 0.5, "new_accuracy": 0.6, "harmonic_mean": 0.545}
    run = summary(0.8, 0.5, base_accuracy=0.8, new_accuracy=0.4, harmonic_mean=0.533, new={"images": 50})
    expected = (
        "CoOp got 80.0% right on the classes it was trained on and 40.0% on classes it never saw;"
        " the ready-made prompt 50.0% and 60.0%."
    )
    assert result_sentence("CoOp", True, [run | {"zero_shot": ready}]) == expected


@pytest.mark.parametrize(
    ("accuracy", "ready_made", "images", "kind", "words"),
    [
        (0.90, 0.70, 200, "good", "Training helped: 20.0 points more"),
        (0.60, 0.80, 200, "warning", "Training hurt: 20.0 points less"),
        (0.75, 0.70, 40, "info", "5.0 points more than the ready-made prompt, which may be chance with 40 test images"),
        (0.65, 0.70, 40, "info", "5.0 points less"),
        (0.70, 0.70, 40, "info", "No difference"),
    ],
)
def test_verdict_separates_gain_from_chance(
    accuracy: float, ready_made: float, images: int, kind: str, words: str
) -> None:
    found_kind, sentence = verdict(True, [summary(accuracy, ready_made, images)])
    assert found_kind == kind
    assert words in sentence


def test_verdict_is_silent_without_training() -> None:
    assert verdict(False, [summary(0.7, 0.7)]) == ("info", "")


@pytest.mark.parametrize(
    ("ece", "bins", "words"),
    [
        (0.01, [(0.9, 0.89, 1.0)], "taken at their word"),
        (0.10, [(0.9, 0.80, 1.0)], "too high by 10.0 points"),
        (0.10, [(0.6, 0.70, 1.0)], "too low by 10.0 points"),
        (0.10, [(0.9, 0.80, 0.5), (0.5, 0.60, 0.5)], "sometimes too high and sometimes too low"),
    ],
)
def test_calibration_in_words(ece: float, bins: list[tuple[float, float, float]], words: str) -> None:
    named = [dict(zip(("confidence", "accuracy", "share"), row, strict=True)) for row in bins]
    assert words in calibration_sentence(ece, named)


def test_estimate_in_words() -> None:
    one = estimate_sentence(42, 310.4, 1, "50 passes over the labelled images.")
    assert one == "About 42 s, and 310 MB of memory. 50 passes over the labelled images."
    three = estimate_sentence(80, 2400, 3)
    assert three == "About 80 s for each of 3 seeds, 4 min in all, and 2.4 GB of memory."
