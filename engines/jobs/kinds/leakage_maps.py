"""Where the words of a caption look in a picture."""

from __future__ import annotations

from typing import Any

from engines.diffusion.leakage.requests import MapsRequest
from engines.jobs import JobContext, job_kind


@job_kind("leakage-maps", lane="waited-for", title=lambda payload: "See where words look")
def run(job: JobContext, payload: MapsRequest) -> dict[str, Any]:
    """`{"study", "unread", "cut"}`; see `Study.notes`."""
    from engines.diffusion.leakage.studies import find_study
    from engines.diffusion.leakage.working import Watch, look, model_for

    study = find_study(job.workspace, payload.study)
    job.progress(0.0, "Loading the model")
    found = look(study, model_for(study, payload), Watch(job.progress, job.check_cancelled))
    return {"study": study.id, **found}
