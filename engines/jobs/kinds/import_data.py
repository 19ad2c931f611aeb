"""Importing a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.data.report import ImportRequest
from engines.jobs import JobContext, job_kind


@job_kind("import", lane="long", title=lambda payload: f"Import {payload.name or Path(payload.source).name}")
def run(job: JobContext, payload: ImportRequest) -> dict[str, Any]:
    from engines.data import import_dataset

    report = import_dataset(job.workspace, payload, job.progress, job.check_cancelled, token=job.id)
    return report.model_dump()
