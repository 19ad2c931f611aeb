"""Exporting a data set."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class ExportPayload(BaseModel):
    dataset_id: int
    format: Literal["folder", "csv", "zip"] = "zip"


@job_kind("export-data", lane="long", title=lambda payload: "Export a data set")
def run(job: JobContext, payload: ExportPayload) -> dict[str, Any]:
    from engines.data import export_dataset

    report = export_dataset(job.workspace, payload.dataset_id, payload.format, job.progress, job.check_cancelled)
    return report.model_dump()
