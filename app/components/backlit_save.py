"""The part of the Backlit page that saves: this photo or all of them, as a job that may be left alone."""

from __future__ import annotations

from typing import Any

import gradio as gr
from sqlalchemy import select

from app.components import backlit as views
from app.components.html import Html
from app.components.jobs import act_on_job, progress
from app.components.live import live_html, pressed
from app.context import AppContext
from engines.enhance.choices import choices, new_results_folder
from engines.enhance.groups import read_group
from engines.errors import ConfigError, DataError
from engines.store import Job

KINDS = [("PNG (16 bits become TIFF)", "png"), ("TIFF", "tif")]


class SavePanel:
    """Components; `kept` is the id of the job on show, which the browser remembers."""

    def __init__(self, context: AppContext) -> None:
        self.context, self.workspace = context, context.workspace
        gr.HTML(views.HEAD, apply_default_css=False)
        self.kept = context.remembered("backlit-save", "")
        self.seen = gr.State("")
        with gr.Row():
            self.kind = gr.Radio(KINDS, value="png", label="Kind of file", elem_id="backlit-kind")
            self.native = gr.Checkbox(
                False,
                label="Light maps at full size",
                info="Much slower, and hardly to be told from the usual way. Only for light-map networks.",
                elem_id="backlit-native",
            )
        with gr.Row(elem_classes="pl-actions"):
            self.one = gr.Button("Save this photo", variant="primary", elem_id="backlit-save")
            self.all = gr.Button("Save all photos", elem_id="backlit-save-all")
        self.progress = live_html(elem_id="backlit-progress")
        self.result = gr.HTML(elem_id="backlit-saved", apply_default_css=False)

    def listen(self, asked: list[Any]) -> None:
        """`asked`: components of group, place, left and right method, strength and consent."""
        context, shown = self.context, [self.progress, self.result, self.seen]

        def begin(one: bool) -> Any:
            def submit(*given: Any) -> list[Any]:
                job_id = self.submit(one, *given)
                return [job_id, *self.follow(job_id)]

            return submit

        given = [*asked, self.kind, self.native]
        context.listen(self.one.click, begin(True), given, [self.kept, *shown])
        context.listen(self.all.click, begin(False), given, [self.kept, *shown])
        context.listen(self.progress.action, self.act, self.kept, [self.kept, *shown], every=True)
        context.on_load(self.follow, self.kept, shown)
        context.on_tick(self.keep_up, [self.kept, self.seen], shown)

    def submit(
        self,
        one: bool,
        group: Any,
        place: int,
        left: str,
        right: str,
        strength: float,
        consent: bool,
        kind: str,
        native: bool,
    ) -> str:
        """Queue the photo on show, or all of its group, with the method on the right (else the left one)."""
        method = right or left
        if not group:
            raise DataError("There is no photo yet.", "Drop one above.")
        if method not in [each.name for each in choices(self.workspace)]:
            raise ConfigError("Both sides show the photo as it is.", "Choose a method on the right.")
        photos = read_group(self.workspace, str(group)).photos
        chosen = photos[place : place + 1] if one else photos
        return self.context.submit(
            "enhance-photos",
            {
                "photos": [str(each) for each in chosen],
                "methods": [method],
                "out": new_results_folder(),
                "strength": strength,
                "kind": kind,
                "native": bool(native),
                "measurements": bool(consent),
            },
        )

    def act(self, job_id: Any, event: gr.EventData) -> list[Any]:
        """Cancel the job on show, or try it again."""
        name, value = pressed(event)
        if value and value == job_id:
            act_on_job(self.workspace, name, value)
        if name == "retry" and value == job_id:
            job_id = self._newest()
        return [job_id, *self.follow(job_id)]

    def follow(self, job_id: Any) -> list[Any]:
        """Values of the progress, the result, and what they show; the last is left to the clock.

        An answer of the clock that was on its way may come behind this one, and must not stay.
        """
        job = self._job(job_id)
        return [progress(job), views.saved(job), ""] if job is not None else [Html(""), Html(""), ""]

    def keep_up(self, job_id: Any, seen: str) -> list[Any]:
        job = self._job(job_id)
        if job is None:
            return [gr.skip()] * 3
        now = f"{job.id}-{job.state.value}-{job.progress}-{job.message}-{job.cancel_requested}"
        return [gr.skip()] * 3 if now == seen else [*self.follow(job_id)[:-1], now]

    def _job(self, job_id: Any) -> Job | None:
        if not isinstance(job_id, str) or not job_id:
            return None
        with self.workspace.session() as session:
            job = session.get(Job, job_id)
        return job if job is not None and job.kind == "enhance-photos" else None

    def _newest(self) -> str:
        with self.workspace.session() as session:
            newest = select(Job.id).where(Job.kind == "enhance-photos").order_by(Job.created_at.desc()).limit(1)
            return session.scalar(newest) or ""
