"""Repairing attention leakage (DPL); goes on where it was cancelled, or where its worker was killed."""

from __future__ import annotations

from typing import Any

from engines.diffusion.leakage.requests import RepairRequest
from engines.jobs import JobContext, job_kind


@job_kind("leakage-repair", lane="long", title=lambda payload: "Repair the leakage")
def run(job: JobContext, payload: RepairRequest) -> dict[str, Any]:
    """`{"study", "repair"}` and what `Repair.result` says."""
    from engines.diffusion.leakage.studies import find_study
    from engines.diffusion.leakage.working import Watch, model_for, repair_study

    study = find_study(job.workspace, payload.study)
    job.progress(0.0, "Loading the model")
    found = repair_study(study, model_for(study, payload), payload, Watch(job.progress, job.check_cancelled))
    return {"study": study.id, "repair": found.id, **found.result}
