"""Putting a sample data set into the workspace."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class SamplePayload(BaseModel):
    sample: str
    """`blood-smear`, `textile` or `digits`."""


@job_kind("sample", lane="long", title=lambda payload: f"Sample data: {payload.sample}")
def run(job: JobContext, payload: SamplePayload) -> dict[str, Any]:
    from engines.data import import_sample

    report = import_sample(job.workspace, payload.sample, job.progress, job.check_cancelled, token=job.id)
    return report.model_dump()
