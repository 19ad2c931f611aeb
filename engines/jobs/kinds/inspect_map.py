"""The map of a run: its images and words before and after the learned prompt."""

from __future__ import annotations

from typing import Any

from engines.inspection.map_answers import MapRequest
from engines.jobs import JobContext, job_kind


class InspectMapPayload(MapRequest):
    anew: bool = False
    """Whether to lay out all points again where there is a map already; otherwise no point moves."""


@job_kind("inspect_map", lane="waited-for", title=lambda payload: "Draw the map")
def run(job: JobContext, payload: InspectMapPayload) -> dict[str, Any]:
    from engines.inspection.map_of_run import make_map

    found = make_map(job.workspace, payload, payload.anew, job.progress, job.check_cancelled)
    return {"images": len(found.samples), "classes": len(found.classes), "notes": found.notes}
