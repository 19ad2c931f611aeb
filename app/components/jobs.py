"""Jobs as people see them: the pill, the drawer, a job's progress."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from app.components.html import Html, action, esc, fold, join, tag
from app.components.icons import icon
from app.components.words import duration, moment, time_left
from engines import jobs
from engines.errors import JobError
from engines.store import Job, JobState, Workspace

STATES = {
    JobState.QUEUED: "Waiting",
    JobState.RUNNING: "Running",
    JobState.DONE: "Done",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
}
SILENT = timedelta(seconds=60)
"""A running job that has not been heard of for so long is said to be silent."""


def device(workers: Sequence[str]) -> str:
    """Where trainings run, in words: "the processor", "2 graphics cards"."""
    cards = [name for name in workers if name.startswith("gpu")]
    if cards:
        return "the graphics card" if len(cards) == 1 else f"{len(cards)} graphics cards"
    return "another computer" if "remote" in workers else "the processor"


def pill(active: Sequence[Job], engine_runs: bool) -> Html:
    """The job button of the top bar: "1 running · 42% · 3 min left"."""
    running = [job for job in active if job.state is JobState.RUNNING]
    waiting = len(active) - len(running)
    parts = [f"{len(running)} running"] if running else []
    if running:
        parts.append(f"{100 * sum(job.progress for job in running) / len(running):.0f}%")
        known = [job.seconds_left for job in running if job.seconds_left is not None]
        parts += [time_left(max(known))] if known else []
    if waiting:
        parts.append(f"{waiting} waiting")
    if active and not engine_runs:
        parts = [f"{len(active)} waiting", "worker is starting"]
    text = " · ".join(parts) or "No jobs running"
    return tag(
        "button",
        tag("span", class_="pl-dot") if running else icon("jobs", 16),
        text,
        type="button",
        class_=f"pl-pill {'busy' if active else ''}",
        data_drawer="toggle",
        title="Show the jobs (key J)",
        aria_live="polite",
    )


def bar(job: Job) -> Html:
    """A job's progress bar."""
    value = 100 if job.state is JobState.DONE else round(100 * job.progress, 1)
    waiting = job.state is JobState.RUNNING and not job.progress
    return tag(
        "div",
        tag("div", style=f"width:{value}%"),
        class_=f"pl-bar {job.state.value} {'unknown' if waiting else ''}",
        role="progressbar",
        aria_valuenow=round(value),
        aria_valuemin=0,
        aria_valuemax=100,
        aria_label=job.title or job.kind,
    )


def status_line(job: Job, now: datetime | None = None) -> Html:
    """One line on where a job stands, by its state."""
    if job.state is JobState.RUNNING:
        asked = ["Stopping …"] if job.cancel_requested else []
        parts = [*asked, f"{100 * job.progress:.0f}%", job.message, job.rate, time_left(job.seconds_left)]
        heard = job.heartbeat_at or job.started_at
        if heard and (now or datetime.now(UTC)) - heard > SILENT:
            parts.append(f"nothing heard for {duration(((now or datetime.now(UTC)) - heard).total_seconds())}")
    elif job.state is JobState.QUEUED:
        parts = ["Waiting for a free worker", job.message]
    elif job.state is JobState.FAILED:
        parts = ["Failed", moment(job.finished_at)]
    else:
        took = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None
        done = job.state is JobState.DONE
        words = f"took {duration(took)}" if took is not None and done else ""
        parts = [STATES[job.state], moment(job.finished_at), words, "" if done else job.message]
    return esc(" · ".join(part for part in parts if part))


def progress(job: Job, controls: bool = True, log: bool = False) -> Html:
    """A job as a block: title, bar, status line, and what can be done with it (actions cancel, retry, log)."""
    buttons: list[Html] = []
    if controls and not job.state.ended:
        buttons.append(action("Cancel", "cancel", job.id, "small", disabled=job.cancel_requested))
    if controls and job.state in (JobState.FAILED, JobState.CANCELLED):
        buttons.append(action("Try again", "retry", job.id, "small"))
    if log and job.started_at:
        buttons.append(action("Log", "log", job.id, "small quiet"))
    failed = job.state is JobState.FAILED
    return tag(
        "article",
        tag("div", tag("strong", job.title or job.kind), tag("span", *buttons, class_="pl-buttons"), class_="pl-row"),
        bar(job),
        tag("p", status_line(job), class_="pl-quiet"),
        tag("p", job.error or "It gave no reason.", class_="pl-problem") if failed else "",
        fold("Technical detail", tag("pre", job.detail)) if failed and job.detail else "",
        class_=f"pl-job {job.state.value}",
    )


def drawer(active: Sequence[Job], ended: Sequence[Job]) -> Html:
    """The drawer that every page has: what runs, what waits, what ended last."""
    head = tag(
        "div",
        tag("h2", "Jobs"),
        tag("button", icon("close"), type="button", class_="pl-icon-button", data_drawer="close", aria_label="Close"),
        class_="pl-row",
    )
    running = [progress(job) for job in active] or [tag("p", "Nothing is running. Leave any page: jobs go on.")]
    return join(
        [
            head,
            *running,
            tag("h3", "Ended last") if ended else "",
            *(progress(job, controls=job.state is JobState.FAILED) for job in ended),
            tag("p", tag("a", "All jobs", href="jobs"), class_="pl-all"),
        ]
    )


def act_on_job(workspace: Workspace, name: str, job_id: str) -> None:
    """Cancel a job or try it again, as a button in live HTML asked for.

    Raises:
        JobError: there is no such job.
    """
    if name == "cancel":
        jobs.cancel(workspace, job_id)
    elif name == "retry":
        jobs.retry(workspace, job_id)
    else:
        raise JobError("That cannot be done with a job.")
