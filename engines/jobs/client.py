"""The side of the workbench and the command line: ask for work, follow it, cancel it. Torch-free."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import BaseModel
from sqlalchemy import select, update

from engines.errors import JobError, PromptloupeError
from engines.jobs.presence import EngineAddress, EngineFile, program_stamp, show_presence
from engines.jobs.registry import find_kind
from engines.jobs.rows import finish
from engines.store import Job, JobState, Workspace

if TYPE_CHECKING:
    from distributed import Client

OPEN = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class EngineStatus:
    """Whether background work is possible, and with what."""

    running: bool
    workers: list[str] = field(default_factory=list)
    """Names of the local workers, such as `processor` and `answers`, or `remote`."""


def submit(
    workspace: Workspace,
    kind: str,
    payload: BaseModel | dict[str, Any],
    run_id: str | None = None,
    priority: int = 0,
) -> str:
    """Queue a job and return its id; the engine is started where it does not run.

    Raises:
        JobError: there is no such kind.
        ConfigError: the payload does not fit it.
    """
    known = find_kind(kind)
    parsed = known.parse(payload)
    job = Job(
        kind=kind,
        title=known.title(parsed)[:300],
        payload=parsed.model_dump(mode="json"),
        run_id=run_id,
        priority=priority,
    )
    ensure_engine(workspace)  # before the job is there: an engine of an older program must not take it
    with workspace.session() as session:
        session.add(job)
        session.flush()
        return job.id


def cancel(workspace: Workspace, job_id: str) -> None:
    """Ask a job to stop: at once where it is still queued, at its next safe point where it runs.

    Raises:
        JobError: there is no such job.
    """
    with workspace.session() as session:
        job = session.get(Job, job_id)
        if job is None:
            raise JobError("There is no such job.", "It may have been removed.")
        session.execute(update(Job).where(Job.id == job_id, Job.state.in_(OPEN)).values(cancel_requested=True))
        session.expire(job)
        if job.state is JobState.QUEUED:
            finish(session, job_id, JobState.CANCELLED)


def retry(workspace: Workspace, job_id: str) -> str:
    """Queue a failed or cancelled job anew; returns the new job's id. A training goes on from its checkpoint.

    Raises:
        JobError: there is no such job, or it has not ended.
    """
    with workspace.session() as session:
        job = session.get(Job, job_id)
    if job is None:
        raise JobError("There is no such job.", "It may have been removed.")
    if not job.state.ended:
        raise JobError(f"“{job.title or job.kind}” has not ended.", "Cancel it first.")
    return submit(workspace, job.kind, job.payload, job.run_id, job.priority)


def active(workspace: Workspace) -> list[Job]:
    """Jobs that are queued or running, oldest first."""
    with workspace.session() as session:
        return list(session.scalars(select(Job).where(Job.state.in_(OPEN)).order_by(Job.created_at, Job.id)))


def job_log(workspace: Workspace, job_id: str, tail: int = 200) -> str:
    """The last `tail` lines of a job's log; empty where it has not begun.

    Raises:
        JobError: there is no such job.
    """
    if not job_id.isalnum():
        raise JobError("There is no such job.")
    try:
        text = (workspace.folder("logs") / f"{job_id}.log").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-tail:])


# --- the engine ---------------------------------------------------------------


def engine_status(workspace: Workspace) -> EngineStatus:
    """Whether the workspace's engine is alive; asking counts as somebody looking."""
    show_presence(workspace.path)
    engine = EngineFile(workspace.path).read()
    return EngineStatus(True, engine.lanes) if engine else EngineStatus(False)


def ensure_engine(workspace: Workspace, wait: float = 0.0) -> EngineAddress | None:
    """Start the engine where it is not alive; returns it, waiting up to `wait` seconds for it to be ready.

    One that an older program left behind gives way as soon as no job is at work: it would answer with old code.

    Raises:
        JobError: it is not ready by then (only where `wait` is given).
    """
    show_presence(workspace.path)
    file = EngineFile(workspace.path)
    engine = file.read()
    if engine is not None and engine.program != program_stamp() and not _at_work(workspace):
        stop_engine(workspace)
        engine = None
    if engine is None:
        _start_engine(workspace)
    deadline = time.monotonic() + wait
    while engine is None and time.monotonic() < deadline:
        time.sleep(0.1)
        engine = file.read()
    if engine is None and wait:
        raise JobError(
            "The background worker did not start.",
            "Look at the end of the file logs/engine.log in the workspace, or run: promptloupe doctor.",
            _tail(workspace.folder("logs") / "engine.log"),
        )
    return engine


