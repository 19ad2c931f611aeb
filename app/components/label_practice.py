"""A copy to practise on: asked for on the Label page, made by a job, opened when it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app.components.html import Html, tag
from app.components.jobs import progress
from app.components.label_desk import existing
from app.components.live import live_html, pressed
from app.context import AppContext
from engines import jobs
from engines.store import Job, JobState
from engines.store.browse import get_jobs

COPY = "practice_copy"


class Practice:
    """How far the copy is, below the offer to make one."""

    def __init__(self, context: AppContext, dataset: gr.BrowserState, name: gr.BrowserState) -> None:
        self.context, self.dataset, self.name = context, dataset, name
        self.awaited = context.remembered("label-practice", "")
        self.said = live_html(elem_id="label-copying")

    def listen(self, offer: gr.HTML, opened: Sequence[Any], open_copy: Callable[[int, Any], list[Any]]) -> None:
        """`offer` has the button “practise”; `opened` is what `open_copy(data set, reader)` fills."""
        self.opened, self.open_copy = list(opened), open_copy
        shown = [self.awaited, self.said]
        for place in (offer, self.said):
            self.context.listen(place.action, self.act, [self.dataset, self.awaited], shown, every=True)
        self.context.on_tick(self.follow, [self.dataset, self.name, self.awaited], [*shown, *self.opened])

    def act(self, dataset: Any, awaited: Any, event: gr.EventData) -> list[Any]:
        """Begin, cancel or repeat the copy.

        Raises:
            DataError: no data set is chosen.
        """
        what, value = pressed(event)
        job = self._job(awaited)
        if what == "practise":
            if job is None or job.state.ended:
                awaited = self.context.submit(COPY, {"dataset_id": existing(self.context.workspace, dataset)})
        elif job is not None and job.id == value and what == "cancel":
            jobs.cancel(self.context.workspace, value)
        elif job is not None and job.id == value and what == "retry":
            awaited = jobs.retry(self.context.workspace, value)
        else:
            return [gr.skip(), gr.skip()]
        return [awaited, _block(self._job(awaited))]

    def follow(self, dataset: Any, name: Any, awaited: Any) -> list[Any]:
        """How far it is; the copy itself, once it is there and nobody has turned to other images meanwhile."""
        still = [gr.skip()] * len(self.opened)
        if not awaited:
            return [gr.skip(), gr.skip(), *still]
        job = self._job(awaited)
        if job is None or job.payload.get("dataset_id") != dataset or job.state is JobState.CANCELLED:
            return ["", "", *still]
        if job.state is JobState.DONE:
            return ["", "", *self.open_copy(int(job.result["dataset_id"]), name)]
        return [gr.skip(), _block(job), *still]

    def _job(self, awaited: Any) -> Job | None:
        found = get_jobs(self.context.workspace, [str(awaited)]) if awaited else []
        return next((job for job in found if job.kind == COPY), None)


def _block(job: Job | None) -> Html:
    return tag("div", progress(job), class_="pl-card") if job is not None else Html("")
