"""How much of each word leaks, measured anew after a mask was drawn."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class LeakageMeasurePayload(BaseModel):
    study: str


@job_kind("leakage-measure", lane="interactive", title=lambda payload: "Measure the leakage")
def run(job: JobContext, payload: LeakageMeasurePayload) -> dict[str, Any]:
    from engines.diffusion.leakage.measuring import measure
    from engines.diffusion.leakage.repairs import repairs
    from engines.diffusion.leakage.studies import find_study

    study = find_study(job.workspace, payload.study)
    measure(study)
    for repair in repairs(study):
        measure(study, repair)
    return {}
