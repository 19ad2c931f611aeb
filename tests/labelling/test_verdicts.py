"""Keeping verdicts: complete, once, checked, and never over what somebody said elsewhere."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from engines.data import empty_bin, remove_dataset, restore_dataset
from engines.errors import DataError, WorkspaceError
from engines.labelling import (
    check_chain,
    history,
    record,
    record_all,
    redo,
    standing,
    undo,
)
from engines.store import Annotation, Occasion, Verdict, Workspace
from tests.labelling.conftest import Clinic, event


def test_labelling_starts_in_no_time() -> None:
    heavy = {"torch", "pandas", "sklearn", "scipy", "pyarrow", "open_clip", "cleanlab"}
    script = f"import sys, engines.labelling; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def count(workspace: Workspace) -> int:
    with workspace.session() as session:
        return session.scalar(select(func.count()).select_from(Annotation)) or 0


def test_everything_about_a_verdict_is_kept(clinic: Clinic) -> None:
    round_id = clinic.add_round([0])
    sent = clinic.entry(
        0,
        "b",
        "  Ada ",
        comment=" small\x07 nucleus ",
        round_id=round_id,
        seconds=3.25,
        aids={"blind": True},
        model="r1",
    )
    receipt = record(clinic.workspace, sent)
    (row,) = history(clinic.workspace, clinic.id)
    assert (row.id, row.event, row.sample_id) == (receipt.id, sent.event, clinic.samples[0])
    assert (row.verdict, row.class_id, row.annotator) == (Verdict.LABEL, clinic.classes["b"], "Ada")
    assert (row.comment, row.round_id, row.model) == ("small nucleus", round_id, "r1")
    assert (row.seconds, row.aids, row.occasion) == (3.25, {"blind": True}, Occasion.READING)
    assert row.program.startswith("promptloupe")
    assert len(row.chain) == 64
    assert standing(clinic.workspace, clinic.id, "Ada")[clinic.samples[0]].class_id == clinic.classes["b"]


def test_sent_twice_is_kept_once(clinic: Clinic) -> None:
    entry = clinic.entry(0, "a")
    first, again = record(clinic.workspace, entry), record(clinic.workspace, entry)
    assert (again.id, again.doubled, first.doubled) == (first.id, True, False)
    undo(clinic.workspace, clinic.id, "ada", event())
    assert record(clinic.workspace, entry).id == first.id, "a late copy does not undo the undo"
    assert standing(clinic.workspace, clinic.id, "ada") == {}
    with pytest.raises(DataError, match="same event name"):
        record(clinic.workspace, clinic.entry(1, "a", event=entry.event))


def test_another_window_of_the_same_reader(clinic: Clinic) -> None:
    first = clinic.say(0, "a")
    same = clinic.say(0, "a")
    assert (same.id, same.doubled, count(clinic.workspace)) == (first.id, True, 1)
    other = clinic.say(0, "b")
    assert other.conflict is not None
    assert (other.conflict.id, other.conflict.class_id) == (first.id, clinic.classes["a"])
    assert count(clinic.workspace) == 1, "nothing is written over what the window did not know"
    meant = clinic.say(0, "b", seen=other.conflict.id)
    assert meant.conflict is None
    late = clinic.say(0, "c", seen=first.id)
    assert late.conflict is not None
    assert (late.conflict.id, late.conflict.class_id) == (meant.id, clinic.classes["b"]), "the newest, not the first"
    assert clinic.say(0, "b").id == meant.id
    assert standing(clinic.workspace, clinic.id, "ada")[clinic.samples[0]].class_id == clinic.classes["b"]
    undo(clinic.workspace, clinic.id, "ada", event())
    undo(clinic.workspace, clinic.id, "ada", event())
    assert clinic.say(0, "c").conflict is None, "what was taken back is in nobody's way"


def test_a_comment_is_not_lost_as_a_repetition(clinic: Clinic) -> None:
    first = clinic.say(0, "flag", comment="out of focus")
    assert clinic.say(0, "flag", comment="out of focus").doubled
    assert clinic.say(0, "flag", comment="wrong patient").conflict is not None
    assert not clinic.say(0, "flag", comment="wrong patient", seen=first.id).doubled


def test_other_readers_are_told_not_disturbed(clinic: Clinic) -> None:
    clinic.say(0, "a")
    receipt = clinic.say(0, "b", "bob")
    assert (receipt.conflict, receipt.others) == (None, ["ada"])
    assert clinic.say(1, "b", "bob").others == []
    assert set(standing(clinic.workspace, clinic.id, "ada")) == {clinic.samples[0]}
    assert set(standing(clinic.workspace, clinic.id, "bob", [clinic.samples[1]])) == {clinic.samples[1]}


def test_occasions_do_not_get_in_each_others_way(clinic: Clinic) -> None:
    first, second = clinic.add_round([0], repeat=[0]), clinic.add_round([1])
    clinic.say(0, "a", round_id=first)
    assert clinic.say(0, "b", occasion=Occasion.REPEAT, round_id=first).conflict is None
    assert clinic.say(0, "a", occasion=Occasion.REPEAT, round_id=second).conflict is None
    assert clinic.say(0, "c", occasion=Occasion.ADJUDICATION).conflict is None
    assert clinic.say(0, "b", occasion=Occasion.REPEAT, round_id=first).doubled
    assert clinic.say(0, "b", occasion=Occasion.REVIEW).conflict is not None, "reading and looking up are one thing"
    assert standing(clinic.workspace, clinic.id, "ada")[clinic.samples[0]].class_id == clinic.classes["a"]


@pytest.mark.parametrize(
    ("said", "changes", "told"),
    [
        ("a", {"annotator": "  "}, "needs a reader"),
        ("a", {"annotator": "x" * 101}, "at most 100"),
        ("a", {"annotator": "\x1b[31mada"}, "cannot be shown"),
        ("a", {"sample_id": 10**6}, "not in the data set"),
        ("a", {"class_id": 10**6}, "no such class"),
        ("a", {"class_id": None}, "needs a class"),
        ("a", {"round_id": 10**6}, "no such round"),
        ("a", {"dataset_id": 10**6}, "no longer exists"),
        ("a", {"event": ""}, "event name"),
        ("a", {"event": "x" * 37}, "event name"),
        ("a", {"comment": "x" * 5001}, "at most 5,000"),
        ("a", {"aids": {"p": float("nan")}}, "cannot be kept"),
        ("a", {"model": "m" * 41}, "too long"),
        ("a", {"verdict": Verdict.SUGGESTION}, "come from files"),
        ("unsure", {"class_id": 1}, "Only a label"),
        ("flag", {"comment": " \x00 "}, "needs a comment"),
        ("unsure", {"verdict": Verdict.UNDO}, "not a verdict"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_words(clinic: Clinic, said: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told) as refused:
        record(clinic.workspace, clinic.entry(0, said).model_copy(update=changes))
    assert refused.value.remedy
    assert count(clinic.workspace) == 0


def test_images_and_classes_of_another_data_set(clinic: Clinic, make_clinic: Callable[..., Clinic]) -> None:
    other = make_clinic(name="fabric")
    for changes in ({"sample_id": other.samples[0]}, {"class_id": other.classes["a"]}):
        with pytest.raises(DataError):
            record(clinic.workspace, clinic.entry(0, "a").model_copy(update=changes))
    with pytest.raises(DataError, match="several data sets"):
        record_all(clinic.workspace, [clinic.entry(0, "a"), other.entry(0, "a")])


def test_a_clock_that_jumped_does_not_cost_the_verdict(clinic: Clinic) -> None:
    for image, seconds in enumerate((-3.0, float("nan"), float("inf"))):
        clinic.say(image, "a", seconds=seconds)
    assert [row.seconds for row in history(clinic.workspace, clinic.id)] == [None] * 3


def test_a_data_set_in_the_bin_takes_no_verdicts_and_loses_none(clinic: Clinic) -> None:
    clinic.say(0, "a")
    remove_dataset(clinic.workspace, clinic.id)
    for attempt in (
        lambda: clinic.say(1, "a"),
        lambda: undo(clinic.workspace, clinic.id, "ada", event()),
        lambda: redo(clinic.workspace, clinic.id, "ada", event()),
    ):
        with pytest.raises(DataError, match="in the bin"):
            attempt()
    restore_dataset(clinic.workspace, clinic.id)
    assert len(standing(clinic.workspace, clinic.id, "ada")) == 1


def test_many_at_once_are_kept_together_or_not_at_all(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(images=700)
    entries = [clinic.entry(n, "abc"[n % 3], occasion=Occasion.IMPORT) for n in range(700)]
    spoiled = [*entries, clinic.entry(0, "a").model_copy(update={"class_id": 10**6})]
    with pytest.raises(DataError):
        record_all(clinic.workspace, spoiled)
    assert count(clinic.workspace) == 0
    receipts = record_all(clinic.workspace, entries)
    assert [r.doubled for r in receipts] == [False] * 700
    assert [r.id for r in receipts] == sorted({r.id for r in receipts})
    assert [r.doubled for r in record_all(clinic.workspace, entries)] == [True] * 700
    fresh = [entry.model_copy(update={"event": event()}) for entry in entries]
    assert [r.id for r in record_all(clinic.workspace, fresh)] == [r.id for r in receipts], "the same file again"
    assert check_chain(clinic.workspace).rows == 700


def test_what_is_said_twice_within_one_batch(clinic: Clinic) -> None:
    one = clinic.entry(0, "a")
    batch = [one, one, clinic.entry(0, "a"), clinic.entry(0, "b"), clinic.entry(1, "a")]
    first, again, same, other, elsewhere = record_all(clinic.workspace, batch)
    assert (again.id, again.doubled, same.id, same.doubled) == (first.id, True, first.id, True)
    assert other.conflict is not None
    assert other.conflict.id == first.id
    assert elsewhere.id != first.id
    assert count(clinic.workspace) == 2
    imported = [clinic.entry(2, said, occasion=Occasion.IMPORT) for said in "ab"]
    assert [r.conflict for r in record_all(clinic.workspace, imported)] == [None, None], "the newest line counts"


def test_history_is_the_log_newest_first(clinic: Clinic) -> None:
    clinic.say(0, "a")
    clinic.say(1, "unsure", "bob")
    undo(clinic.workspace, clinic.id, "ada", event())
    log = history(clinic.workspace, clinic.id)
    assert [(row.annotator, row.verdict.value) for row in log] == [("ada", "undo"), ("bob", "unsure"), ("ada", "label")]
    assert [row.id for row in history(clinic.workspace, clinic.id, first=1, limit=1)] == [log[1].id]
    assert [row.id for row in history(clinic.workspace, clinic.id, "bob")] == [log[1].id]
    assert len(history(clinic.workspace, clinic.id, sample_id=clinic.samples[0])) == 2


# -- the chain ---------------------------------------------------------------------------------------------------------


def by_hand(clinic: Clinic, *statements: str) -> None:
    """Change the data base past the program, its trigger taken out of the way."""
    connection = sqlite3.connect(clinic.workspace.path / "workspace.db")
    connection.execute("DROP TRIGGER annotation_append_only")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE annotation SET class_id = 2 WHERE id = 3", 3),
        ("UPDATE annotation SET annotator = 'bob' WHERE id = 3", 3),
        ("UPDATE annotation SET comment = 'sure' WHERE id = 3", 3),
        ("UPDATE annotation SET created_at = '2020-01-01 00:00:00.000000' WHERE id = 3", 3),
        ("UPDATE annotation SET round_id = NULL WHERE id = 3", 3),
        ("UPDATE annotation SET seconds = 1 WHERE id = 3", 3),
        ("UPDATE annotation SET aids = '{}' WHERE id = 3", 3),
        ("UPDATE annotation SET chain = '' WHERE id = 3", 3),
        ("DELETE FROM annotation WHERE id = 3", 4),
        (
            "INSERT INTO annotation (sample_id, class_id, verdict, annotator, comment, model, created_at)"
            " VALUES (1, 1, 'label', 'eve', '', '', '2026-01-01 00:00:00.000000')",
            7,
        ),
    ],
)
def test_what_was_changed_by_hand_is_found(clinic: Clinic, statement: str, broken: int) -> None:
    round_id = clinic.add_round([0])
    for image in range(5):
        clinic.say(image, "a", round_id=round_id, seconds=2.5, aids={"blind": True})
    undo(clinic.workspace, clinic.id, "ada", event())
    sound = check_chain(clinic.workspace)
    assert (sound.rows, sound.broken, sound.unchained) == (6, None, 0)
    by_hand(clinic, statement)
    assert check_chain(clinic.workspace).broken == broken


def test_rows_cannot_be_changed_without_breaking_in(clinic: Clinic) -> None:
    clinic.say(0, "a")
    connection = sqlite3.connect(clinic.workspace.path / "workspace.db")
    with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
        connection.execute("UPDATE annotation SET class_id = 2")
    connection.close()


def test_the_chain_begins_after_rows_of_an_older_program(clinic: Clinic) -> None:
    with clinic.workspace.session() as session:
        session.add(
            Annotation(
                sample_id=clinic.samples[0], class_id=clinic.classes["a"], verdict=Verdict.LABEL, annotator="ada"
            )
        )
    clinic.say(1, "b")
    report = check_chain(clinic.workspace)
    assert dataclasses.astuple(report) == (1, None, 1)


def test_emptying_the_bin_breaks_no_chain(clinic: Clinic, make_clinic: Callable[..., Clinic]) -> None:
    other = make_clinic(name="fabric")
    for image in range(3):
        clinic.say(image, "a")
        other.say(image, "b")
    remove_dataset(clinic.workspace, other.id)
    empty_bin(clinic.workspace, older_than_days=0)
    clinic.say(3, "a")
    report = check_chain(clinic.workspace)
    assert (report.rows, report.broken) == (4, None)


def test_a_locked_data_base_is_told(clinic: Clinic) -> None:
    with clinic.workspace.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(clinic.workspace.path / "workspace.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    entry = clinic.entry(0, "a")
    with pytest.raises(WorkspaceError, match="another program"):
        record(clinic.workspace, entry)
    other.execute("COMMIT")
    other.close()
    assert not record(clinic.workspace, entry).doubled
