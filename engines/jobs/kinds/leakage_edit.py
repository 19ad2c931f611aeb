"""An edit made three ways: plain Prompt-to-Prompt, after null-text inversion, and after the repair."""

from __future__ import annotations

from typing import Any

from engines.diffusion.leakage.requests import EditRequest
from engines.jobs import JobContext, job_kind


@job_kind("leakage-edit", lane="long", title=lambda payload: f"Edit: {payload.prompt}")
def run(job: JobContext, payload: EditRequest) -> dict[str, Any]:
    """`{"study", "edit"}` and what `EditFolder.record` says."""
    from engines.diffusion.leakage.editing import edit_study
    from engines.diffusion.leakage.studies import find_study
    from engines.diffusion.leakage.working import Watch, model_for

    study = find_study(job.workspace, payload.study)
    job.progress(0.0, "Loading the model")
    found = edit_study(study, model_for(study, payload), payload, Watch(job.progress, job.check_cancelled))
    return {"study": study.id, "edit": found.id, **(found.record or {})}
