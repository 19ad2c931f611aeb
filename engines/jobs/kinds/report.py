"""Reports: of results, of several side by side, of a labelling study; to read or to present."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, model_validator

from engines.jobs import JobContext, job_kind
from engines.reports.results import MOST


class ReportPayload(BaseModel):
    results: list[str] = Field([], max_length=MOST)
    """Keys of experiments, or ids of runs."""
    dataset_id: int | None = None
    """Of a labelling study, in the place of results."""
    title: str = ""
    """The report's own where empty."""

    @model_validator(mode="after")
    def _of_something(self) -> ReportPayload:
        if bool(self.results) == (self.dataset_id is not None):
            raise ValueError("name results, or the data set of a labelling study")
        return self


@job_kind("report", lane="interactive", title=lambda payload: "Write a report")
def run(job: JobContext, payload: ReportPayload) -> dict[str, Any]:
    from engines.reports import write_report

    file = write_report(job.workspace, payload.results, payload.dataset_id, payload.title)
    return {"path": file.relative_to(job.workspace.path).as_posix()}


@job_kind("slides", lane="interactive", title=lambda payload: "Make slides")
def run_slides(job: JobContext, payload: ReportPayload) -> dict[str, Any]:
    from engines.reports import make_slides

    return {"page": make_slides(job.workspace, payload.results, payload.dataset_id, payload.title)}
