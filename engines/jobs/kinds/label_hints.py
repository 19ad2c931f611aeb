"""Labels that are likely to be wrong."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class LabelHintsPayload(BaseModel):
    dataset_id: int
    backbone: str = "mini-clip"


@job_kind("label_hints", lane="waited-for", title=lambda payload: "Look for wrong labels")
def run(job: JobContext, payload: LabelHintsPayload) -> dict[str, Any]:
    from engines.runs.hints import label_hints

    return label_hints(job.workspace, payload.dataset_id, payload.backbone, job.progress, job.check_cancelled)
