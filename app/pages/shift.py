"""Shift: what the learned prompt moved inside the model: by class, over the training, block by block, on a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components import shift as views
from app.components.html import Html, empty_state, link, page_title, tag
from app.components.icons import BARS
from app.components.jobs import act_on_job
from app.components.live import live_html, pressed
from app.components.methods import begin_reading
from app.components.plot import plot
from app.components.shift_map_panel import AT_FIRST, MapPanel
from app.components.shift_results import answered, relation_values, shift_values
from app.context import AppContext, Page
from engines.inspection.shift_answers import read_shift
from engines.store import JobState
from engines.store.run_queries import runs_stamp

PAGE = Page(route="shift", title="Shift", order=70, icon="shift")
LEAD = "See what the learned prompt moved inside the model: how far the words, how far the images, and whether in step."


def build(context: AppContext) -> None:
    _ShiftPage(context).listen()


class _ShiftPage:
    """The components of the page, and what listens to them."""

    def __init__(self, context: AppContext) -> None:
        begin_reading()
        self.context, self.workspace = context, context.workspace
        gr.HTML(page_title("Shift", LEAD), apply_default_css=False)
        self.kept = context.remembered("shift", {})
        self.seen = gr.State(())
        self.empty = live_html(tag("p", "One moment …", class_="pl-quiet"))
        with gr.Column(visible=False) as self.body:
            with gr.Row():
                self.dataset = gr.Dropdown([], label="Images", interactive=True, elem_id="shift-dataset")
                self.run = gr.Dropdown([], label="Run", interactive=True, scale=2, elem_id="shift-run")
            with gr.Row(elem_classes="pl-actions"):
                self.go = gr.Button("Measure what moved", variant="primary", elem_id="shift-go")
            self.progress = live_html(elem_id="shift-progress")
            self.sentence = gr.HTML(elem_id="shift-sentence", apply_default_css=False)
            with gr.Column(visible=False) as self.measured:
                self._figures()
            self.map = MapPanel(context, self.run)
            self._relation()
        self.choice = [self.run, self.others]
        self.shift = [self.measured, self.sentence, self.classes]
        self.shift += [self.course_row, self.course, self.no_course, self.depth_row, self.depth, self.no_depth]
        self.shift += [self.most]
        self.results = [*self.shift, self.relation, self.related, *self.map.outputs]

    def _figures(self) -> None:
        _, self.classes = self._figure("classes")
        self.course_row, self.course = self._figure("course")
        self.no_course = gr.HTML(elem_id="shift-no-course", apply_default_css=False)
        self.depth_row, self.depth = self._figure("depth")
        self.no_depth = gr.HTML(elem_id="shift-no-depth", apply_default_css=False)
        guide = views.GUIDES["images"]
        gr.HTML(guide.head(), apply_default_css=False)
        gr.HTML(guide.beside("wide"), apply_default_css=False)
        self.most = gr.HTML(elem_id="shift-most", apply_default_css=False)

    def _relation(self) -> None:
        _, self.relation = self._figure("relation")
        self.related = gr.HTML(elem_id="shift-related", apply_default_css=False)
        with gr.Accordion("Which results are compared", open=False, elem_id="shift-compared"):
            self.others = gr.Dropdown([], label="Results", multiselect=True, interactive=True, elem_id="shift-others")
        with gr.Row(elem_classes="pl-actions"):
            self.go_on = gr.Button("Measure these results", size="sm", elem_id="shift-measure-all")

    def _figure(self, name: str) -> tuple[gr.Row, gr.HTML]:
        """A figure under its title with what to look for beside it, and the row that holds both."""
        gr.HTML(views.GUIDES[name].head(), apply_default_css=False)
        with gr.Row() as row:
            with gr.Column(scale=3, min_width=480):
                found = plot(elem_id=f"shift-{name}")
            with gr.Column(scale=1, min_width=240):
                gr.HTML(views.GUIDES[name].beside(), apply_default_css=False)
        return row, found

    def listen(self) -> None:
        context, asked = self.context, [*self.map.asked, self.others]
        offer = [self.empty, self.body, self.dataset, *self.choice]
        at_work = [self.progress, self.seen]
        everything = [*at_work, *self.results]
        context.on_load(self.begin, self.kept, [*offer, *everything])
        context.listen(self.dataset.input, self.choose_images, [self.dataset, *asked], [*offer, *everything, self.kept])
        context.listen(self.run.input, self.choose, [self.dataset, *asked], [*everything, self.kept])
        related = [self.relation, self.related, self.kept]
        context.listen(self.others.input, self.relate, [self.dataset, *self.choice], related)
        context.listen(self.go.click, self.measure, self.map.which, at_work)
        context.listen(self.go_on.click, self.measure_all, self.choice, at_work)
        self.map.listen(self.follow, at_work)
        context.listen(self.progress.action, self.act, self.run, at_work, every=True)
        context.on_tick(self.keep_up, [self.seen, self.dataset, *asked], [*offer, *everything])

    # --- choosing ---

    def begin(self, kept: Any) -> list[Any]:
        """What was looked into last, or the newest run."""
        offer = self._offer(kept if isinstance(kept, dict) else {})
        run, others = (each["value"] for each in offer[3:])
        return [*offer, *self.follow(run), *self._values(run, *AT_FIRST, others)]

    def choose_images(self, dataset: Any, run: Any, *asked: Any) -> list[Any]:
        offer = self._offer({"dataset": dataset})
        run, others = (each["value"] for each in offer[3:])
        return [*offer, *self.follow(run), *self._values(run, *asked[:-1], others), _kept(dataset, run, others)]

    def choose(self, dataset: Any, run: Any, *asked: Any) -> list[Any]:
        return [*self.follow(run), *self._values(run, *asked), _kept(dataset, run, asked[-1])]

    def relate(self, dataset: Any, run: Any, others: Any) -> list[Any]:
        return [*relation_values(self.workspace, run, others), _kept(dataset, run, others)]

    def _offer(self, kept: dict[str, Any]) -> list[Any]:
        """Values of `empty`, `body`, `dataset`, `run` and `others`: as kept, where it is still there."""
        sets = views.datasets_offered(self.workspace)
        dataset = kept.get("dataset") if kept.get("dataset") in sets else next(iter(sets), None)
        offered, results = (f(self.workspace, dataset) for f in (views.runs_offered, views.results_offered))
        ids, keys = ([value for _, value in each] for each in (offered, results))
        others = kept.get("others") if isinstance(kept.get("others"), list) else keys
        run = kept.get("run") if kept.get("run") in ids else next(iter(ids), None)
        return [
            gr.update(value=_empty(), visible=not ids),
            gr.update(visible=bool(ids)),
            gr.update(choices=sets, value=dataset),
            gr.update(choices=offered, value=run),
            gr.update(choices=results, value=[key for key in others or [] if key in keys]),
        ]

    def _values(self, run: Any, *asked: Any) -> list[Any]:
        """Values of `results` for the controls of the map and, last, the results to compare."""
        related = relation_values(self.workspace, run, asked[-1])
        return [*shift_values(self.workspace, run), *related, *self.map.values(run, *asked[:-1])]

    # --- working ---

    def measure(self, run: Any, *which: Any) -> list[Any]:
        """Queue what is not known yet of the chosen run."""
        begun = [bool(run) and self._look_into([run]), self.map.ask_for(run, *which)]
        if not any(begun):
            gr.Info("All of this was measured already, or is being measured.")
        return self.follow(run)

    def measure_all(self, run: Any, others: Any) -> list[Any]:
        """Queue all runs of the results to compare that are not measured yet."""
        if not self._look_into(views.runs_of(self.workspace, others)):
            gr.Info("All of these were measured already, or are being measured.")
        return self.follow(run)

    def _look_into(self, run_ids: Sequence[str]) -> bool:
        """Queue the runs that are neither measured nor being measured; whether there were any."""
        under_way = views.being_measured(self.workspace)
        unknown = [each for each in run_ids if each not in under_way and read_shift(self.workspace, each) is None]
        if unknown:
            self.context.submit("inspect_shift", {"run_ids": unknown}, run_id=unknown[0])
        return bool(unknown)

    def act(self, run: Any, event: gr.EventData) -> list[Any]:
        """Cancel a job on show, or try it again."""
        name, job_id = pressed(event)
        if job_id in [job.id for job in views.jobs_of(self.workspace, str(run))]:
            act_on_job(self.workspace, name, job_id)
        return self.follow(run)

    def follow(self, run: Any) -> list[Any]:
        """Values of `progress` and `seen`: jobs on show; what changes when a run is done, and when a job ends."""
        found = views.jobs_of(self.workspace, run) if isinstance(run, str) else []
        stopped = any(job.state in (JobState.FAILED, JobState.CANCELLED) for job in found)
        known = answered(self.workspace, run) if stopped else set()
        return [views.working(found, known), (runs_stamp(self.workspace), views.stamp(found))]

    def keep_up(self, seen: Any, dataset: Any, run: Any, *asked: Any) -> list[Any]:
        """Follow the jobs; show what they found, and offer runs that are done since the page was opened."""
        shown, now = self.follow(run)
        offer, values = [gr.skip()] * 5, [gr.skip()] * len(self.results)
        runs, ended = seen or now
        first = run
        if now[0] != runs:
            offer = self._offer({"dataset": dataset, "run": run, "others": asked[-1] if run else None})
            first = offer[3]["value"]
        if now[1] != ended or first != run:
            values = self._values(first, *asked)
        return [*offer, shown, now, *values]


def _empty() -> Html:
    return empty_state(
        BARS,
        "What a prompt moved will stand here. Train one first.",
        link("Train", "train", "pl-button primary"),
    )


def _kept(dataset: Any, run: Any, others: Any) -> dict[str, Any]:
    """What this browser remembers."""
    return {"dataset": dataset, "run": run, "others": others or []}
