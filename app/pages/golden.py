"""Golden noise: pairs of images that differ in their starting noise alone, a network that learns better noise, and
whether it helps."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components import golden as views
from app.components import golden_judge as judged
from app.components import golden_results as results
from app.components import golden_vote as vote
from app.components.golden_form import KEPT_PROMPTS, CollectForm, SettingsForm, head, read_prompts, sample_prompts
from app.components.golden_results import NO_VIEW
from app.components.html import Html, page_title, tag
from app.components.jobs import act_on_job
from app.components.live import live_html, pressed
from app.components.plot import plot
from app.context import AppContext, Page
from engines.diffusion.golden.export import PARTS
from engines.diffusion.golden.settings import JudgeSettings, NetworkSettings
from engines.diffusion.golden.study import Study, by_id, golden_folder, studies
from engines.diffusion.places import text_to_image_models
from engines.errors import ConfigError

PAGE = Page(route="golden", title="Golden noise", order=90, icon="golden-noise", keys=vote.KEYS)
COLLECT, TRAIN, JUDGE, EXPORT = views.KINDS


def build(context: AppContext) -> None:
    GoldenPage(context).listen()


class GoldenPage:
    """The components of the page, and what listens to them."""

    def __init__(self, context: AppContext) -> None:
        self.context, self.workspace = context, context.workspace
        gr.set_static_paths([str(golden_folder(self.workspace))])
        gr.HTML(page_title("Golden noise", views.LEAD), apply_default_css=False)
        gr.HTML(tag("p", views.EXPLAINED, class_="pl-lead"), apply_default_css=False)
        self.empty = gr.HTML(elem_id="golden-empty", apply_default_css=False)
        self.kept = context.remembered("golden", {})
        self.seen = gr.State({})
        self.pairs_view, self.judged_view = gr.State(NO_VIEW), gr.State(NO_VIEW)
        self._collecting()
        with gr.Column(visible=False) as self.training:
            self._training()
        with gr.Column(visible=False) as self.judging:
            self._judging()
        with gr.Column(visible=False) as self.taking:
            self._taking()
        self.progress = [self.collect_progress, self.train_progress, self.judge_progress, self.export_progress]
        self.told = [self.verdict, self.scatter, self.images, self.rival]
        self.parts: list[Any] = [self.pairs, self.curve_said, self.curve, *self.told, self.votes]
        self.columns = [self.training, self.judging, self.taking]
        self.show: list[Any] = [self.seen, *self.progress, *self.columns, *self.parts]
        self.looking: list[Any] = [self.form.study, self.pairs_view, self.judged_view, self.rival]

    def _collecting(self) -> None:
        head(
            1,
            "Pairs",
            "Choose a model and prompts; each prompt gets an image of ordinary noise and one of golden noise.",
        )
        self.form = CollectForm(self.workspace)
        with gr.Row(elem_classes="pl-actions"):
            self.collect = gr.Button("Collect pairs", variant="primary", elem_id="golden-collect")
        self.collect_progress = live_html(elem_id="golden-collect-progress")
        self.pairs = live_html(elem_id="golden-pairs")

    def _training(self) -> None:
        head(2, "NPNet", "A small network learns from the pairs to turn noise into golden noise, for any prompt.")
        self.train_form = SettingsForm(NetworkSettings, "golden-train", without=["margin"])
        self.all_pairs = gr.Checkbox(
            False,
            label="Learn from all pairs",
            info="Otherwise only from those whose golden image was judged better.",
            interactive=True,
            elem_id="golden-all-pairs",
        )
        with gr.Row(elem_classes="pl-actions"):
            self.train = gr.Button("Train NPNet", variant="primary", elem_id="golden-train")
        self.train_progress = live_html(elem_id="golden-train-progress")
        self.curve_said = gr.HTML(elem_id="golden-curve-said", apply_default_css=False)
        self.curve = plot(elem_id="golden-curve")

    def _judging(self) -> None:
        head(
            3,
            "Judge",
            "Standard noise, golden noise and NPNet on the same prompts, with noises that nobody learnt from.",
        )
        self.judge_form = SettingsForm(JudgeSettings, "golden-judge")
        with gr.Accordion("Judge with other prompts", open=False, elem_id="golden-judge-more"):
            self.judge_prompts = gr.Textbox(
                label="Prompts to judge with, one a line",
                info="Left empty: those that NPNet did not learn from; without an NPNet, those of the pairs.",
                lines=4,
                elem_id="golden-judge-prompts",
            )
        with gr.Row(elem_classes="pl-actions"):
            self.judge = gr.Button("Judge", variant="primary", elem_id="golden-judge")
        self.judge_progress = live_html(elem_id="golden-judge-progress")
        # Above what tells which image is which: that is hidden while somebody votes.
        self.votes = live_html(elem_id="golden-votes")
        self.verdict = gr.HTML(elem_id="golden-verdict", apply_default_css=False)
        self.scatter = plot(elem_id="golden-scatter")
        self.rival = gr.Radio(
            [(judged.TITLES[kind], kind) for kind in ("golden", "NPNet")],
            value="golden",
            label="Lay over standard noise",
            interactive=True,
            visible=False,
            elem_id="golden-rival",
        )
        self.images = live_html(elem_id="golden-images")

    def _taking(self) -> None:
        head(4, "Take it away", "One ZIP file with a card that says how everything was made, and what came out.")
        self.export_parts = gr.CheckboxGroup(
            [(title, part) for part, title in PARTS.items()],
            value=list(PARTS),
            label="What goes into it",
            interactive=True,
            elem_id="golden-export-parts",
        )
        with gr.Row(elem_classes="pl-actions"):
            self.export = gr.Button("Export", elem_id="golden-export")
        self.export_progress = live_html(elem_id="golden-export-progress")

    def listen(self) -> None:
        context, form = self.context, self.form
        everything = [self.empty, *form.parts, *self.show]
        context.on_load(self.begin, self.kept, everything)
        fresh = [*form.parts, *self.show, self.pairs_view, self.judged_view, self.kept]
        context.listen(form.study.input, self.choose, [form.study, self.kept], fresh)
        written = [form.study, form.model, form.scorer, form.prompts]
        for part in (form.model, form.scorer, form.prompts):
            context.listen(part.input, _kept, written, self.kept)
        quietly = {"show_progress": "hidden", "api_visibility": "private"}
        for filled in (
            context.listen(form.samples.click, sample_prompts, None, form.prompts),
            context.listen(form.file.upload, read_prompts, form.file, form.prompts),
        ):
            filled.then(_kept, written, self.kept, **quietly)
        context.listen(self.collect.click, self.begin_collecting, form.parts, [form.study, self.kept]).success(
            self.redraw, self.looking, self.show, **quietly
        )
        given = [form.study, self.all_pairs, *self.train_form.parts]
        context.listen(self.train.click, self.begin_training, given, self.train_progress)
        given = [form.study, self.judge_prompts, *self.judge_form.parts]
        context.listen(self.judge.click, self.begin_judging, given, self.judge_progress)
        context.listen(self.export.click, self.begin_export, [form.study, self.export_parts], self.export_progress)
        for part in self.progress:
            context.listen(part.action, self.act, form.study, self.progress, every=True)
        looked = [self.pairs_view, self.pairs], [self.judged_view, self.images]
        context.listen(self.pairs.action, self.look_at_pairs, self.looking, looked[0], every=True)
        context.listen(self.images.action, self.look_at_images, self.looking, looked[1], every=True)
        context.listen(self.rival.input, self.draw_images, self.looking, self.images)
        context.listen(self.votes.action, self.vote, self.looking, [self.votes, *self.told], every=True)
        context.on_tick(self.follow, [self.seen, *self.looking], self.show)

    # --- choosing ---

    def begin(self, kept: Any) -> list[Any]:
        """The collection that this browser looked at last, or the newest one."""
        kept = kept if isinstance(kept, dict) else {}
        wanted = kept.get("study")
        study = self._study(wanted) if wanted is not None else next(iter(studies(self.workspace)), None)
        empty = Html("") if text_to_image_models() else views.no_model()
        return [
            empty,
            *self.form.offer(kept, study),
            *results.values(self.workspace, {}, study, NO_VIEW, NO_VIEW, "golden"),
        ]

    def choose(self, study_id: Any, kept: Any) -> list[Any]:
        kept = (kept if isinstance(kept, dict) else {}) | {"study": str(study_id or "")}
        study = self._study(study_id)
        shown = results.values(self.workspace, {}, study, NO_VIEW, NO_VIEW, "golden")
        return [*self.form.offer(kept, study), *shown, NO_VIEW, NO_VIEW, kept]

    # --- working ---

    def begin_collecting(self, *values: Any) -> list[Any]:
        """Queue the collection of what the form asks for."""
        study_id = str(values[0] or "")
        if views.at_work(views.jobs_of(self.workspace, study_id), COLLECT):
            raise ConfigError("Pairs of this collection are being made already.", "Wait, or cancel it first.")
        study = self.form.asked(values)
        self.context.submit(COLLECT, {"study": study.id})
        known = self.form.offer({}, study)
        return [known[0], _kept(study.id, values[1], values[2], values[5])]

    def begin_training(self, study_id: Any, all_pairs: Any, *values: Any) -> Html:
        settings = self.train_form.chosen(values) | ({"margin": None} if all_pairs else {})
        return self._submit(TRAIN, study_id, settings=settings)

    def begin_judging(self, study_id: Any, prompts: Any, *values: Any) -> Html:
        return self._submit(JUDGE, study_id, prompts=str(prompts or ""), settings=self.judge_form.chosen(values))

    def begin_export(self, study_id: Any, parts: Any) -> Html:
        if not parts:
            raise ConfigError("Nothing is chosen to be exported.", "Tick images, pairs or NPNet.")
        return self._submit(EXPORT, study_id, parts=[part for part in PARTS if part in parts])

    def _submit(self, kind: str, study_id: Any, **payload: Any) -> Html:
        study = self._study(study_id)
        if study is None:
            raise ConfigError("There is no collection yet.", "Collect pairs first.")
        if views.at_work(views.jobs_of(self.workspace, study.id), kind):
            raise ConfigError("This is being done already.", "Wait until it has ended, or cancel it.")
        self.context.submit(kind, {"study": study.id, **payload})
        return views.working(views.jobs_of(self.workspace, study.id), kind)

    def act(self, study_id: Any, event: gr.EventData) -> list[Any]:
        """Cancel a job on show, or try it again."""
        name, job_id = pressed(event)
        if job_id in [job.id for job in views.jobs_of(self.workspace, str(study_id or ""))]:
            act_on_job(self.workspace, name, job_id)
        return results.progress(self.workspace, self._study(study_id))

    # --- looking ---

    def look_at_pairs(self, study_id: Any, view: Any, _judged: Any, _rival: Any, event: gr.EventData) -> list[Any]:
        view = results.turned(view, event)
        return [view, results.pairs(self.workspace, self._study(study_id), view)]

    def look_at_images(self, study_id: Any, _pairs: Any, view: Any, rival: Any, event: gr.EventData) -> list[Any]:
        view = results.turned(view, event)
        return [view, results.images(results.judgement(self._study(study_id)), view, rival)]

    def draw_images(self, study_id: Any, _pairs: Any, view: Any, rival: Any) -> Html:
        return results.images(results.judgement(self._study(study_id)), view, rival)

    def vote(self, study_id: Any, _pairs: Any, view: Any, rival: Any, event: gr.EventData) -> list[Any]:
        """Begin a round, vote, take a vote back, or end the round; what tells which is which is hidden meanwhile."""
        judgement = results.judgement(self._study(study_id))
        if judgement is None:
            return [gr.skip()] * 5
        before = vote.open_round(judgement)
        vote.answer(judgement, *pressed(event))
        after = vote.open_round(judgement)
        changed = results.told(judgement, view, rival) if before != after else [gr.skip()] * 4
        return [vote.voting(judgement), *changed]

    def redraw(self, *looking: Any) -> list[Any]:
        return self.follow({}, *looking)

    def follow(self, seen: Any, study_id: Any, *looking: Any) -> list[Any]:
        """Jobs, and of the rest only what has changed since `seen`."""
        return results.values(self.workspace, seen if isinstance(seen, dict) else {}, self._study(study_id), *looking)

    def _study(self, study_id: Any) -> Study | None:
        """The collection of that id; what the browser sent may be anything."""
        return by_id(self.workspace, study_id) if isinstance(study_id, str) else None


def _kept(study: Any, model: Any, scorer: Any, prompts: Any) -> dict[str, Any]:
    """What this browser remembers."""
    return {"study": study or "", "model": model, "scorer": scorer, "prompts": str(prompts or "")[:KEPT_PROMPTS]}
