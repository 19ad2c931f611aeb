"""Rounds: the job that picks the next images, and what a page says of it."""

from __future__ import annotations

from typing import Any

from app.components.html import Html, action, notice, tag
from app.components.jobs import progress
from app.components.label_desk import newest_job
from app.components.words import counted
from engines.store import Job, JobState, Workspace

ROUND = "label_round"


def newest_round_job(workspace: Workspace, dataset_id: Any) -> Job | None:
    return newest_job(workspace, ROUND, dataset_id) if isinstance(dataset_id, int) else None


def awaited_round(workspace: Workspace, dataset_id: int) -> str:
    """Id of the round that is at work for a data set, whoever asked for it; empty where none is."""
    job = newest_round_job(workspace, dataset_id)
    return job.id if job is not None and not job.state.ended else ""


def is_ready(job: Job | None, awaited: Any) -> bool:
    """Whether the round that a page waits for has brought images."""
    return job is not None and job.id == awaited and job.state is JobState.DONE and bool(job.result.get("picked"))


def round_said(job: Job | None, awaited: Any) -> Html:
    """The round at work, one that failed, or one that is ready while others are still being read."""
    if job is None or (job.state in (JobState.DONE, JobState.CANCELLED) and job.id != awaited):
        return Html("")
    if job.state is not JobState.DONE:
        return tag("div", progress(job), class_="pl-card")
    picked = int(job.result.get("picked") or 0)
    if not picked:
        return notice("good", "There is no image left to pick.", "This round measured what the labels are worth.")
    go = action("Go to them now", "queue", "", "small primary")
    said = notice("good", f"{counted(picked, 'more image')} picked.", "They come after those you are reading.")
    return tag("div", said, go, class_="pl-offer")
