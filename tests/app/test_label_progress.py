"""How far the labelling is, in words: sentences, the meter, the curve."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.components.label_progress import beside, curve, outcome
from engines.labelling import ClassProgress, LabelProgress, RoundProgress

FOUND = LabelProgress(
    classes=[ClassProgress(1, "blast", 3, 40), ClassProgress(2, "<b>rare</b>", 0, 2)],
    round_id=7,
    number=2,
    budget=10,
    done=4,
    left=6,
    repeats_left=1,
    labelled=3,
    pool_left=57,
    unsure=1,
    not_gradable=0,
    flagged=2,
    skipped=0,
    disputed=1,
    missing=["<b>rare</b>"],
)


def point(number: int, accuracy: float | None, change: float | None = None, labelled: int = 0) -> RoundProgress:
    interval = (accuracy - 0.05, accuracy + 0.05) if accuracy is not None else None
    zero_shot = 0.5 if accuracy is not None else None
    return RoundProgress(number, number, "entropy", labelled, accuracy, interval, zero_shot, change, None)


def test_beside_the_images_stands_what_is_left_and_what_is_missing() -> None:
    said = beside(FOUND)
    assert "<strong>6</strong> left in this round" in said
    assert "Round 2: 4 of 10 read, 1 image once more" in said
    assert "1 unsure · 2 flagged · 1 disputed between readers" in said
    assert "not gradable" not in said
    assert "No image of this class yet." in said
    assert 'data-value="&lt;b&gt;rare&lt;/b&gt;"' in said
    assert "<b>rare" not in said
    assert "≈ 40" in said


def test_nothing_is_missing_before_the_first_label() -> None:
    assert "No image of" not in beside(replace(FOUND, labelled=0, missing=["blast", "rare"]))


def test_many_classes_are_folded() -> None:
    many = [ClassProgress(place, f"class {place}", 1, None) for place in range(30)]
    said = beside(replace(FOUND, classes=many, missing=[]))
    assert "18 more" in said
    assert said.count("pl-meter-row") == 30
    assert "in the rest" not in said


def test_the_sentence_says_what_the_labels_are_worth() -> None:
    found = replace(FOUND, rounds=[point(1, 0.5), point(2, 0.8, labelled=10), point(3, 0.84, labelled=20)])
    said = outcome(found)
    assert "With 20 labelled images it gets 84.0%" in said
    assert "95% sure: 79.0% to 89.0%" in said
    assert "the ready-made prompt 50.0%" in said
    assert "+4.0 points" in said
    drawn = curve(found)
    assert drawn is not None
    assert drawn["data"][1]["x"] == [0, 10, 20]
    assert drawn["data"][1]["y"] == [0.5, 0.8, 0.84]
    assert drawn["layout"]["shapes"][0]["y0"] == 0.5
    assert drawn["layout"]["yaxis"]["range"][0] <= 0.45  # the interval of the first round is on the picture


def test_without_test_images_it_tells_how_much_the_answers_change() -> None:
    found = replace(FOUND, rounds=[point(1, None), point(2, None, 0.2, 10), point(3, None, 0.1, 20)])
    said = outcome(found)
    assert "In round 3, 10.0% of the answers" in said
    assert "no labelled images for testing" in said
    drawn = curve(found)
    assert drawn is not None
    assert drawn["data"][0]["y"] == [0.2, 0.1]
    assert "changed" in drawn["layout"]["title"]["text"]


@pytest.mark.parametrize("rounds", [[], [point(1, 0.5)], [point(1, None)], [point(1, None), point(2, None, 0.5)]])
def test_one_point_is_no_curve(rounds: list[RoundProgress]) -> None:
    found = replace(FOUND, rounds=rounds)
    assert curve(found) is None
    assert outcome(found)


def test_stopping_is_advice() -> None:
    found = replace(FOUND, rounds=[point(1, 0.5)], stop_hint="The last two rounds gained less than 0.5 points.")
    assert "gained less than 0.5 points. You may stop here." in outcome(found)
    assert "you decide" in outcome(found)
