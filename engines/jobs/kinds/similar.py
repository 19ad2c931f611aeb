"""Images that look like one of the data set."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class SimilarPayload(BaseModel):
    dataset_id: int
    sample_id: int
    backbone: str = "mini-clip"
    limit: int = 20
    unlabelled: bool = False
    """Only among images without a label."""


@job_kind("similar", lane="interactive", title=lambda payload: "Find similar images")
def run(job: JobContext, payload: SimilarPayload) -> dict[str, Any]:
    from engines.runs.search import similar_images

    return similar_images(
        job.workspace,
        payload.dataset_id,
        payload.backbone,
        payload.sample_id,
        payload.limit,
        payload.unlabelled,
        job.check_cancelled,
    )
