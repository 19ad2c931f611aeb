"""Images that fit some words."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class TextSearchPayload(BaseModel):
    dataset_id: int
    text: str
    """The name of a class, or a description."""
    backbone: str = "mini-clip"
    limit: int = 20
    unlabelled: bool = False
    """Only among images without a label."""


@job_kind("text_search", lane="interactive", title=lambda payload: "Search by words")
def run(job: JobContext, payload: TextSearchPayload) -> dict[str, Any]:
    from engines.runs.search import search_text

    return search_text(
        job.workspace,
        payload.dataset_id,
        payload.backbone,
        payload.text,
        payload.limit,
        payload.unlabelled,
        job.check_cancelled,
    )
