"""A CLIP-LIT checkpoint that somebody has becomes a method of the workspace."""

from __future__ import annotations

from typing import Any

from engines.enhance.requests import AddRequest
from engines.jobs import JobContext, job_kind


@job_kind("enhance-add", lane="interactive", title=lambda payload: "Add an enhancer")
def run(job: JobContext, payload: AddRequest) -> dict[str, Any]:
    """`{"method": name by which it is called, "title"}`."""
    from engines.enhance.own import add_enhancer

    made = add_enhancer(job.workspace, payload)
    return {"method": made.name, "title": made.title}
