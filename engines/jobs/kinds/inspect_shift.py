"""Feature shift of finished runs; each answer is kept in the workspace as soon as it is whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from engines.jobs import JobContext, job_kind
from engines.jobs.several import look_into_runs


class InspectShiftPayload(BaseModel):
    run_ids: list[str] = Field(min_length=1, max_length=1000)
    images: int = Field(512, ge=1, le=512)
    """Test images that are looked at, at most."""
    seed: int = Field(1, ge=0, lt=2**31)
    """Of their choice."""


@job_kind("inspect_shift", lane="waited-for", title=lambda payload: "Measure what moved")
def run(job: JobContext, payload: InspectShiftPayload) -> dict[str, Any]:
    """`{"done": run ids, "failed": {run id: why}}`; fails only where no run could be looked into."""
    from engines.inspection.shift import feature_shift

    def look(run_id: str, tell: Callable[[float, str], None]) -> None:
        feature_shift(job.workspace, run_id, payload.images, payload.seed, tell, job.check_cancelled)

    return look_into_runs(job, payload.run_ids, "Run", look)
