"""Training (or, for methods without training, judging) one run."""

from __future__ import annotations

from pydantic import BaseModel

from engines.errors import JobError
from engines.jobs import JobContext, job_kind, submit
from engines.runs.request import TrainRequest, create_runs
from engines.store import Run, Workspace, now


class TrainPayload(BaseModel):
    run_id: str
    title: str = "Training"


@job_kind("train", lane="long", title=lambda payload: payload.title)
def run(job: JobContext, payload: TrainPayload) -> dict[str, object]:
    from engines.runs.perform import Observer, perform

    row = _mark(job.workspace, payload.run_id, "running")
    observer = Observer(
        progress=job.progress,
        check_cancelled=job.check_cancelled,
        metric=lambda name, step, value: job.metric(payload.run_id, name, step, value),
        log=job.log,
    )
    summary = perform(job.workspace, row, observer)
    with job.workspace.session() as session:
        done = session.get_one(Run, payload.run_id)
        done.summary, done.state, done.finished_at = summary, "done", now()
    return {"accuracy": summary["accuracy"], "zero_shot_accuracy": summary["zero_shot"]["accuracy"]}


def submit_training(workspace: Workspace, request: TrainRequest) -> list[Run]:
    """Check `request`, write its runs and queue one job for each; returns the runs, one a seed."""
    runs = create_runs(workspace, request)
    for row in runs:
        title = row.name if len(runs) == 1 else f"{row.name} (seed {row.seed})"
        submit(workspace, "train", TrainPayload(run_id=row.id, title=title), run_id=row.id)
    return runs


def _mark(workspace: Workspace, run_id: str, state: str) -> Run:
    with workspace.session() as session:
        row = session.get(Run, run_id)
        if row is None:
            raise JobError("The run of this job no longer exists.", "Start a new one.")
        row.state = state
        return row
