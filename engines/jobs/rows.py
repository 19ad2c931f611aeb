"""Changes to job rows that must always go together."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from engines.store import Job, JobState, Run, now


def finish(
    session: Session, job_id: str, state: JobState, error: str = "", detail: str = "", message: str = ""
) -> bool:
    """Bring a job to an end, and its run with it; False where it had ended already."""
    values = {"state": state, "finished_at": now(), "seconds_left": None, "error": error, "detail": detail}
    if message or state is not JobState.DONE:
        values["message"] = message
    if state is JobState.DONE:
        values["progress"] = 1.0
    open_states = (JobState.QUEUED, JobState.RUNNING)
    ended = session.execute(update(Job).where(Job.id == job_id, Job.state.in_(open_states)).values(values))
    if not ended.rowcount:  # type: ignore[attr-defined]
        return False
    _follow(session, job_id, state.value)
    return True


def requeue(session: Session, job_id: str, message: str) -> None:
    """Put an interrupted job back into the queue; it goes on from its last checkpoint."""
    running = update(Job).where(Job.id == job_id, Job.state == JobState.RUNNING)
    session.execute(running.values(state=JobState.QUEUED, message=message, worker="", seconds_left=None))
    _follow(session, job_id, "queued")


def _follow(session: Session, job_id: str, state: str) -> None:
    job = session.get(Job, job_id)
    if job is not None and job.run_id is not None:
        unfinished = update(Run).where(Run.id == job.run_id, Run.state != "done")
        session.execute(unfinished.values(state=state))
