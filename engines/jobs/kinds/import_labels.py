"""Taking in labels from a file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind
from engines.labelling.imports import As


class ImportLabelsPayload(BaseModel):
    dataset_id: int
    file: str
    """A table, a COCO file, a folder with a folder per class, or a ZIP file of one."""
    as_: As = "suggestions"
    annotator: str = "import"
    create_classes: bool = False
    label_column: str = ""


@job_kind("import_labels", lane="waited-for", title=lambda payload: "Import labels")
def run(job: JobContext, payload: ImportLabelsPayload) -> dict[str, Any]:
    from engines.labelling.imports import import_labels

    report = import_labels(
        job.workspace, **payload.model_dump(), progress=job.progress, check_cancelled=job.check_cancelled
    )
    return report.model_dump()
