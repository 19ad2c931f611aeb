"""Train: choose images, method and settings, see what it will cost, watch it, read what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import gradio as gr

from app.components import training as views
from app.components.choices import (
    DEFAULTS,
    PROTOCOLS,
    SEEDS,
    SHOTS,
    backbone_choices,
    checked,
    request_of,
    settings_fields,
)
from app.components.following import act_on, follow, run_ids, still_there
from app.components.forms import Field, build_form, collect, told_on_field
from app.components.html import Html, notice, page_title, section, tag
from app.components.live import live_html, pressed
from app.components.methods import begin_reading, methods
from app.components.offers import (
    cards,
    fitting_targets,
    no_images,
    protocols_for,
    target_choices,
    trainable_datasets,
)
from app.components.plot import plot
from app.components.results import estimate_sentence
from app.context import AppContext, Page, tell_errors
from engines.errors import ConfigError, PromptloupeError
from engines.jobs.kinds.train import submit_training
from engines.prompts.catalog import MethodEntry
from engines.runs.request import TrainRequest
from engines.store.run_queries import runs_by_id, training_jobs

PAGE = Page(route="train", title="Train", order=40)
LEAD = "Teach the model your classes from a few labelled images, and see whether that beats a ready-made prompt."
CHOICES = len(DEFAULTS) - 1
"""Components of the choice before those of the settings form."""
NO_LABEL = "It learns no label from these."
OTHER_THINGS = "Images to find defects in that it never saw. None chosen: its own images that were set aside."
HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(context: AppContext) -> None:
    _TrainPage(context).listen()


class _TrainPage:
    """The components of the page, in three zones, and what listens to them."""

    def __init__(self, context: AppContext) -> None:
        begin_reading()
        self.context, self.workspace = context, context.workspace
        gr.HTML(page_title("Train", LEAD), apply_default_css=False)
        self.choice = context.remembered("choice", DEFAULTS)
        self.watched = context.remembered("training", [])
        self.method, self.form = gr.State(DEFAULTS["method"]), gr.State({})
        self.empty = live_html(tag("p", "One moment …", class_="pl-quiet"))
        with gr.Column(elem_id="train-choices", visible=False) as self.chosen:
            self._choices()
            self.estimate = gr.HTML(_quiet("Working out how long it takes …"), apply_default_css=False)
            self.start = gr.Button("Start training", variant="primary", elem_id="train-start", scale=0)
        self._what_happens()

    def _choices(self) -> None:
        self.dataset = gr.Dropdown(
            [],
            label="Images",
            info="The data set to learn from and to test on.",
            interactive=True,
            elem_id="train-dataset",
        )
        self.cards = live_html(elem_id="train-methods")
        with gr.Row():
            self.shots = gr.Radio(
                list(SHOTS.items()),
                value=DEFAULTS["shots"],
                label="Labelled images per class (shots)",
                info="How many it may learn from.",
                interactive=True,
                elem_id="train-shots",
            )
            self.seeds = gr.Radio(
                list(SEEDS.items()),
                value=DEFAULTS["seeds"],
                label="Repeat (seeds)",
                info="Every repeat draws other images: that shows how much is luck.",
                interactive=True,
                elem_id="train-seeds",
            )
            self.protocol = gr.Radio(
                list(PROTOCOLS.items())[:2],
                value=DEFAULTS["protocol"],
                label="Test it (protocol)",
                info="With images it never learned from.",
                interactive=True,
                elem_id="train-protocol",
            )
        self.targets = gr.Dropdown(
            [],
            label="Test on",
            info=NO_LABEL,
            multiselect=True,
            interactive=True,
            visible=False,
            elem_id="train-targets",
        )
        with gr.Accordion("Model and settings: the paper’s are filled in", open=False, elem_id="train-settings"):
            self.backbone = gr.Dropdown(
                [("mini-CLIP", "mini-clip")],
                value=DEFAULTS["backbone"],
                label="Model",
                info="What looks at the images and reads the words. Type a name to use one that is not listed.",
                allow_custom_value=True,
                interactive=True,
                elem_id="train-backbone",
            )
            self.slot = gr.Column()

    def _what_happens(self) -> None:
        self.heading = gr.HTML(section("What happens"), visible=False, apply_default_css=False)
        self.progress = live_html(elem_id="train-progress")
        with gr.Row(visible=False) as self.plots:
            self.loss, self.accuracy = plot(elem_id="train-loss"), plot(elem_id="train-accuracy")
        self.outcome = gr.HTML(elem_id="train-outcome", apply_default_css=False)
        self.bars = plot(elem_id="train-bars")
        self.stamp = gr.State("")
        self.following = [self.heading, self.progress, self.plots, self.loss, self.accuracy, self.outcome, self.bars]
        self.following.append(self.stamp)

    def listen(self) -> None:
        context, workspace = self.context, self.workspace
        options = [self.dataset, self.backbone, self.cards, self.shots, self.seeds, self.protocol, self.targets]
        restored = [self.empty, self.chosen, *options, self.method, self.form, self.watched, *self.following]
        context.on_load(self.restore, [self.choice, self.watched], restored)
        context.listen(
            self.cards.action, self.choose, [self.dataset, self.method], [self.cards, self.method], every=True
        )
        # The settings form, once drawn, listens to `change` of these too, and Gradio then forgets those who did before.
        other_images, other_model = (
            [self.dataset.change, self.dataset.input],
            [self.backbone.change, self.backbone.input],
        )
        gr.on(
            [*other_images, *other_model],
            tell_errors(self.look_again),
            [self.dataset, self.backbone, self.method],
            self.cards,
            trigger_mode="always_last",
            **HIDDEN,
        )
        gr.on(
            [*other_images, self.method.change, self.protocol.change],
            tell_errors(self.offer),
            [self.dataset, self.method, self.protocol, self.targets],
            [self.protocol, self.targets, self.shots],
            trigger_mode="always_last",
            **HIDDEN,
        )
        redraw = [self.form.change, self.method.change, self.shots.change, self.protocol.change]
        with self.slot:
            shown_for = [self.method, self.shots, self.protocol, self.form]
            gr.render(shown_for, triggers=redraw, show_progress="hidden")(self.settings_form)

        def look(ids: Any, seen: str) -> list[Any]:
            return follow(workspace, run_ids(ids), seen)

        def act(ids: Any, event: gr.EventData) -> Html:
            act_on(workspace, run_ids(ids), *pressed(event))
            return views.progress(runs_by_id(workspace, run_ids(ids)), training_jobs(workspace, run_ids(ids)))

        context.on_tick(look, [self.watched, self.stamp], self.following)
        context.on_tick(self.await_images, self.dataset, [self.empty, self.chosen, self.dataset])
        context.listen(self.progress.action, act, self.watched, self.progress, every=True)

    # --- what was chosen ----------------------------------------------------------

    def restore(self, remembered: Any, ids: Any) -> list[Any]:
        """What was chosen last, and the training that runs or ran last."""
        value, ids = checked(remembered), still_there(self.workspace, ids)
        sets = trainable_datasets(self.workspace)
        known = list(sets.values())
        value["dataset_id"] = value["dataset_id"] if value["dataset_id"] in known else next(iter(known), None)
        protocol, targets, shots = self.offer(*(value[k] for k in ("dataset_id", "method", "protocol", "targets")))
        return [
            gr.update(value=no_images(self.workspace), visible=not sets),
            gr.update(visible=bool(sets)),
            gr.update(choices=list(sets.items()), value=value["dataset_id"]),
            gr.update(choices=backbone_choices(value["backbone"]), value=value["backbone"]),
            cards(self.workspace, value["dataset_id"], value["method"], {}),
            shots | {"value": value["shots"]},
            value["seeds"],
            protocol,
            targets,
            value["method"],
            {"values": value["settings"], "drawn": uuid4().hex},
            ids,
            *follow(self.workspace, ids, ""),
        ]

    def await_images(self, dataset_id: Any) -> list[Any]:
        """Show the choices as soon as there are images, and until then how far those are that are on their way."""
        if dataset_id is not None:
            return [gr.skip()] * 3
        sets = trainable_datasets(self.workspace)
        if not sets:
            return [no_images(self.workspace), gr.skip(), gr.skip()]
        first = next(iter(sets.values()))
        return [gr.update(visible=False), gr.update(visible=True), gr.update(choices=list(sets.items()), value=first)]

    def choose(self, dataset_id: Any, name: str, event: gr.EventData) -> tuple[Html, Any]:
        action, value = pressed(event)
        name = value if action == "method" and value in methods() else name
        return cards(self.workspace, dataset_id, name, {}), name

    def look_again(self, dataset_id: Any, model: str, name: str) -> Html:
        """Grey what the model cannot carry; the worker knows, once it has loaded the model."""
        try:
            reasons = self.context.call("refusals", {"backbone": model})["reasons"]
        except PromptloupeError:
            reasons = {}  # the estimate says what is wrong with the model
        return cards(self.workspace, dataset_id, name, reasons)

    def offer(self, dataset_id: Any, name: str, protocol: str, chosen: Any) -> list[Any]:
        """The protocols that fit the method and the images, and what can be tested on."""
        entry = methods().get(name) or methods()[DEFAULTS["method"]]
        sites = target_choices(self.workspace, dataset_id, "domain-generalisation")
        others = target_choices(self.workspace, dataset_id, "cross-dataset")
        fitting = protocols_for(entry, len(sites), len(others))
        protocol = protocol if protocol in fitting.values() else next(iter(fitting.values()))
        choices = target_choices(self.workspace, dataset_id, protocol)
        return [
            gr.update(choices=list(fitting.items()), value=protocol),
            gr.update(
                choices=choices,
                value=fitting_targets(chosen, choices, protocol),
                visible=bool(choices),
                info=OTHER_THINGS if protocol == "zero-shot-anomaly" else NO_LABEL,
            ),
            gr.update(visible=entry.trains and entry.learns_from not in ("unlabelled", "masks")),
        ]

    # --- the form of the method, and the start --------------------------------------

    def settings_form(self, name: str, shots: int, protocol: str, remembered: Mapping[str, Any]) -> None:
        entry = methods().get(name)
        if entry is None:
            return
        built = build_form(settings_fields(entry, protocol, shots), remembered.get("values"))
        fields, values = [field for field, _ in built], [part for _, part in built]
        form = _Form(entry, fields)
        chosen = [self.dataset, self.backbone, self.method, self.shots, self.seeds, self.protocol, self.targets]
        inputs = [*chosen, *values]

        def work_out(*given: Any) -> Html:
            return _estimate(self.context, form, given)

        def begin(*given: Any) -> list[Any]:
            request = form.request(given)
            started = [run.id for run in submit_training(self.workspace, request)]
            kept = dict(zip(DEFAULTS, [*given[:CHOICES], form.changed(given)], strict=True))
            return [kept, started, *follow(self.workspace, started, "")]

        answered = [self.choice, self.watched, *self.following]
        self.start.click(tell_errors(begin), inputs, answered, key="begin", **HIDDEN)
        for field, part in built:
            told_on_field(part, field)
        changes: list[Callable[..., Any]] = [
            part.change for part in (self.dataset, self.backbone, self.seeds, self.targets, *values)
        ]
        gr.on(
            [self.context.blocks.load, *changes],
            tell_errors(work_out),
            inputs,
            self.estimate,
            trigger_mode="always_last",
            key="work-out",
            **HIDDEN,
        )


class _Form:
    """What the settings form of a method says about values; `given` is the choice, then the form's values."""

    def __init__(self, entry: MethodEntry, fields: Sequence[Field]) -> None:
        self.entry, self.fields = entry, list(fields)

    def problems(self, given: Sequence[Any]) -> list[str]:
        return [str(problem) for problem in collect(self.fields, given[CHOICES:])[1]]

    def changed(self, given: Sequence[Any]) -> dict[str, Any]:
        return collect(self.fields, given[CHOICES:])[0]

    def request(self, given: Sequence[Any]) -> TrainRequest:
        """Raises ConfigError where something does not fit."""
        if given[0] is None:
            raise ConfigError("There are no images to learn from.", "Choose some at the top of the page.")
        if problems := self.problems(given):
            raise ConfigError("A setting does not fit.", " ".join(problems))
        return request_of(self.entry, given[:CHOICES], self.changed(given))


