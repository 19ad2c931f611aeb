"""Labelling in a process that is killed, runs out of disk, or is not alone: nothing lost, nothing doubled."""

from __future__ import annotations

import multiprocessing
import random
import resource
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
from sqlalchemy import select

from engines.errors import WorkspaceError
from engines.labelling import check_chain, record, redo, standing, tasks, undo, undoable
from engines.store import Annotation, Verdict, Workspace
from tests.labelling.conftest import Clinic

if "fork" not in multiprocessing.get_all_start_methods():
    pytest.skip("no fork on this system", allow_module_level=True)
FORK = multiprocessing.get_context("fork")
IMAGES = 40
Plan = list[tuple[str, int, str, str]]
"""Steps (what, image, class, event)."""


def plan(seed: int, steps: int = 2000) -> Plan:
    """What a person does: mostly labels, now and then a few steps back and again."""
    stream = random.Random(seed)
    return [
        (stream.choices(("give", "undo", "redo"), (8, 2, 1))[0], n % IMAGES, stream.choice("abc"), f"{seed}-{n}")
        for n in range(steps)
    ]


def fold(steps: Plan) -> tuple[list[tuple[int, str]], list[tuple[int, str]], list[tuple[str, int, str]]]:
    """(what can be undone, what can be redone, rows of the log) after these steps."""
    done: list[tuple[int, str]] = []
    undone: list[tuple[int, str]] = []
    rows = []
    for what, image, label, event in steps:
        if what == "give":
            done.append((image, label))
            undone.clear()
            rows.append((event, image, label))
        elif what == "undo" and done:
            undone.append(done.pop())
            rows.append((event, undone[-1][0], "undo"))
        elif what == "redo" and undone:
            done.append(undone.pop())
            rows.append((event, *done[-1]))
    return done, undone, rows


def burst(clinic: Clinic, steps: Plan, acknowledge: Connection) -> None:
    """Do the steps as fast as can be, saying of each that it was kept."""
    clinic.workspace = Workspace.open(clinic.workspace.path)
    for what, image, label, event in steps:
        if what == "give":
            record(clinic.workspace, clinic.entry(image, label, event=event, seen=10**9))
        else:
            (undo if what == "undo" else redo)(clinic.workspace, clinic.id, "ada", event)
        acknowledge.send(event)


def start(target: Callable[..., None], *args: Any) -> tuple[BaseProcess, Connection]:
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=target, args=(*args, there))
    process.start()
    there.close()
    return process, here


def received(pipe: Connection) -> Iterator[Any]:
    while True:
        try:
            yield pipe.recv()
        except (EOFError, OSError):
            return


def closed(clinic: Clinic) -> Clinic:
    """The clinic with no file of its data base open, as it must be where a process forks."""
    clinic.workspace.close()
    return clinic


def log(clinic: Clinic) -> list[tuple[str | None, int, str]]:
    names = {class_id: name for name, class_id in clinic.classes.items()}
    with clinic.workspace.session() as session:
        rows = session.scalars(select(Annotation).order_by(Annotation.id)).all()
    return [
        (
            row.event,
            clinic.samples.index(row.sample_id),
            names[row.class_id] if row.class_id is not None else row.verdict.value,
        )
        for row in rows
    ]


def test_the_data_base_waits_for_the_disk(clinic: Clinic) -> None:
    with clinic.workspace.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


