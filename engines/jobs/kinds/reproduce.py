"""Training an exported prompt again."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind
from engines.store import new_id


class ReproducePayload(BaseModel):
    path: str
    """Folder or ZIP file of an exported prompt."""
    other_versions: bool = False


@job_kind("reproduce", lane="long", title=lambda payload: "Train an exported prompt again")
def run(job: JobContext, payload: ReproducePayload) -> dict[str, Any]:
    from engines.runs.perform import Observer
    from engines.runs.recipe import opened_export
    from engines.runs.reproduce import reproduce

    run_id = job.id or new_id()  # a job that is begun again goes on with its run
    observer = Observer(
        progress=job.progress,
        check_cancelled=job.check_cancelled,
        metric=lambda name, step, value: job.metric(run_id, name, step, value),
        log=job.log,
    )
    with opened_export(payload.path) as exported:
        return reproduce(job.workspace, exported, run_id, observer, payload.other_versions).as_dict()
