"""A first start shows something on every page: sample images, what the model knows of them, one trained prompt."""

from __future__ import annotations

import time

from sqlalchemy import func, select

from engines import jobs
from engines.store import Dataset, Job, JobState, Run, Workspace
from engines.store.browse import get_jobs, glance

SAMPLE = "blood-smear"
LOOK_EVERY = 2.0
"""Seconds between two looks at the job that draws the sample."""


def prepare(workspace: Workspace) -> None:
    """Start the engine; fill a new workspace with the sample, and a workspace that holds nothing else with results.

    Waits for the sample to be drawn, so it is called in a thread. What is cut off goes on at the next start.
    """
    if glance(workspace).untouched:
        job_id = jobs.submit(workspace, "sample", {"sample": SAMPLE})
        if not _done(workspace, job_id):
            return
    else:
        jobs.ensure_engine(workspace)
    dataset_id = _only_sample(workspace)
    if dataset_id is not None:
        _try_out(workspace, dataset_id)


def _done(workspace: Workspace, job_id: str) -> bool:
    while True:
        found = get_jobs(workspace, [job_id])
        if not found or found[0].state.ended:
            return bool(found) and found[0].state is JobState.DONE
        time.sleep(LOOK_EVERY)


def _only_sample(workspace: Workspace) -> int | None:
    """The sample, where there was never another data set and nothing was ever tried out."""
    with workspace.session() as session:
        datasets = session.execute(select(Dataset.id, Dataset.source, Dataset.deleted_at).limit(2)).all()
        tried = session.scalar(select(func.count()).select_from(Run))
        busy = session.scalar(select(func.count()).where(Job.kind == "train"))
    if tried or busy or len(datasets) != 1 or datasets[0].deleted_at or datasets[0].source != f"sample:{SAMPLE}":
        return None
    return int(datasets[0].id)


def _try_out(workspace: Workspace, dataset_id: int) -> None:
    """Queue the ready-made prompt and one training of CoOp."""
    from engines.jobs.kinds.train import submit_training
    from engines.runs.request import TrainRequest

    for method in ("zero-shot", "coop"):
        submit_training(workspace, TrainRequest(dataset_id=dataset_id, method=method, shots=16, seeds=[1]))