@pytest.mark.parametrize("seed", range(5))
def test_killed_in_a_burst_ten_times(make_clinic: Callable[..., Clinic], seed: int) -> None:
    clinic = make_clinic(images=IMAGES)
    clinic.add_round(list(range(IMAGES)))
    steps, stream = plan(seed), random.Random(seed)
    kept = 0
    for _ in range(10):
        # Like a page that heard no answer, every burst sends the last step of the one before it again.
        process, pipe = start(burst, closed(clinic), steps[max(0, kept - 1) :])
        heard = [pipe.recv() for _ in range(stream.randint(2, 6))]
        time.sleep(stream.uniform(0, 0.03))
        process.kill()
        process.join()
        heard += received(pipe)
        sent = int(heard[-1].split("-")[1]) + 1
        assert sent >= kept, "it went on from where it was"
        rows = log(clinic)
        # Of the step that was under way nobody heard whether it was kept; all others are there, once, in order.
        assert rows in (fold(steps[:sent])[2], fold(steps[: sent + 1])[2])
        kept = sent if rows == fold(steps[:sent])[2] else sent + 1
        done, undone, _ = fold(steps[:kept])
        chain = check_chain(clinic.workspace)
        assert (chain.rows, chain.broken) == (len(rows), None)
        assert undoable(clinic.workspace, clinic.id, "ada") == (len(done), len(undone))
        says = {image: clinic.classes[label] for image, label in done}
        now = standing(clinic.workspace, clinic.id, "ada")
        assert {clinic.samples.index(s): each.class_id for s, each in now.items()} == says
        waiting = [clinic.samples.index(task.sample_id) for task in tasks(clinic.workspace, clinic.id, "ada")]
        assert waiting == [image for image in range(IMAGES) if image not in says], "the same next image"
    assert kept >= 10


def label_all(clinic: Clinic, reader: str, label: str, answer: Connection) -> None:
    clinic.workspace = Workspace.open(clinic.workspace.path)
    for image in range(len(clinic.samples)):
        receipt = clinic.say(image, label, reader)
        answer.send((receipt.id, receipt.doubled, receipt.conflict is not None))


def both(clinic: Clinic, *who: tuple[str, str]) -> list[list[tuple[int, bool, bool]]]:
    running = [start(label_all, closed(clinic), reader, label) for reader, label in who]
    answers: list[list[tuple[int, bool, bool]]] = [list(received(pipe)) for _, pipe in running]
    for process, _ in running:
        process.join()
        assert process.exitcode == 0
    return answers


def test_two_readers_at_once(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(images=200)
    ada, bob = both(clinic, ("ada", "a"), ("bob", "b"))
    ids = [row for row, _, _ in ada + bob]
    assert len(set(ids)) == 400
    assert len(log(clinic)) == 400
    assert not any(doubled or conflict for _, doubled, conflict in ada + bob)
    assert len(standing(clinic.workspace, clinic.id, "ada")) == len(standing(clinic.workspace, clinic.id, "bob")) == 200
    chain = check_chain(clinic.workspace)
    assert (chain.rows, chain.broken) == (400, None)


@pytest.mark.parametrize("second", ["a", "b"])
def test_two_windows_of_one_reader_at_once(make_clinic: Callable[..., Clinic], second: str) -> None:
    clinic = make_clinic(images=60)
    answers = both(clinic, ("ada", "a"), ("ada", second))
    rows = log(clinic)
    assert sorted(image for _, image, _ in rows) == list(range(60)), "each image once"
    doubled, conflict = (sum(answer[n] for each in answers for answer in each) for n in (1, 2))
    assert (doubled, conflict) == ((60, 0) if second == "a" else (0, 60)), "and the other window is told of each"
    assert check_chain(clinic.workspace).broken is None


def fill(clinic: Clinic, answer: Connection) -> None:
    """Label until files may not grow any more, then once more when they may."""
    clinic.workspace = Workspace.open(clinic.workspace.path)
    clinic.say(0, "a", event="0")
    largest = max(file.stat().st_size for file in clinic.workspace.path.glob("workspace.db*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 60_000, resource.RLIM_INFINITY))
    for image in range(1, len(clinic.samples)):
        entry = clinic.entry(image, "a", event=str(image))
        try:
            record(clinic.workspace, entry)
        except WorkspaceError as error:
            answer.send((image, error.what, error.remedy))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            answer.send(record(clinic.workspace, entry).doubled)
            return


def test_a_full_disk_loses_nothing(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(images=400)
    process, pipe = start(fill, closed(clinic))
    (image, what, remedy), doubled = received(pipe)
    process.join()
    assert "disk is full" in what
    assert "safe" in remedy
    assert image > 1
    assert doubled is False, "what could not be kept was not kept by half"
    assert log(clinic) == [(str(n), n, "a") for n in range(image + 1)]
    assert check_chain(clinic.workspace).broken is None
    undo(clinic.workspace, clinic.id, "ada", "back")
    assert log(clinic)[-1] == ("back", image, Verdict.UNDO.value)
