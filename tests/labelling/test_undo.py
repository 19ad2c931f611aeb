"""Undo and redo over the whole session, against a model in memory that knows nothing of the log."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engines.errors import DataError
from engines.labelling import (
    Change,
    OvertakenError,
    check_chain,
    history,
    record,
    redo,
    standing,
    undo,
    undoable,
)
from engines.store import Annotation, Occasion, Verdict, Workspace
from tests.labelling.conftest import Clinic, event


def said(clinic: Clinic, reader: str = "ada") -> dict[int, str]:
    """Image number -> class name or verdict, as it stands."""
    names = {class_id: name for name, class_id in clinic.classes.items()}
    return {
        clinic.samples.index(sample_id): names[each.class_id] if each.class_id else each.verdict.value
        for sample_id, each in standing(clinic.workspace, clinic.id, reader).items()
    }


def step(clinic: Clinic, which: Callable[..., Change | None], reader: str = "ada", times: int = 1) -> list[Any]:
    return [which(clinic.workspace, clinic.id, reader, event()) for _ in range(times)]


def test_ten_back_and_ten_again(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(images=10)
    for image in range(10):
        clinic.say(image, "abc"[image % 3])
    before = said(clinic)
    back = step(clinic, undo, times=11)
    assert [each.left for each in back[:10]] == list(range(9, -1, -1))
    assert (back[10], said(clinic)) == (None, {})
    again = step(clinic, redo, times=11)
    assert [clinic.samples.index(each.sample_id) for each in again[:10]] == list(range(10))
    assert (again[10], said(clinic)) == (None, before)
    assert len(history(clinic.workspace, clinic.id, limit=100)) == 30
    assert check_chain(clinic.workspace).broken is None


def test_a_correction_can_be_taken_back_to_what_was_said_before(clinic: Clinic) -> None:
    first = clinic.say(0, "a")
    clinic.say(1, "unsure")
    clinic.say(0, "not_gradable", occasion=Occasion.REVIEW, seen=first.id)
    (change,) = step(clinic, undo)
    assert (change.sample_id, change.verdict, change.left) == (clinic.samples[0], Verdict.NOT_GRADABLE, 2)
    assert said(clinic) == {0: "a", 1: "unsure"}
    step(clinic, undo)
    assert said(clinic) == {0: "a"}


def test_a_new_verdict_ends_redoing(clinic: Clinic) -> None:
    clinic.say(0, "a")
    clinic.say(1, "b")
    step(clinic, undo, times=2)
    assert undoable(clinic.workspace, clinic.id, "ada") == (0, 2)
    clinic.say(2, "c")
    assert step(clinic, redo) == [None]
    assert said(clinic) == {2: "c"}


def test_redo_puts_back_all_that_was_said(clinic: Clinic) -> None:
    round_id = clinic.add_round([0])
    clinic.say(0, "flag", comment="wrong stain", round_id=round_id, model="run1", aids={"blind": False}, seconds=9)
    step(clinic, undo)
    step(clinic, redo)
    newest, taken_back, first = history(clinic.workspace, clinic.id)
    assert (taken_back.verdict, taken_back.refers_to) == (Verdict.UNDO, first.id)
    assert newest.refers_to == first.id
    for name in ("verdict", "class_id", "comment", "occasion", "round_id", "model", "aids", "annotator"):
        assert getattr(newest, name) == getattr(first, name), name
    assert newest.seconds is None, "nobody looked at the image a second time"


def test_the_step_that_was_sent_twice_is_one_step(clinic: Clinic) -> None:
    for image in range(3):
        clinic.say(image, "a")
    name = event()
    first = undo(clinic.workspace, clinic.id, "ada", name)
    assert undo(clinic.workspace, clinic.id, "ada", name) == first
    assert len(said(clinic)) == 2
    with pytest.raises(DataError, match="same event name"):
        redo(clinic.workspace, clinic.id, "ada", name)


def test_two_windows_taking_back_the_same_verdict(clinic: Clinic) -> None:
    clinic.say(0, "a")
    newest = clinic.say(1, "b").id
    assert undo(clinic.workspace, clinic.id, "ada", event(), of=newest) is not None
    with pytest.raises(OvertakenError, match="Already taken back in another window"):
        undo(clinic.workspace, clinic.id, "ada", event(), of=newest)
    assert said(clinic) == {0: "a"}, "the second window saw one verdict and takes back none"
    assert redo(clinic.workspace, clinic.id, "ada", event(), of=newest) is not None
    with pytest.raises(OvertakenError, match="Not put back"):
        redo(clinic.workspace, clinic.id, "ada", event(), of=newest)
    assert said(clinic) == {0: "a", 1: "b"}
    assert len(history(clinic.workspace, clinic.id)) == 4


def test_an_answer_that_got_lost_is_given_again_even_where_another_window_went_on(clinic: Clinic) -> None:
    newest = clinic.say(0, "a").id
    name = event()
    first = undo(clinic.workspace, clinic.id, "ada", name, of=newest)
    clinic.say(0, "b")
    again = undo(clinic.workspace, clinic.id, "ada", name, of=newest)
    assert first is not None
    assert again is not None
    assert (again.id, again.refers_to) == (first.id, newest)
    assert said(clinic) == {0: "b"}


def test_a_window_that_knows_only_the_older_verdict_takes_nothing_back(clinic: Clinic) -> None:
    older = clinic.say(0, "a").id
    newer = clinic.say(0, "b", seen=older).id
    clinic.say(1, "c")
    with pytest.raises(OvertakenError, match="something newer of that image"):
        undo(clinic.workspace, clinic.id, "ada", event(), of=older)
    assert undo(clinic.workspace, clinic.id, "ada", event(), of=newer) is not None, "what it shows, though not the last"
    assert said(clinic) == {0: "a", 1: "c"}


def test_what_another_window_labelled_since_ends_redoing_here(clinic: Clinic) -> None:
    first = clinic.say(0, "a").id
    step(clinic, undo)
    clinic.say(1, "b")
    for which, words in ((redo, "Not put back"), (undo, "Already taken back")):
        with pytest.raises(OvertakenError, match=words):
            which(clinic.workspace, clinic.id, "ada", event(), of=first)
    assert said(clinic) == {1: "b"}


def test_nobody_takes_back_what_another_said(clinic: Clinic) -> None:
    clinic.say(0, "a")
    clinic.say(1, "b", "bob")
    step(clinic, undo, "ada")
    assert said(clinic, "bob") == {1: "b"}
    assert step(clinic, undo, "ada") == [None]
    assert step(clinic, redo, "bob") == [None]


def test_what_came_in_a_file_is_not_undone(clinic: Clinic) -> None:
    clinic.say(0, "a", occasion=Occasion.IMPORT)
    assert step(clinic, undo) == [None]
    clinic.say(1, "b")
    step(clinic, undo)
    clinic.say(2, "c", occasion=Occasion.IMPORT)
    assert undoable(clinic.workspace, clinic.id, "ada") == (0, 1), "and it does not end redoing"


def test_an_undo_of_an_older_program_takes_back_the_newest_on_its_image(clinic: Clinic) -> None:
    clinic.say(0, "a")
    clinic.say(1, "b")
    with clinic.workspace.session() as session:
        session.add(Annotation(sample_id=clinic.samples[0], verdict=Verdict.UNDO, annotator="ada"))
    assert said(clinic) == {1: "b"}
    assert undoable(clinic.workspace, clinic.id, "ada") == (1, 1)


def test_it_survives_a_restart(clinic: Clinic) -> None:
    clinic.say(0, "a")
    clinic.say(1, "b")
    step(clinic, undo)
    clinic.workspace.close()
    clinic.workspace = Workspace.open(clinic.workspace.path)
    assert undoable(clinic.workspace, clinic.id, "ada") == (1, 1)
    step(clinic, redo)
    assert said(clinic) == {0: "a", 1: "b"}
    clinic.workspace.close()


READERS = ("ada", "bob")
IMAGES = 2
OCCASIONS = (Occasion.READING, Occasion.READING, Occasion.REVIEW, Occasion.REPEAT, Occasion.ADJUDICATION)


@dataclass
class Given:
    """A verdict in the model: what a person would say has happened."""

    image: int
    said: str
    occasion: Occasion
    row: int
    """Id of the row that stands for it now."""

    @property
    def purpose(self) -> Occasion:
        return Occasion.READING if self.occasion is Occasion.REVIEW else self.occasion


@dataclass
class Memory:
    done: list[Given] = field(default_factory=list)
    undone: list[Given] = field(default_factory=list)

    def newest(self, image: int, purpose: Occasion) -> Given | None:
        found = [each for each in self.done if (each.image, each.purpose) == (image, purpose)]
        return max(found, key=lambda each: each.row) if found else None


class Sessions(RuleBasedStateMachine):
    """Two readers label, correct, undo and redo in any order, in windows that know or do not know of each other."""

    folder: Path
    template: Path

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="labelling-"))
        shutil.copytree(self.template, self.folder / "workspace")
        self.clinic = Clinic(Workspace.open(self.folder / "workspace"), images=IMAGES, classes="ab")
        self.memory = {reader: Memory() for reader in READERS}
        self.rows = 0

    def teardown(self) -> None:
        if hasattr(self, "clinic"):
            self.clinic.workspace.close()
            shutil.rmtree(self.folder)

    @rule(
        reader=st.sampled_from(READERS),
        image=st.integers(0, IMAGES - 1),
        what=st.sampled_from(["a", "b", "unsure", "skip"]),
        occasion=st.sampled_from(OCCASIONS),
        knows=st.booleans(),
        twice=st.booleans(),
    )
    def give(self, reader: str, image: int, what: str, occasion: Occasion, knows: bool, twice: bool) -> None:
        memory = self.memory[reader]
        before = memory.newest(image, Occasion.READING if occasion is Occasion.REVIEW else occasion)
        seen = before.row if before is not None and knows else None
        entry = self.clinic.entry(image, what, reader, occasion=occasion, seen=seen)
        receipt = record(self.clinic.workspace, entry)
        if before is None or knows:
            assert (receipt.doubled, receipt.conflict) == (False, None)
            self.rows += 1
            memory.done.append(Given(image, what, occasion, receipt.id))
            memory.undone.clear()
            if twice:
                assert record(self.clinic.workspace, entry).doubled
        else:
            assert receipt.id == before.row
            assert receipt.doubled == (before.said == what)
            assert (receipt.conflict is not None) == (before.said != what)

    @rule(reader=st.sampled_from(READERS), twice=st.booleans())
    def back(self, reader: str, twice: bool) -> None:
        memory, name = self.memory[reader], event()
        change = undo(self.clinic.workspace, self.clinic.id, reader, name)
        if not memory.done:
            assert change is None
            return
        given = memory.done.pop()
        memory.undone.append(given)
        self.rows += 1
        assert change is not None
        assert (change.sample_id, change.refers_to) == (self.clinic.samples[given.image], given.row)
        assert change.left == len(memory.done)
        if twice:
            assert undo(self.clinic.workspace, self.clinic.id, reader, name) == change

    @rule(reader=st.sampled_from(READERS))
    def again(self, reader: str) -> None:
        memory = self.memory[reader]
        change = redo(self.clinic.workspace, self.clinic.id, reader, event())
        if not memory.undone:
            assert change is None
            return
        given = memory.undone.pop()
        self.rows += 1
        assert change is not None
        assert (change.sample_id, change.left) == (self.clinic.samples[given.image], len(memory.undone))
        given.row = change.id
        memory.done.append(given)

    @precondition(lambda self: self.rows > 3)
    @rule()
    def restart(self) -> None:
        self.clinic.workspace.close()
        self.clinic.workspace = Workspace.open(self.folder / "workspace")

    @invariant()
    def as_remembered(self) -> None:
        for reader in READERS:
            memory = self.memory[reader]
            newest = {image: memory.newest(image, Occasion.READING) for image in range(IMAGES)}
            assert said(self.clinic, reader) == {image: each.said for image, each in newest.items() if each}
            counts = (len(memory.done), len(memory.undone))
            assert undoable(self.clinic.workspace, self.clinic.id, reader) == counts
        chain = check_chain(self.clinic.workspace)
        assert (chain.rows, chain.broken) == (self.rows, None)


def test_any_sequence_is_as_remembered(empty_workspace: Path) -> None:
    class Here(Sessions):
        template = empty_workspace

    quick = settings(max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Here, settings=quick)
