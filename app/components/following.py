"""Following a training on a page: which runs, and the values of the components that show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components import training as views
from app.components.html import Html, link, section, tag
from app.components.plot import drawn
from engines import jobs
from engines.store import Run, Workspace
from engines.store.run_queries import curves, metrics_stamp, runs_by_id, training_jobs, unfinished_runs


def run_ids(value: Any) -> list[str]:
    """What the browser remembered, as run ids."""
    return [run_id for run_id in value if isinstance(run_id, str)][:100] if isinstance(value, list) else []


def still_there(workspace: Workspace, value: Any) -> list[str]:
    """The runs that this browser watched; those at work where the others are gone or ended."""
    runs, working = runs_by_id(workspace, run_ids(value)), unfinished_runs(workspace)
    return working if working and (not runs or views.finished(runs)) else [run.id for run in runs]


def act_on(workspace: Workspace, ids: list[str], name: str, job_id: str) -> None:
    """Cancel or try again, as a button of the progress block asked for; only jobs of the training on show."""
    known = {job.id: job for job in training_jobs(workspace, ids).values()}
    if name == "cancel-all":
        for job in known.values():
            if not job.state.ended:
                jobs.cancel(workspace, job.id)
    elif job_id in known and name == "cancel":
        jobs.cancel(workspace, job_id)
    elif job_id in known and name == "retry":
        jobs.retry(workspace, job_id)


def follow(workspace: Workspace, ids: list[str], seen: str) -> list[Any]:
    """Values of the components that follow a training; `seen` is the stamp of what they show already."""
    runs = runs_by_id(workspace, ids)
    known = training_jobs(workspace, ids) if runs else {}
    done = bool(runs) and views.finished(runs)
    states = "/".join(f"{run.id}:{run.state}:{known[run.id].state if run.id in known else ''}" for run in runs)
    stamp = f"{states}|{metrics_stamp(workspace, ids) if runs else ''}|"
    if stamp == seen:
        return [gr.skip(), gr.skip() if done or not runs else views.progress(runs, known), *[gr.skip()] * 6]
    loss, accuracy = views.curves_of(runs, curves(workspace, ids, views.METRICS)) if runs else (None, None)
    return [
        gr.update(visible=bool(runs)),
        views.progress(runs, known),
        gr.update(visible=loss is not None or accuracy is not None),
        drawn(loss),
        drawn(accuracy),
        _outcome(runs) if done else Html(""),
        drawn(views.comparison(runs)) if done else "",
        stamp,
    ]


def _outcome(runs: Sequence[Run]) -> Html:
    said = views.outcome(runs)
    if not said:
        return said
    see = tag("p", link("See the result", f"runs?open={runs[0].experiment or runs[0].id}", "pl-button primary"))
    return tag("div", section("What came out"), said, see, class_="pl-result")
