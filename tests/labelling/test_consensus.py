"""One label an image: adjudication, then a majority of readers, then imported labels, then what it came with."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest
from sqlalchemy import update

from engines.data import draw_few_shot
from engines.errors import DataError
from engines.labelling import consensus, effective_labels, record, redo, undo, unlabelled
from engines.labelling.consensus import majority
from engines.store import Occasion, Sample
from tests.labelling.conftest import Clinic, event


def given(clinic: Clinic, image: int, label: str, split: str = "train") -> None:
    with clinic.workspace.session() as session:
        changed = update(Sample).where(Sample.id == clinic.samples[image])
        session.execute(changed.values(class_id=clinic.classes[label], split=split))


def labels(clinic: Clinic) -> dict[int, str]:
    names = {class_id: name for name, class_id in clinic.classes.items()}
    with clinic.workspace.session() as session:
        found = effective_labels(session, clinic.id)
        detail = consensus(session, clinic.id)
    assert found == {sample: each.class_id for sample, each in detail.items() if each.class_id is not None}
    return {clinic.samples.index(sample): names[class_id] for sample, class_id in found.items()}


def by(clinic: Clinic, image: int) -> tuple[str, bool, int]:
    with clinic.workspace.session() as session:
        found = consensus(session, clinic.id)[clinic.samples[image]]
    return found.by, found.disputed, found.readers


READERS = ("ada", "bob", "cem", "dan")


@pytest.mark.parametrize(
    ("votes", "label", "disputed"),
    [
        (["b"], "b", False),
        (["b", "b"], "b", False),
        (["a", "b"], "c", True),
        (["a", "b", "b"], "b", False),
        (["a", "b", "c"], "c", True),
        (["a", "a", "b", "c"], "c", True),
        (["not_gradable"], None, False),
        (["not_gradable", "b"], "c", True),
        (["not_gradable", "not_gradable", "b"], None, False),
        (["b", "unsure"], "b", False),
        (["b", "skip", "flag"], "b", False),
        (["unsure"], "c", False),
        (["skip", "flag"], "c", False),
    ],
)
def test_majority_of_readers_over_the_given_label(
    clinic: Clinic, votes: list[str], label: str | None, disputed: bool
) -> None:
    given(clinic, 0, "c")
    for reader, vote in zip(READERS, votes, strict=False):
        clinic.say(0, vote, reader)
    assert labels(clinic).get(0) == label
    source, is_disputed, readers = by(clinic, 0)
    assert is_disputed == disputed
    assert readers == sum(vote in ("a", "b", "c", "not_gradable") for vote in votes)
    assert source == ("given" if label == "c" else "readers")


def test_the_order_of_votes_does_not_matter() -> None:
    for votes in ([1, 2, 2, None], [1, 1, None], [1, 2, 3], [None, None, 1], [1, 1, 2, 2, 1]):
        found = {majority(list(order)) for order in permutations(votes)}
        assert len(found) == 1


def test_adjudication_is_the_last_word(clinic: Clinic) -> None:
    for image in range(3):
        clinic.say(image, "a")
        clinic.say(image, "a", "bob")
    clinic.say(0, "b", "cem", occasion=Occasion.ADJUDICATION)
    clinic.say(1, "not_gradable", "cem", occasion=Occasion.ADJUDICATION)
    clinic.say(2, "skip", "cem", occasion=Occasion.ADJUDICATION)
    assert labels(clinic) == {0: "b", 2: "a"}
    assert by(clinic, 1) == ("adjudication", False, 2)
    clinic.say(0, "c", "dan", occasion=Occasion.ADJUDICATION)
    assert labels(clinic)[0] == "c"
    undo(clinic.workspace, clinic.id, "dan", event())
    assert labels(clinic)[0] == "b"
    redo(clinic.workspace, clinic.id, "dan", event())
    assert labels(clinic)[0] == "c"


def test_imported_labels_come_between_readers_and_given_ones(clinic: Clinic) -> None:
    given(clinic, 0, "c")
    clinic.say(0, "a", "file", occasion=Occasion.IMPORT)
    assert (labels(clinic), by(clinic, 0)[0]) == ({0: "a"}, "import")
    clinic.say(0, "b", "newer file", occasion=Occasion.IMPORT)
    assert labels(clinic) == {0: "b"}
    clinic.say(0, "a")
    assert (labels(clinic), by(clinic, 0)[0]) == ({0: "a"}, "readers")
    clinic.say(0, "c", "bob")
    assert (labels(clinic), by(clinic, 0)) == ({0: "b"}, ("import", True, 2))


def test_what_never_counts(clinic: Clinic) -> None:
    round_id = clinic.add_round([0], repeat=[0])
    clinic.say(0, "a", round_id=round_id)
    clinic.say(0, "b", occasion=Occasion.REPEAT, round_id=round_id)
    suggested = clinic.entry(1, "b", "file", occasion=Occasion.IMPORT, verdict="suggestion")
    record(clinic.workspace, suggested)
    assert labels(clinic) == {0: "a"}


def test_a_reader_counts_once_with_what_was_said_last(clinic: Clinic) -> None:
    first = clinic.say(0, "a").id
    clinic.say(0, "b", occasion=Occasion.REVIEW, seen=first)
    clinic.say(0, "b", "bob")
    assert by(clinic, 0) == ("readers", False, 2)
    undo(clinic.workspace, clinic.id, "ada", event())
    assert by(clinic, 0) == ("", True, 2)
    undo(clinic.workspace, clinic.id, "ada", event())
    assert by(clinic, 0) == ("readers", False, 1)


def test_labels_are_in_order_of_position(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(images=30)
    for image in (20, 3, 11, 7):
        clinic.say(image, "a")
    given(clinic, 5, "b")
    assert list(labels(clinic)) == [3, 5, 7, 11, 20]


def test_what_may_still_be_asked_about(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(images=10)
    given(clinic, 0, "a")
    given(clinic, 1, "a", split="test")
    for image, verdict in enumerate(["a", "unsure", "not_gradable", "flag", "skip"], start=2):
        clinic.say(image, verdict)
    clinic.say(7, "a", "file", occasion=Occasion.IMPORT)
    for reader, vote in zip(READERS, "ab", strict=False):
        clinic.say(8, vote, reader)
    with clinic.workspace.session() as session:
        assert unlabelled(session, clinic.id) == [clinic.samples[6], clinic.samples[9]]


def test_training_takes_the_consensus(clinic: Clinic) -> None:
    clinic.say(0, "a")
    clinic.say(0, "b", "bob")
    with pytest.raises(DataError, match="no labelled images"):
        draw_few_shot(clinic.workspace, clinic.id, 1, 1)
    clinic.say(0, "b", "cem")
    assert draw_few_shot(clinic.workspace, clinic.id, 1, 1).train == [clinic.samples[0]]
