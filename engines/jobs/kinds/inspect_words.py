"""What the prompts of finished runs say; each answer is kept in the workspace as soon as it is whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from engines.jobs import JobContext, job_kind
from engines.jobs.several import look_into_runs


class InspectWordsPayload(BaseModel):
    run_ids: list[str] = Field(min_length=1, max_length=100)


@job_kind("inspect_words", lane="waited-for", title=lambda payload: "Read what prompts say")
def run(job: JobContext, payload: InspectWordsPayload) -> dict[str, Any]:
    """`{"done": run ids, "failed": {run id: why}}`; fails only where no run could be read."""
    from engines.inspection.words import what_it_says

    def look(run_id: str, tell: Callable[[float, str], None]) -> None:
        what_it_says(job.workspace, run_id, tell, job.check_cancelled)

    return look_into_runs(job, payload.run_ids, "Prompt", look)
