"""Training an enhancer on somebody's own photos."""

from __future__ import annotations

from typing import Any

from engines.enhance.requests import EnhancerRequest
from engines.jobs import JobContext, job_kind


@job_kind("enhance-train", lane="long", title=lambda payload: f"Train the enhancer “{payload.name}”")
def run(job: JobContext, payload: EnhancerRequest) -> dict[str, Any]:
    """See `train_own`; begun again, it goes on from its checkpoint with the same result."""
    from engines.enhance.own import train_own

    return train_own(job.workspace, payload, job.progress, job.check_cancelled, job.log)
