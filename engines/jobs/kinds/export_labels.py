"""Exporting the labels of a data set."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind
from engines.labelling.export import LabelFormat


class ExportLabelsPayload(BaseModel):
    dataset_id: int
    format: LabelFormat = "csv"
    audit: bool = False
    archive: bool = False
    """With a ZIP file of the folder beside it."""


@job_kind("export_labels", lane="waited-for", title=lambda payload: "Export labels")
def run(job: JobContext, payload: ExportLabelsPayload) -> dict[str, Any]:
    from engines.labelling.export import export_labels

    report = export_labels(
        job.workspace, **payload.model_dump(), progress=job.progress, check_cancelled=job.check_cancelled
    )
    return report.model_dump()