def _at_work(workspace: Workspace) -> bool:
    with workspace.session() as session:
        return session.scalar(select(Job.id).where(Job.state == JobState.RUNNING).limit(1)) is not None


_starting: dict[Path, subprocess.Popen[bytes]] = {}
_start_lock = threading.Lock()


def _start_engine(workspace: Workspace) -> None:
    with _start_lock:
        begun = _starting.get(workspace.path)
        if begun is not None and begun.poll() is None:
            return  # on its way
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        place = ("--workspace", str(workspace.path))
        with (workspace.folder("logs") / "engine.log").open("ab") as log:
            _starting[workspace.path] = subprocess.Popen(
                [sys.executable, "-m", "engines.jobs.host", *place, "--program", program_stamp()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # it outlives the workbench and does not get its Ctrl+C
            )


def stop_engine(workspace: Workspace, wait: float = 20.0) -> None:
    """End the engine and its workers; running jobs go back to the queue and resume with the next engine."""
    engine = EngineFile(workspace.path).read()
    begun = _starting.pop(workspace.path, None)
    pid = engine.pid if engine else begun.pid if begun is not None and begun.poll() is None else None
    if pid is None:
        return
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        process.terminate()
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs(family, timeout=wait)
    for straggler in alive:
        straggler.kill()
    if begun is not None:
        begun.wait(timeout=5)
    if EngineFile(workspace.path).read() is None:  # not the next engine's, which another workbench may have started
        EngineFile(workspace.path).remove()


def _tail(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")[-4000:] if file.is_file() else ""


# --- quick answers ------------------------------------------------------------

_clients: dict[str, Client] = {}
_clients_lock = threading.Lock()


def call(
    workspace: Workspace, kind: str, payload: BaseModel | dict[str, Any], timeout: float = 120.0
) -> dict[str, Any]:
    """Have a kind of the interactive lane carried out now and return its result.

    Raises:
        PromptloupeError: what the kind raised, in words.
        JobError: no answer within `timeout` seconds, or the worker ended.
        ConfigError: the payload does not fit.
    """
    from distributed.scheduler import KilledWorker

    from engines.jobs import worker

    known = find_kind(kind)
    if known.lane != "interactive":
        raise JobError(f"“{kind}” takes long.", "Submit it as a job.")
    values = known.parse(payload).model_dump(mode="json")
    deadline = time.monotonic() + timeout
    client = _client(workspace, timeout)
    future = client.submit(
        worker.call, str(workspace.path), kind, values, resources={"interactive": 1}, pure=False, retries=0
    )
    try:
        answer: dict[str, Any] = future.result(timeout=max(0.1, deadline - time.monotonic()))
    except TimeoutError as error:
        future.cancel()
        raise JobError(f"There was no answer within {timeout:.0f} seconds.", "Try again in a moment.") from error
    except (KilledWorker, OSError, RuntimeError) as error:
        raise JobError(
            "The worker that should answer ended unexpectedly.", "Try again; it has been started anew.", str(error)
        ) from error
    if "error" in answer:
        raise PromptloupeError(*answer["error"])
    return dict(answer["result"])


def _client(workspace: Workspace, timeout: float) -> Client:
    """A connection to the workspace's scheduler, kept open for the next call."""
    from distributed import Client

    engine = ensure_engine(workspace, wait=min(60.0, timeout))
    assert engine is not None
    with _clients_lock:
        client = _clients.get(engine.address)
        if client is None or client.status != "running":
            client = Client(engine.address, security=engine.security(), timeout="20s", set_as_default=False)
            _clients[engine.address] = client
        return client
