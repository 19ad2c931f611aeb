"""Enhancing and training as jobs: cancelled and gone on with, and a worker that is killed in the middle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from engines import jobs
from engines.enhance.choices import choices
from engines.enhance.trainings import read_training, trainings
from engines.jobs.presence import EngineFile
from engines.store import Job, JobState, Workspace, new_id

SETTINGS = {
    "rounds": 2,
    "prompt_steps": 10,
    "warm_up_steps": 2,
    "enhance_steps": 5,
    "refine_steps": 4,
    "extensions": 0,
    "batch": 2,
    "prompt_batch": 4,
    "size": 32,
    "start": "unit",
    "checkpoint_every": 4,
}
STEPS = 10 + 2 + 5 + 4 + 5


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = Workspace.open(tmp_path_factory.mktemp("enhance") / "clinic")
    yield workspace
    jobs.stop_engine(workspace, wait=0)
    workspace.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(3)
    for name, gain in (("backlit", 0.25), ("well-lit", 1.0)):
        (root / name).mkdir()
        for number in range(7):
            Image.fromarray((draw.random((40, 48, 3)) * 255 * gain).astype(np.uint8)).save(
                root / name / f"{number}.png"
            )
    (root / "backlit" / "bad.jpg").write_text("no photo")
    return {"backlit": str(root / "backlit"), "well_lit": str(root / "well-lit")}


def row(ws: Workspace, job_id: str) -> Job:
    with ws.session() as session:
        return session.get_one(Job, job_id)


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def kill_worker(ws: Workspace) -> None:
    """End the process that trains, as the system does when memory runs out."""
    engine = EngineFile(ws.path).read()
    assert engine is not None
    busy = max(psutil.Process(engine.pid).children(recursive=True), key=lambda process: sum(process.cpu_times()[:2]))
    os.kill(busy.pid, signal.SIGKILL)


def test_a_training_survives_cancel_and_a_killed_worker(ws: Workspace, folders: dict[str, str]) -> None:
    enhancer = new_id()
    asked = {"id": enhancer, "name": "Camera 2", "settings": SETTINGS, **folders}
    job = jobs.submit(ws, "enhance-train", asked)
    until(lambda: len(_curve(ws, enhancer)) > 8)
    jobs.cancel(ws, job)
    until(lambda: row(ws, job).state.ended)
    if row(ws, job).state is JobState.CANCELLED:  # it may have been faster
        done = len(_curve(ws, enhancer))
        assert 8 < done < STEPS
    job = jobs.retry(ws, job)
    until(lambda: len(_curve(ws, enhancer)) > 15 or row(ws, job).state.ended)
    kill_worker(ws)
    until(lambda: row(ws, job).state.ended)
    assert row(ws, job).state is JobState.DONE, row(ws, job).error
    assert row(ws, job).result["unreadable"] == ["“bad.jpg” cannot be used: not a PNG, JPEG, WebP, BMP or TIFF image."]
    found = read_training(ws, enhancer)
    assert found is not None
    assert [point["total"] for point in found.curve] == list(range(1, STEPS + 1))
    assert sum(point["p_backlit"] is not None for point in found.curve) == 10
    assert {number: len(files) for number, files in found.snapshots.items()} == {0: 6, 1: 6, 2: 6}
    assert choices(ws)[-1].title == "Camera 2"
    assert choices(ws)[-1].padding == "zeros"
    assert trainings(ws) == [(enhancer, "Camera 2")]
    photos = {"photos": [folders["backlit"]], "methods": [enhancer, "clahe"], "out": "exports/enhanced/all"}
    made = jobs.submit(ws, "enhance-photos", photos)
    until(lambda: row(ws, made).state.ended)
    assert row(ws, made).result["done"] == 14
    assert (ws.folder("exports") / "enhanced" / "all" / "CLAHE" / "0.png").is_file()


def _curve(ws: Workspace, enhancer: str) -> list[object]:
    found = read_training(ws, enhancer)
    return list(found.curve) if found else []


def test_what_cannot_be_learned_from_is_told(ws: Workspace, folders: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "one" / "a.png")
    for wrong, words in (
        ({"backlit": str(tmp_path / "gone")}, "cannot be opened"),
        ({"well_lit": str(tmp_path / "one")}, "Only 1 well-lit photo can be read"),
    ):
        asked = {"id": new_id(), "name": "x", "settings": SETTINGS, **folders, **wrong}
        job = jobs.submit(ws, "enhance-train", asked)
        until(lambda job=job: row(ws, job).state.ended)  # type: ignore[misc]
        assert words in row(ws, job).error


def test_zero_dce_learns_from_one_folder(ws: Workspace, folders: dict[str, str]) -> None:
    enhancer = new_id()
    asked = {"id": enhancer, "name": "Curves", "kind": "zero-dce", "backlit": folders["backlit"], "settings": SETTINGS}
    job = jobs.submit(ws, "enhance-train", asked)
    until(lambda: row(ws, job).state.ended)
    assert row(ws, job).state is JobState.DONE, row(ws, job).error
    found = read_training(ws, enhancer)
    assert found is not None
    assert len(found.curve) == 10
    assert sorted(found.snapshots) == [0, 1]
    photos = {"photos": [folders["backlit"]], "methods": ["Curves"], "out": "exports/curves"}
    made = jobs.submit(ws, "enhance-photos", photos)
    until(lambda: row(ws, made).state.ended)
    assert row(ws, made).result["done"] == 7
