"""Making a copy of a labelled data set to practise on."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class PracticeCopyPayload(BaseModel):
    dataset_id: int
    per_class: int | None = None
    """At most so many images of each class; all where None."""
    seed: int = 1
    """Draws them."""


@job_kind("practice_copy", lane="waited-for", title=lambda payload: "Copy to practise on")
def run(job: JobContext, payload: PracticeCopyPayload) -> dict[str, Any]:
    from engines.data.practice import practice_copy
    from engines.store import Dataset

    made = practice_copy(
        job.workspace, **payload.model_dump(), progress=job.progress, check_cancelled=job.check_cancelled, token=job.id
    )
    with job.workspace.session() as session:
        copy = session.get_one(Dataset, made)
        return {"dataset_id": copy.id, "name": copy.name, "images": copy.size}