# --- what the page reads and says ----------------------------------------------------


def _estimate(context: AppContext, form: _Form, given: Sequence[Any]) -> Html:
    """What the training would cost, or why it cannot start."""
    if problems := form.problems(given):
        return notice("warning", "A setting does not fit.", _listed(problems))
    try:
        request = form.request(given)
        answer = context.call("check-settings", request, timeout=120)
    except PromptloupeError as error:
        return notice("warning", error.what, error.remedy, error.detail)
    if not answer["ok"]:
        titles = {field.name: field.title for field in form.fields}
        return notice("warning", "This cannot be trained yet.", _listed([_said(p, titles) for p in answer["problems"]]))
    repeats = len(request.seeds) if form.entry.trains else 1
    return _quiet(estimate_sentence(answer["seconds"], answer["memory_mb"], repeats, answer["note"]))


def _said(problem: Mapping[str, str], titles: Mapping[str, str]) -> str:
    title = titles.get(problem["field"].rsplit(".", 1)[-1])
    return f"{title}: {problem['message']}" if title else problem["message"]


def _listed(sentences: Sequence[str]) -> Html:
    return tag("ul", *(tag("li", sentence) for sentence in sentences), class_="pl-problems")


def _quiet(words: str) -> Html:
    return tag("p", words, class_="pl-estimate")
