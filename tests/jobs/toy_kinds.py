"""Kinds of jobs that misbehave on request, loaded into workers as a plug-in."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from engines.errors import DataError
from engines.jobs import JobContext, job_kind


class Count(BaseModel):
    folder: str
    steps: int = Field(5, ge=0)
    pause: float = 0.02
    kill_at: int = -1
    kills: int = 1


@job_kind("toy-count", title=lambda payload: f"Count to {payload.steps}")
def count(job: JobContext, payload: Count) -> dict[str, Any]:
    """Counts with a checkpoint after every step; kills its own worker where asked."""
    folder = Path(payload.folder)
    checkpoint = folder / "checkpoint"
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    total = sum(range(done + 1))
    for step in range(done + 1, payload.steps + 1):
        job.check_cancelled()
        if step == payload.kill_at and job.attempt <= payload.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(payload.pause)
        total += step
        partial = checkpoint.with_suffix(".partial")
        partial.write_text(str(step))
        partial.replace(checkpoint)
        job.progress(step / payload.steps, f"step {step}")
    print("printed by the job")
    return {"total": total, "pid": os.getpid()}


class Deaf(BaseModel):
    started: str


@job_kind("toy-deaf")
def deaf(job: JobContext, payload: Deaf) -> dict[str, Any]:
    """Never looks whether it was cancelled."""
    Path(payload.started).touch()
    while True:
        time.sleep(0.05)


class Fail(BaseModel):
    how: str


@job_kind("toy-fail")
def fail(job: JobContext, payload: Fail) -> dict[str, Any]:
    errors: dict[str, Exception] = {
        "words": DataError("The images are upside down.", "Turn them."),
        "memory": MemoryError(),
        "disk": OSError(errno.ENOSPC, "No space left on device"),
        "permission": PermissionError(errno.EACCES, "denied", "secret.png"),
        "surprise": ZeroDivisionError("division by zero"),
    }
    raise errors[payload.how]


class Mark(BaseModel):
    file: str
    text: str


@job_kind("toy-mark")
def mark(job: JobContext, payload: Mark) -> dict[str, Any]:
    with open(payload.file, "a") as file:
        file.write(payload.text + "\n")
    return {}


class Echo(BaseModel):
    text: str = ""
    sleep: float = 0.0
    die: bool = False


@job_kind("toy-echo", lane="interactive")
def echo(job: JobContext, payload: Echo) -> dict[str, Any]:
    if payload.die:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(payload.sleep)
    if payload.text == "bad":
        raise DataError("That was bad.", "Say something else.")
    return {"text": payload.text, "pid": os.getpid()}


class Batch(BaseModel):
    text: str = ""


@job_kind("toy-batch", lane="waited-for")
def batch(job: JobContext, payload: Batch) -> dict[str, Any]:
    """Something that a person waits for."""
    return {"text": payload.text}
