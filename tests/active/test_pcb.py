"""The balanced pick: which class comes next, what happens when one runs out."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from engines.active import corrected_pcb, official_pcb, pick, select
from tests.active.pools import MadeUp, made_up


def test_the_official_rule_stops_balancing_when_the_rarest_class_runs_out() -> None:
    candidates, predicted = list(range(30)), [0] * 20 + [1] * 10
    result = official_pcb(candidates, predicted, [5, 5, 0], 12, Random(1))
    assert result.fills == [None] * 12
    assert result.counts.tolist() == [5, 5, 0]


def test_the_corrected_rule_goes_on() -> None:
    candidates, predicted = list(range(30)), [0] * 20 + [1] * 10
    result = corrected_pcb(candidates, predicted, [5, 8, 0], 9)
    assert result.fills == [0, 0, 0, 0, 1, 0, 1, 0, 1]
    assert result.picks == [0, 1, 2, 3, 20, 4, 21, 5, 22]
    assert result.counts.tolist() == [11, 11, 0]


def test_ties_go_to_the_best_ranked_candidate() -> None:
    result = corrected_pcb([7, 3, 9, 4], [2, 0, 1, 2], [0, 0, 0], 4)
    assert result.picks == [7, 3, 9, 4]
    assert result.fills == [2, 0, 1, 2]


def test_a_class_without_candidates_is_sought_further_down() -> None:
    asked = []

    def extend(wanted: int, chosen: set[int]) -> int | None:
        asked.append((wanted, sorted(chosen)))
        return 99 if len(asked) == 1 else None

    result = corrected_pcb([1, 2, 3], [0, 0, 0], [1, 0], 3, extend)
    assert result.picks == [99, 1, 2]
    assert result.fills == [1, 0, 0]
    assert asked == [(1, []), (1, [1, 99])]


def test_fewer_candidates_than_asked_for() -> None:
    assert sorted(official_pcb([4, 5], [0, 0], [0, 0], 9, Random(1)).picks) == [4, 5]
    assert corrected_pcb([4, 5], [0, 0], [0, 0], 9).picks == [4, 5]
    assert official_pcb([], [], [0, 0], 9, Random(1)).picks == []


def test_counts_are_not_changed_in_place() -> None:
    counts = np.zeros(2)
    official_pcb([1, 2], [0, 1], counts, 2, Random(1))
    corrected_pcb([1, 2], [0, 1], counts, 2)
    assert counts.tolist() == [0, 0]


def rare_class_pool() -> tuple[np.ndarray, np.ndarray]:
    """A hundred images; the model doubts the first eighty (classes 0, 1) and is sure of the last twenty (class 2)."""
    probabilities = np.zeros((100, 3))
    probabilities[:40] = [0.5, 0.4, 0.1]
    probabilities[40:80] = [0.4, 0.5, 0.1]
    probabilities[80:] = [0.01, 0.01, 0.98]
    return np.eye(100, 128, dtype=np.float32), probabilities


@pytest.mark.parametrize("base", ["entropy", "margin", "badge", "coreset", "random"])
def test_a_rare_class_outside_the_candidates_is_found_all_the_same(base: str) -> None:
    features, probabilities = rare_class_pool()
    options = {"labels": [0, 1, 0, 1], "candidates": 8}
    picks = select(f"pcb-{base}", features, probabilities, [0, 40, 1, 41], 6, **options)  # type: ignore[arg-type]
    counts = np.bincount(probabilities.argmax(axis=1)[picks], minlength=3) + np.array([2, 2, 0])
    assert sorted(counts.tolist()) == [3, 3, 4]


def test_reasons_name_the_class_that_is_filled() -> None:
    features, probabilities = rare_class_pool()
    picks = pick("pcb-entropy", features, probabilities, [0, 40, 1], 4, labels=[0, 1, 0])
    assert [chosen.reason.fills for chosen in picks][:2] == [2, 1]  # then all have one label more or less
    assert [chosen.reason.rarest for chosen in picks][:2] == [True, True]
    names = ["lymphocyte", "monocyte", "eosinophil"]
    assert (
        picks[0].reason.sentence(names).startswith("the rarest class so far: eosinophil; the model is unsure: 0.98 eo")
    )


def test_official_picks_beside_the_rule_name_no_class() -> None:
    features, probabilities = rare_class_pool()
    options = {"labels": [0, 1], "candidates": 8, "rule": "official"}
    picks = pick("pcb-entropy", features, probabilities, [0, 40], 4, **options)  # type: ignore[arg-type]
    assert [chosen.reason.fills for chosen in picks] == [None] * 4


def words_for(pool: MadeUp) -> np.ndarray:
    """[4, D] words that know the labelled images of three classes, and a fourth that has none."""
    known = [pool.features[pool.labelled][pool.labels == label].mean(axis=0) for label in range(3)]
    return np.stack([*known, np.random.default_rng(0).standard_normal(16)])


@pytest.mark.parametrize("useless", ["always the same", "chance"])
def test_words_that_do_not_know_the_labelled_images_are_not_followed(useless: str) -> None:
    pool = made_up(size=80, classes=3)
    probabilities = np.column_stack([pool.probabilities, np.zeros(len(pool.features))])
    words = words_for(pool)
    if useless == "always the same":
        words[:3] = -pool.features[pool.labelled].mean(axis=0)
        words[3] = pool.features[pool.labelled].mean(axis=0)
    else:
        words[:3] = words[[1, 2, 0]]
    picks = [
        select("pcb-entropy", pool.features, probabilities, pool.labelled, 6, labels=pool.labels, class_features=given)
        for given in (words, None)
    ]
    assert picks[0] == picks[1]
    told = select(
        "pcb-entropy",
        pool.features,
        probabilities,
        pool.labelled,
        6,
        labels=pool.labels,
        class_features=words_for(pool),
    )
    assert told != picks[0]


def test_a_class_that_nothing_looks_like_is_sought_by_its_words() -> None:
    """Once a round; the rest of the budget stays with the classes that the model does see."""
    pool = made_up(size=80, classes=3)
    probabilities = np.column_stack([pool.probabilities, np.zeros(len(pool.features))])
    words = words_for(pool)
    options = {"labels": pool.labels, "class_features": words}
    picks = pick("pcb-entropy", pool.features, probabilities, pool.labelled, 6, **options)
    by_words = [chosen for chosen in picks if chosen.reason.kind == "words"]
    assert len(by_words) == 1
    assert by_words[0].reason.fills == 3
    likeness = pool.features @ words[3]
    likeness[pool.labelled] = -np.inf
    assert by_words[0].index == int(likeness.argmax())
    assert "no image looks like basophil" in by_words[0].reason.sentence(["a", "b", "c", "basophil"])
    without = select("pcb-entropy", pool.features, probabilities, pool.labelled, 6, labels=pool.labels)
    assert len(set(without)) == 6
