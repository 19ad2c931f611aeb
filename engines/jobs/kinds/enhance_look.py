"""One photo enhanced for the screen by several methods."""

from __future__ import annotations

from typing import Any

from engines.enhance.requests import LookRequest
from engines.jobs import JobContext, job_kind


@job_kind("enhance-look", lane="interactive", title=lambda payload: "Look at an enhanced photo")
def run(job: JobContext, payload: LookRequest) -> dict[str, Any]:
    from engines.enhance.looking import look

    return look(job.workspace, payload)
