"""The side of the worker: carries out jobs and calls, and offers a machine to a scheduler elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import traceback
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, get_args

from filelock import FileLock
from sqlalchemy import update

from engines.errors import Cancelled, JobError, PromptloupeError
from engines.jobs.context import JobContext
from engines.jobs.registry import Lane, find_kind
from engines.jobs.rows import finish
from engines.store import Job, JobState, Workspace, now


@lru_cache(4)
def _workspace(path: str) -> Workspace:
    return Workspace.open(path, create=False)


def execute(workspace_path: str, job_id: str) -> None:
    """Carry out a queued job and write its end into its row. Called in a worker process."""
    workspace = _workspace(workspace_path)
    logs = workspace.folder("logs")
    # A worker that lost its scheduler may still be at its last step: two must never write one checkpoint.
    with FileLock(logs / f"{job_id}.lock", timeout=60), (logs / f"{job_id}.log").open("a", encoding="utf-8") as log:
        job = _begin(workspace, job_id)
        if job is None:
            return
        context = JobContext(workspace, job_id, job.attempt, log)
        with _captured(log):
            context.log(f"Attempt {job.attempt} of “{job.title or job.kind}”")
            _carry_out(context, job)


def _begin(workspace: Workspace, job_id: str) -> Job | None:
    with workspace.session() as session:
        job = session.get(Job, job_id)
        if job is None or job.state is not JobState.RUNNING:
            return None
        if job.cancel_requested:
            finish(session, job_id, JobState.CANCELLED)
            return None
        job.attempt += 1
        job.started_at = job.started_at or now()
        job.heartbeat_at = now()
        job.worker = f"process {os.getpid()}"
        return job


def _carry_out(context: JobContext, job: Job) -> None:
    workspace = context.workspace
    try:
        kind = find_kind(job.kind)
        result = kind.run(context, kind.parse(job.payload))
        context.log("Done")  # who sees that a job has ended finds all of its log
        context.flush()
        with workspace.session() as session:
            session.execute(update(Job).where(Job.id == job.id).values(result=result))
            finish(session, job.id, JobState.DONE)
    except Cancelled:
        context.log("Cancelled")
        context.flush()
        with workspace.session() as session:
            finish(session, job.id, JobState.CANCELLED)
    except Exception as error:
        what, detail = explain(error)
        context.log(detail or what)
        with contextlib.suppress(Exception):
            context.flush()
        with workspace.session() as session:
            finish(session, job.id, JobState.FAILED, what, detail)


def call(workspace_path: str, kind_name: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Carry out an interactive kind at once; `{"result": …}`, or `{"error": [what, remedy, detail]}`."""
    try:
        kind = find_kind(kind_name)
        context = JobContext(_workspace(workspace_path))
        return {"result": kind.run(context, kind.parse(payload))}
    except PromptloupeError as error:
        return {"error": [error.what, error.remedy, error.detail]}
    except Exception as error:
        what, detail = explain(error)
        return {"error": [what, "", detail]}


def explain(error: BaseException) -> tuple[str, str]:
    """(what happened and what to do, technical detail) of an error."""
    detail = "".join(traceback.format_exception(error))[-8000:]
    if isinstance(error, PromptloupeError):
        return str(error), error.detail
    words = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words:
        return (
            "There was not enough memory, even for the smallest portion of images. Close other programs, or choose a"
            " smaller model.",
            detail,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full. Free some space, then retry: it goes on from the last checkpoint.", detail
    if isinstance(error, PermissionError):
        return (
            f"The file “{Path(str(error.filename)).name}” may not be read or written. Change its permissions.",
            detail,
        )
    return f"Something unexpected went wrong ({type(error).__name__}: {error}). The log has the details.", detail


@contextlib.contextmanager
def _captured(log: IO[str]) -> Iterator[None]:
    """What the job prints or warns goes to its log: a worker does one thing at a time."""
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield


def serve(scheduler: str, lanes: Sequence[str] = ("long",)) -> None:
    """Offer this machine to the scheduler at `scheduler` (tcp://host:port) until interrupted.

    The workspaces' folders must be reachable here under the same path.

    Raises:
        JobError: unknown lane, or nobody answers there.
    """
    from distributed import Client, Nanny

    unknown = [lane for lane in lanes if lane not in get_args(Lane)]
    if unknown or not lanes:
        raise JobError(
            f"There is no lane “{unknown[0] if unknown else ''}”.", f"Lanes are {', '.join(get_args(Lane))}."
        )
    try:
        Client(scheduler, timeout="10s", set_as_default=False).close()
    except (OSError, TimeoutError, ValueError) as error:
        raise JobError(
            f"No scheduler answers at {scheduler}.", "Check the address, and that the scheduler is running.", str(error)
        ) from error

    async def stay() -> None:
        async with Nanny(
            scheduler,
            nthreads=1,
            resources=dict.fromkeys(lanes, 1),
            memory_limit=0,
            name=f"{os.uname().nodename}-{os.getpid()}",
        ) as nanny:
            await nanny.finished()

    asyncio.run(stay())
