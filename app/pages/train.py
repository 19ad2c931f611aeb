"""Train: choose images, method and settings, see what it will cost, watch it, read what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    settings_fields,
)
from app.components.following import act_on, follow, run_ids, still_there
from app.components.forms import build_form, told_on_field
from app.components.html import Html, page_title, section, tag
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
from app.components.train_form import CHOICES, TrainForm, estimate, quiet
from app.context import AppContext, Page, tell_errors
from engines.errors import PromptloupeError
from engines.jobs.kinds.train import submit_training
from engines.store.run_queries import runs_by_id, training_jobs

PAGE = Page(route="train", title="Train", order=40)
LEAD = "Teach the model your classes from a few labelled images, and see whether that beats a ready-made prompt."
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
        self.method, self.form, self.reasons = gr.State(DEFAULTS["method"]), gr.State({}), gr.State({})
        self.empty = live_html(tag("p", "One moment …", class_="pl-quiet"))
        with gr.Column(elem_id="train-choices", visible=False) as self.chosen:
            self._choices()
            self.estimate = gr.HTML(quiet("Working out how long it takes …"), apply_default_css=False)
            self.start = gr.Button(
                "Start training", variant="primary", elem_id="train-start", scale=0, interactive=False
            )
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
        shown = [self.dataset, self.reasons, self.method]
        context.listen(self.cards.action, self.choose, self.method, [self.method, self.start], every=True)
        # The settings form, once drawn, listens to `change` of these too, and Gradio then forgets those who did before.
        other_images, other_model = (
            [self.dataset.change, self.dataset.input],
            [self.backbone.change, self.backbone.input],
        )
        last = {"trigger_mode": "always_last", **HIDDEN}
        gr.on([*other_images, *other_model], tell_errors(self.look_again), self.backbone, self.reasons, **last)
        # Nothing else draws the cards anew: of two drawings at once, the one with the method before could come last.
        gr.on(
            [*other_images, self.method.change, self.reasons.change],
            tell_errors(self.draw_cards),
            shown,
            self.cards,
            **last,
        )
        gr.on(
            [*other_images, self.method.change, self.protocol.change],
            tell_errors(self.offer),
            [self.dataset, self.method, self.protocol, self.targets],
            [self.protocol, self.targets, self.shots],
            **last,
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

    def choose(self, name: str, event: gr.EventData) -> list[Any]:
        """Another method; until its form is drawn, a start would meet the form before and be lost."""
        action, value = pressed(event)
        chosen = value if action == "method" and value in methods() else name
        return [chosen, gr.skip() if chosen == name else gr.update(interactive=False)]

    def draw_cards(self, dataset_id: Any, reasons: Any, name: str) -> Html:
        return cards(self.workspace, dataset_id, name, reasons)

    def look_again(self, model: str) -> dict[str, str]:
        """Why the model cannot carry methods, by method; the worker knows, once it has loaded the model."""
        try:
            found: dict[str, str] = self.context.call("refusals", {"backbone": model})["reasons"]
        except PromptloupeError:
            return {}  # the estimate says what is wrong with the model
        return found

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
        form = TrainForm(entry, fields)
        chosen = [self.dataset, self.backbone, self.method, self.shots, self.seeds, self.protocol, self.targets]
        inputs = [*chosen, *values]

        def work_out(*given: Any) -> Html:
            return estimate(self.context, form, given)

        def begin(*given: Any) -> list[Any]:
            request = form.request(given)
            started = [run.id for run in submit_training(self.workspace, request)]
            kept = dict(zip(DEFAULTS, [*given[:CHOICES], form.changed(given)], strict=True))
            return [kept, started, *follow(self.workspace, started, "")]

        answered = [self.choice, self.watched, *self.following]
        self.start.click(tell_errors(begin), inputs, answered, key="begin", **HIDDEN)
        self.context.blocks.load(lambda: gr.update(interactive=True), None, self.start, key="drawn", **HIDDEN)
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
