"""Jobs: what runs, what waits, what is done, and why something failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import gradio as gr

from app.components.html import Html, empty_state, join, link, page_title, tag
from app.components.icons import QUEUE
from app.components.jobs import act_on_job, progress
from app.components.live import live_html, pressed
from app.context import AppContext, Page
from engines import jobs
from engines.store import Job, Workspace
from engines.store.browse import jobs_page

PAGE = Page(route="jobs", title="Jobs", order=110)
LEAD = "Long work runs in the background: leave the page or close the browser, it goes on."
CHOICES = [("All", "all"), ("Running and waiting", "running"), ("Finished", "finished")]
PAGE_SIZE = 25
MOST = 500
LOG_LINES = 200


def build(context: AppContext) -> None:
    workspace = context.workspace
    gr.HTML(page_title("Jobs", LEAD), apply_default_css=False)
    which = gr.Radio(CHOICES, value="all", show_label=False, container=False, elem_id="jobs-which")
    listing = live_html(elem_id="jobs-list")
    length, log = gr.State(PAGE_SIZE), gr.State("")
    inputs = [which, length, log]

    def look(chosen: Any, count: Any, log_of: Any) -> Html:
        return draw(workspace, _which(chosen), int(count), str(log_of or ""))

    def choose(chosen: Any, log_of: Any) -> Sequence[Any]:
        return PAGE_SIZE, look(chosen, PAGE_SIZE, log_of)

    def act(event: gr.EventData, chosen: Any, count: Any, log_of: Any) -> Sequence[Any]:
        name, value = pressed(event)
        if name == "log":
            log_of = "" if log_of == value else value
        elif name == "more":
            count = min(int(count) + PAGE_SIZE, MOST)
        else:
            act_on_job(workspace, name, value)
        return count, log_of, look(chosen, count, log_of)

    context.on_load(look, inputs, listing)
    context.on_tick(look, inputs, listing)
    context.listen(which.input, choose, [which, log], [length, listing])
    context.listen(listing.action, act, inputs, [length, log, listing], every=True)


def draw(workspace: Workspace, which: Literal["all", "running", "finished"], count: int, log_of: str) -> Html:
    """The list of at most `count` jobs, with the log of job `log_of` unfolded."""
    found = jobs_page(workspace, which, limit=count + 1)
    if not found:
        return _nothing(which)
    more = (
        tag("button", "Show more", type="button", class_="pl-button small", data_action="more")
        if len(found) > count
        else ""
    )
    rows = (join([progress(job, log=True), _log(workspace, job) if job.id == log_of else ""]) for job in found[:count])
    return tag("div", *rows, more, class_="pl-card pl-jobs")


def _log(workspace: Workspace, job: Job) -> Html:
    text = jobs.job_log(workspace, job.id, LOG_LINES)
    return tag(
        "div",
        tag("pre", text or "The job has written nothing yet.", class_="pl-log", tabindex="0"),
    )


def _nothing(which: str) -> Html:
    if which == "running":
        return empty_state(QUEUE, "Nothing is running or waiting.")
    sentence = "Imports, trainings and exports will be listed here with how far they are."
    return empty_state(QUEUE, sentence, link("Bring in images", "data", "pl-button primary"))


def _which(chosen: Any) -> Literal["all", "running", "finished"]:
    return chosen if chosen in ("running", "finished") else "all"
