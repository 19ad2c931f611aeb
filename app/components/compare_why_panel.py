"""The folded part of a comparison: it is worked out when somebody opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app.components import compare_figures as figures
from app.components import compare_why as views
from app.components.compare import Compared, together
from app.components.html import Html, section, tag
from app.components.jobs import act_on_job, progress
from app.components.live import live_html, pressed
from app.components.plot import drawn, plot
from app.context import AppContext
from engines.store import Job

SURE = "An answer of 0.90 should be right nine times of ten. Above the line a prompt is too careful, below it too sure."
SAY = "The real words nearest to what was learned, and how words and images of the classes lie to each other."


class WhyPanel:
    """How sure the results are, who answers alike, and what the prompts say."""

    def __init__(self, context: AppContext) -> None:
        self.context, self.workspace = context, context.workspace
        self.open, self.job = gr.State(False), gr.State("")
        title = "How sure they are, and what the prompts say"
        with gr.Accordion(title, open=False, elem_id="compare-why") as self.fold:
            gr.HTML(section("How sure they are", SURE), apply_default_css=False)
            with gr.Row():
                self.reliability = plot(elem_id="compare-reliability")
                self.alike = plot(elem_id="compare-alike")
            self.errors = gr.HTML(elem_id="compare-errors", apply_default_css=False)
            gr.HTML(section("What the prompts say", SAY), apply_default_css=False)
            self.progress = live_html(elem_id="compare-reading")
            with gr.Row():
                self.before, self.after = plot(elem_id="compare-before"), plot(elem_id="compare-after")
            self.words = live_html(elem_id="compare-words")
        self.shown = [self.reliability, self.alike, self.errors, self.before, self.after, self.words]

    def listen(
        self,
        chosen: Sequence[Any],
        found: Callable[[Any, Any], list[Compared]],
        names: Callable[[Any], list[str]],
    ) -> None:
        """`chosen` are the components of data set and results."""

        def show(dataset: Any, keys: Any) -> list[Any]:
            return self.values(found(dataset, keys), names(dataset))

        def follow(dataset: Any, keys: Any, is_open: bool) -> list[Any]:
            return show(dataset, keys) if is_open else [gr.skip()] * len(self.shown)

        context, asked = self.context, list(chosen)
        context.listen(self.fold.expand, lambda *values: [True, *show(*values)], asked, [self.open, *self.shown])
        context.listen(self.fold.collapse, lambda: False, None, self.open)
        for part in chosen:
            context.listen(part.change, follow, [*asked, self.open], self.shown)

        def read(dataset: Any, keys: Any, event: gr.EventData) -> Any:
            _, missing = views.words_of(self.workspace, found(dataset, keys))
            if pressed(event)[0] != "read" or not missing:
                return gr.skip()
            return context.submit("inspect_words", {"run_ids": missing})

        def tick(dataset: Any, keys: Any, job_id: str) -> list[Any]:
            if not job_id:
                return [gr.skip()] * (2 + len(self.shown))
            job = self._job(job_id)
            if job is None or job.state.ended:
                failed = progress(job, controls=False) if job is not None and job.error else Html("")
                return [failed, "", *show(dataset, keys)]
            return [progress(job), job_id, *[gr.skip()] * len(self.shown)]

        context.listen(self.words.action, read, asked, self.job)
        context.listen(self.progress.action, self.act, self.job, self.job)
        context.on_tick(tick, [*asked, self.job], [self.progress, self.job, *self.shown])

    def act(self, job_id: str, event: gr.EventData) -> Any:
        """Cancel the reading, or try it again."""
        name, value = pressed(event)
        if not value.isalnum():
            return gr.skip()
        act_on_job(self.workspace, name, value)
        return job_id or gr.skip()

    def values(self, found: Sequence[Compared], names: Sequence[str]) -> list[Any]:
        if not found:
            return [drawn(None), drawn(None), Html(""), drawn(None), drawn(None), Html("")]
        _, rows = together(self.workspace, found)
        if not rows:
            nothing = tag("p", "These results have left no answers for single images.", class_="pl-quiet")
            sure: list[Any] = [drawn(None), drawn(None), nothing]
        else:
            told = views.calibrated(found, rows)
            errors = views.calibration_table(told, len(found) - len(told), names)
            sure = [drawn(views.reliability_of(told)), drawn(figures.alike_map(found, rows)), errors]
        said, missing = views.words_of(self.workspace, found)
        return [*sure, *map(drawn, views.similarity_maps(said)), views.words_shown(said, missing)]

    def _job(self, job_id: str) -> Job | None:
        with self.workspace.session() as session:
            return session.get(Job, job_id)
