"""Counts, the curve, the stop hint, what the model says of the pool, and the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from engines.errors import ConfigError, DataError
from engines.labelling import (
    LabelSettings,
    PoolAnswers,
    consensus,
    effective_labels,
    label_settings,
    newest_answers,
    pool_answers,
    progress,
    record,
    save_label_settings,
    save_pool_answers,
    suggestions,
    undo,
    unlabelled,
    wilson,
)
from engines.labelling.answers import imported_suggestions
from engines.store import Dataset, Occasion, Sample, Verdict
from tests.labelling.conftest import Clinic, event


def answers(clinic: Clinic, images: list[int], rows: list[list[float]]) -> PoolAnswers:
    return PoolAnswers(
        np.array([clinic.samples[n] for n in images], np.int64),
        np.array(rows, np.float32),
        np.array(list(clinic.classes.values()), np.int64),
    )


def test_before_anything_has_happened(clinic: Clinic) -> None:
    found = progress(clinic.workspace, clinic.id)
    assert (found.number, found.round_id, found.budget, found.done, found.left) == (0, None, 0, 0, 0)
    assert (found.labelled, found.pool_left, found.rounds, found.stop_hint) == (0, 6, [], "")
    assert found.missing == ["a", "b", "c"]
    assert [each.predicted for each in found.classes] == [None] * 3
    with pytest.raises(DataError):
        progress(clinic.workspace, 99)


def test_counts_of_a_round(clinic: Clinic) -> None:
    round_id = clinic.add_round([0, 1, 2, 3, 4], readers=[1])
    for image, said in enumerate(["a", "b", "unsure", "skip"]):
        clinic.say(image, said, round_id=round_id)
    mine = progress(clinic.workspace, clinic.id, "ada")
    assert (mine.budget, mine.done, mine.left, mine.labelled, mine.pool_left) == (5, 3, 2, 2, 3)
    assert (mine.unsure, mine.skipped, mine.flagged, mine.not_gradable) == (1, 1, 0, 0)
    assert [(each.name, each.labelled) for each in mine.classes] == [("a", 1), ("b", 1), ("c", 0)]
    assert mine.missing == ["c"]
    theirs = progress(clinic.workspace, clinic.id, "bob")
    assert (theirs.left, theirs.unsure) == (3, 0), "what was put off, what is left, and the one to be read twice"
    assert progress(clinic.workspace, clinic.id).left == 3
    clinic.say(1, "c", "bob", round_id=round_id)
    found = progress(clinic.workspace, clinic.id)
    assert (found.disputed, found.labelled, found.left) == (1, 1, 2)


def test_repeats_are_counted_apart(clinic: Clinic) -> None:
    round_id = clinic.add_round([0, 1], repeat=[0])
    for image in range(2):
        clinic.say(image, "a", round_id=round_id)
    found = progress(clinic.workspace, clinic.id, "ada")
    assert (found.done, found.left, found.repeats_left) == (2, 0, 1)
    clinic.say(0, "b", round_id=round_id, occasion=Occasion.REPEAT)
    assert progress(clinic.workspace, clinic.id, "ada").repeats_left == 0


def test_what_the_model_expects_in_the_rest_of_the_pool(clinic: Clinic) -> None:
    round_id = clinic.add_round([0, 1])
    rows = [[0.6, 0.4, 0], [0.2, 0.8, 0], [0.9, 0.1, 0], [0.3, 0.3, 0.4], [1, 0, 0]]
    save_pool_answers(clinic.workspace, clinic.id, round_id, answers(clinic, [0, 1, 2, 3, 4], rows))
    assert [each.predicted for each in progress(clinic.workspace, clinic.id).classes] == [3, 1, 1]
    clinic.say(2, "b")
    clinic.say(1, "unsure")
    assert [each.predicted for each in progress(clinic.workspace, clinic.id).classes] == [2, 0, 1]


SAID = st.sampled_from(["a", "b", "c", "unsure", "not_gradable", "skip", "flag", "undo"])
WHEN = st.sampled_from([Occasion.READING, Occasion.REVIEW, Occasion.ADJUDICATION, Occasion.IMPORT])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given_labels=st.lists(st.sampled_from([None, "a", "b"]), min_size=5, max_size=5),
    steps=st.lists(st.tuples(st.integers(0, 4), SAID, st.sampled_from(["ada", "bob"]), WHEN), max_size=12),
)
def test_counts_are_those_of_the_consensus(
    workspace_maker: Callable[[], Any],
    given_labels: list[str | None],
    steps: list[tuple[int, str, str, Occasion]],
) -> None:
    """The quick way (counts at import, plus what was read) against walking through all images."""
    clinic = workspace_maker()
    with clinic.workspace.session() as session:
        for image, label in enumerate(given_labels):
            class_id = clinic.classes.get(label or "")
            split = "pool" if label is None else ("train", "test")[image % 2]
            changed = update(Sample).where(Sample.id == clinic.samples[image])
            session.execute(changed.values(class_id=class_id, split=split))
    for image, what, reader, occasion in steps:
        if what == "undo":
            undo(clinic.workspace, clinic.id, reader, event())
        else:
            clinic.say(image, what, reader, occasion=occasion, seen=10**9)
    found = progress(clinic.workspace, clinic.id)
    with clinic.workspace.session() as session:
        labels = effective_labels(session, clinic.id)
        learned = set(session.scalars(select(Sample.id).where(Sample.split != "test")))
        left = unlabelled(session, clinic.id)
        disputed = sum(each.disputed for each in consensus(session, clinic.id).values())
    for each in found.classes:
        assert each.labelled == sum(c == each.class_id for s, c in labels.items() if s in learned)
    assert (found.labelled, found.pool_left) == (len(labels.keys() & learned), len(left))
    assert found.disputed == disputed


@pytest.fixture
def workspace_maker(make_clinic: Callable[..., Clinic]) -> Callable[[], Clinic]:
    numbers = iter(range(10**6))
    return lambda: make_clinic(images=5, name=f"set {next(numbers)}")


def curve(clinic: Clinic, *summaries: dict[str, Any]) -> str:
    for summary in summaries:
        clinic.add_round([0], summary=summary)
    return progress(clinic.workspace, clinic.id).stop_hint


@pytest.mark.parametrize(
    ("accuracies", "hint"),
    [
        ([0.70], False),
        ([0.70, 0.701], False),
        ([0.70, 0.702, 0.704], True),
        ([0.70, 0.80, 0.802], False),
        ([0.70, 0.69, 0.72], False),
        ([0.70, 0.72, 0.70], False),
        ([0.5, 0.70, 0.69, 0.68], True),
        ([0.70, None, 0.702, 0.703], True),
    ],
)
def test_stop_hint_of_the_curve(clinic: Clinic, accuracies: list[float | None], hint: bool) -> None:
    told = curve(clinic, *({"accuracy": accuracy} for accuracy in accuracies))
    assert told == ("The last two rounds gained less than 0.5 points." if hint else "")


def test_stop_hint_without_test_images(clinic: Clinic) -> None:
    assert curve(clinic, {"change": None}, {"change": 0.2}, {"change": 0.004}) == ""
    assert "fewer than 1 in 100 answers" in curve(clinic, {"change": 0.002})


def test_stop_hint_when_the_pool_is_used_up(clinic: Clinic) -> None:
    clinic.add_round(list(range(6)))
    for image in range(6):
        assert progress(clinic.workspace, clinic.id).stop_hint == ""
        clinic.say(image, "a")
    assert "Every image of the pool has been read" in progress(clinic.workspace, clinic.id).stop_hint


def test_the_curve_has_all_that_was_measured(clinic: Clinic) -> None:
    summary = {"labelled": 8, "accuracy": 0.75, "accuracy_interval": [0.6, 0.85], "zero_shot": 0.5, "change": 0.1}
    clinic.add_round([0, 1, 2], summary=summary, predicted={0: clinic.classes["a"], 1: clinic.classes["a"]})
    clinic.add_round([3], summary={"labelled": 9, "accuracy": None, "accuracy_interval": [None, None]})
    clinic.say(0, "a")
    clinic.say(1, "b")
    clinic.say(2, "b")
    first, second = progress(clinic.workspace, clinic.id).rounds
    assert (first.number, first.labelled, first.accuracy, first.interval) == (1, 8, 0.75, (0.6, 0.85))
    assert (first.zero_shot, first.change, first.strategy, first.surprises) == (0.5, 0.1, "entropy", 0.5)
    assert (second.number, second.accuracy, second.interval, second.surprises) == (2, None, None, None)


@pytest.mark.parametrize(
    ("right", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)]
)
def test_wilson_interval(right: int, of: int, low: float, high: float) -> None:
    # 81 of 263: Newcombe, Statistics in Medicine 1998, table I, method 3.
    assert wilson(right, of) == pytest.approx((low, high), abs=5e-5)
    assert wilson(0, 0) is None


def test_answers_are_kept_whole_or_not_at_all(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    round_id = clinic.add_round([0])
    assert pool_answers(clinic.workspace, round_id) is None
    assert pool_answers(clinic.workspace, 999) is None
    kept = answers(clinic, [3, 0], [[0.5, 0.25, 0.25], [0, 1, 0]])
    file = save_pool_answers(clinic.workspace, clinic.id, round_id, kept)
    found = pool_answers(clinic.workspace, round_id)
    assert found is not None
    for name in ("samples", "probabilities", "classes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(kept, name))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space"):
            save_pool_answers(clinic.workspace, clinic.id, round_id, answers(clinic, [1], [[1, 0, 0]]))
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    again = pool_answers(clinic.workspace, round_id)
    assert again is not None
    assert len(again.samples) == 2, "the older ones are still there"
    with pytest.raises(ValueError, match="do not fit"):
        save_pool_answers(clinic.workspace, clinic.id, round_id, answers(clinic, [1, 2], [[1, 0, 0]]))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_damaged_answers_are_none(clinic: Clinic, damage: str) -> None:
    older, newer = clinic.add_round([0]), clinic.add_round([1])
    save_pool_answers(clinic.workspace, clinic.id, older, answers(clinic, [0], [[1, 0, 0]]))
    file = save_pool_answers(clinic.workspace, clinic.id, newer, answers(clinic, [1], [[1, 0, 0]]))
    content = bytearray(file.read_bytes())
    middle = content.index(np.float32(1).tobytes())
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    file.write_bytes({"cut": content[:-40], "flipped": flipped, "empty": b"", "text": b"damaged"}[damage])
    assert pool_answers(clinic.workspace, newer) is None
    found = newest_answers(clinic.workspace, clinic.id)
    assert found is not None
    assert found.samples.tolist() == [clinic.samples[0]], "those of the round before are the newest then"
    assert progress(clinic.workspace, clinic.id).classes[0].predicted == 1


def test_suggestions_of_the_newest_model_and_of_files(clinic: Clinic) -> None:
    older, newer = clinic.add_round([0]), clinic.add_round([1])
    save_pool_answers(clinic.workspace, clinic.id, older, answers(clinic, [0, 1, 2], [[1, 0, 0]] * 3))
    rows = [[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]
    save_pool_answers(clinic.workspace, clinic.id, newer, answers(clinic, [2, 0], rows))
    a, b, c = clinic.classes.values()
    wanted = clinic.samples[:4]
    found = suggestions(clinic.workspace, clinic.id, wanted, top=2)
    assert list(found) == [wanted[0], wanted[2]]
    assert [class_id for class_id, _ in found[wanted[2]]] == [b, c]
    assert [share for _, share in found[wanted[0]]] == pytest.approx([0.7, 0.2])
    assert suggestions(clinic.workspace, clinic.id, []) == {}
    told: list[tuple[int, str, str, dict[str, Any]]] = [
        (0, "a", "registry", {"probability": 0.4}),
        (3, "a", "registry", {}),
        (3, "b", "model 7", {"probability": 1}),
        (3, "c", "registry", {"probability": "high"}),
    ]
    for image, name, source, aids in told:
        how = {"verdict": Verdict.SUGGESTION, "occasion": Occasion.IMPORT, "aids": aids}
        record(clinic.workspace, clinic.entry(image, name, source, **how))
    files = imported_suggestions(clinic.workspace, clinic.id, wanted)
    assert files == imported_suggestions(clinic.workspace, clinic.id)
    assert files == {wanted[0]: [("registry", a, 0.4)], wanted[3]: [("registry", c, None), ("model 7", b, 1.0)]}
    assert imported_suggestions(clinic.workspace, clinic.id, wanted[:1]) == {wanted[0]: files[wanted[0]]}
    assert imported_suggestions(clinic.workspace, clinic.id, []) == {}
    assert list(suggestions(clinic.workspace, clinic.id, wanted)) == [wanted[0], wanted[2]]


def test_settings_stay_with_the_data_set(clinic: Clinic) -> None:
    assert label_settings(clinic.workspace, clinic.id) == LabelSettings()
    chosen = LabelSettings(strategy="margin", balanced=False, budget=7, blind=False, second_share=0.25)
    save_label_settings(clinic.workspace, clinic.id, chosen)
    assert label_settings(clinic.workspace, clinic.id) == chosen
    with clinic.workspace.session() as session:
        dataset = session.get_one(Dataset, clinic.id)
        dataset.labelling = {**dataset.labelling, "budget": -3, "from a newer program": 1}
    assert label_settings(clinic.workspace, clinic.id) == chosen.model_copy(update={"budget": 20})
    with pytest.raises(ConfigError, match="budget"):
        save_label_settings(clinic.workspace, clinic.id, chosen.model_copy(update={"budget": 0}))
    with pytest.raises(DataError):
        label_settings(clinic.workspace, 99)
