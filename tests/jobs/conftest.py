"""A workspace with an engine that knows the toy kinds; nothing is left running afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from engines import jobs
from engines.jobs import registry
from engines.jobs.presence import EngineFile
from engines.store import Job, Workspace


@pytest.fixture(autouse=True)
def toy_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.PLUGINS, "tests.jobs.toy_kinds")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("PROMPTLOUPE_CANCEL_GRACE", "1")


def end(ws: Workspace) -> None:
    engine = EngineFile(ws.path).read()
    family = psutil.Process(engine.pid).children(recursive=True) if engine else []
    jobs.stop_engine(ws, wait=0)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == [], "the engine left processes behind"
    ws.close()


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace of its own, for tests that hurt the engine."""
    workspace = Workspace.open(tmp_path / "clinic")
    yield workspace
    end(workspace)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace whose engine serves all tests of a module."""
    workspace = Workspace.open(tmp_path_factory.mktemp("jobs") / "clinic")
    yield workspace
    end(workspace)


def row(ws: Workspace, job_id: str) -> Job:
    with ws.session() as session:
        return session.get_one(Job, job_id)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def ended(ws: Workspace, job_id: str, seconds: float = 60) -> Job:
    """The job's row once it has ended."""
    until(lambda: row(ws, job_id).state.ended, seconds)
    return row(ws, job_id)
