"""Photos enhanced at full resolution; originals are never touched."""

from __future__ import annotations

from typing import Any

from engines.enhance.requests import EnhanceRequest
from engines.jobs import JobContext, job_kind


def _title(payload: EnhanceRequest) -> str:
    return "Enhance one photo" if len(payload.photos) == 1 else f"Enhance {len(payload.photos):,} photos"


@job_kind("enhance-photos", lane="waited-for", title=_title)
def run(job: JobContext, payload: EnhanceRequest) -> dict[str, Any]:
    """See `enhance_batch`; begun again, it goes on where it stopped."""
    from engines.enhance.batch import enhance_batch

    return enhance_batch(job.workspace, payload, job.progress, job.check_cancelled)
