"""The part of the Backlit page that trains an enhancer on two folders, and shows how it comes along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from sqlalchemy import select

from app.components.backlit import address
from app.components.figures import BLUE, Figure, figure
from app.components.folders import browse, chosen_place, open_browser
from app.components.html import Html, empty_state, section, tag
from app.components.icons import BARS
from app.components.jobs import act_on_job, progress
from app.components.live import live_html, pressed
from app.components.plot import drawn, plot
from app.context import AppContext
from engines.enhance.requests import LENGTHS
from engines.enhance.settings import Stage, TrainSettings
from engines.enhance.trainings import Training, read_training, stage_words, training_stamp, trainings
from engines.errors import ConfigError
from engines.prompts.settings import parse
from engines.store import Job, JobState, Workspace, new_id

KINDS = [("CLIP-LIT: two folders, not in pairs", "clip-lit"), ("Zero-DCE: backlit photos alone", "zero-dce")]
GUIDANCE = [
    ("learned prompts (CLIP-LIT)", "prompt"),
    ("free vectors", "latent"),
    ("the direction between the folders (RAVE)", "rave"),
]
LEAD = (
    "Some dozens of backlit and some dozens of well-lit photos of your own camera; they need not show the same things."
)
MODEL_INFO = "Judges the light. mini-clip is for trying; for real photos name a real model."
POINTS = 600
"""Points of a curve that are drawn at most."""


class TrainPanel:
    """Components; `kept` is the id of the enhancer on show."""

    def __init__(self, context: AppContext) -> None:
        self.context, self.workspace = context, context.workspace
        self.kept, self.seen = context.remembered("backlit-training", ""), gr.State("")
        gr.HTML(section("Train on your own photos", LEAD), apply_default_css=False)
        self.name = gr.Textbox("My camera", label="Name", max_lines=1, max_length=80, elem_id="backlit-name")
        self.backlit = self._folder("Folder with backlit photos", "backlit-dark")
        self.well_lit = self._folder("Folder with well-lit photos", "backlit-bright")
        with gr.Row():
            self.length = gr.Radio(list(LENGTHS), value=next(iter(LENGTHS)), label="How long", elem_id="backlit-length")
            self.kind = gr.Radio(KINDS, value="clip-lit", label="What to train", elem_id="backlit-what")
        self.advanced = self._advanced()
        with gr.Row(elem_classes="pl-actions"):
            self.start = gr.Button("Start training", variant="primary", elem_id="backlit-train")
        self.chosen = gr.Dropdown([], label="Show the training of", interactive=True, elem_id="backlit-chosen")
        self.progress = live_html(elem_id="backlit-training")
        self.curve = plot(elem_id="backlit-curve")
        self.rounds = gr.HTML(elem_id="backlit-rounds", apply_default_css=False)
        self.take = gr.Button("Use it on my photos", elem_id="backlit-use", visible=False)

    def _folder(self, label: str, name: str) -> gr.Textbox:
        with gr.Row(equal_height=True):
            place = gr.Textbox(
                label=label, placeholder="Its place, or press Browse", max_lines=1, scale=4, elem_id=name
            )
            button = gr.Button("Browse …", scale=0, min_width=112, elem_classes="pl-beside", elem_id=f"{name}-browse")
        listing = live_html(visible=False, elem_id=f"{name}-browser")
        self.context.listen(button.click, open_browser, place, listing, every=True)
        self.context.listen(listing.action, browse, None, [listing, place], every=True)
        return place

    def _advanced(self) -> dict[str, Any]:
        """Settings by name; an empty field leaves what the chosen length says."""
        fields = TrainSettings.model_fields
        with gr.Accordion("Advanced", open=False, elem_id="backlit-advanced"):
            with gr.Row():
                model = gr.Textbox("mini-clip", label="Model", info=MODEL_INFO, max_lines=1, elem_id="backlit-model")
                guidance = gr.Radio(GUIDANCE, value="prompt", label="Guided by", elem_id="backlit-guidance")
            with gr.Row():
                numbers = {
                    name: gr.Number(
                        None, label=words, info=fields[name].description, precision=0, elem_id=f"backlit-{name}"
                    )
                    for name, words in (
                        ("rounds", "Rounds"),
                        ("prompt_steps", "Steps of learning the prompts"),
                        ("warm_up_steps", "Steps of the warm-up"),
                        ("enhance_steps", "Steps of brightening"),
                        ("extensions", "Times that a stage is prolonged"),
                        ("size", "Size of the photos"),
                        ("seed", "Seed"),
                    )
                }
        return {"backbone": model, "guidance": guidance, **numbers}

    def listen(self, tabs: gr.Tabs, use: Callable[[str], list[Any]], sides: Sequence[Any]) -> Any:
        """Wire it; `use(enhancer)` gives the values of `sides`, which choose what enhances.

        Returns:
            The event behind which the photo on show has to be enhanced anew.
        """
        context, shown = self.context, [self.progress, self.curve, self.rounds, self.take, self.seen]
        form = [self.name, self.backlit, self.well_lit, self.length, self.kind, *self.advanced.values()]

        def take(enhancer: Any) -> list[Any]:
            return [gr.Tabs(selected="enhance"), *use(str(enhancer))]

        context.listen(self.start.click, self.begin, form, [self.kept, self.chosen, *shown])
        context.listen(self.chosen.input, self.choose, self.chosen, [self.kept, *shown])
        context.listen(self.progress.action, self.act, self.chosen, shown, every=True)
        context.on_load(self.load, self.kept, [self.chosen, *shown])
        context.on_tick(self.keep_up, [self.chosen, self.seen], shown)
        return context.listen(self.take.click, take, self.chosen, [tabs, *sides])

    def begin(self, name: Any, backlit: Any, well_lit: Any, length: Any, kind: Any, *advanced: Any) -> list[Any]:
        """Queue a training."""
        given = dict(zip(self.advanced, advanced, strict=True))
        backbone = str(given.pop("backbone") or "mini-clip").strip()
        chosen = LENGTHS.get(length, TrainSettings()).model_dump() | {k: v for k, v in given.items() if v is not None}
        settings = parse(TrainSettings, chosen, "the training")
        two = kind == "clip-lit"
        if not str(name or "").strip():
            raise ConfigError("The enhancer has no name.", "Give it one, such as that of the camera.")
        request = {
            "id": new_id(),
            "name": str(name).strip(),
            "kind": kind,
            "backlit": str(chosen_place(backlit, None)),
            "well_lit": str(chosen_place(well_lit, None)) if two else "",
            "backbone": backbone,
            "settings": settings.model_dump(),
        }
        self.context.submit("enhance-train", request)
        offered = gr.update(choices=_offered(self.workspace), value=request["id"], visible=True)
        return [request["id"], offered, *self.follow(request["id"])]

    def load(self, kept: Any) -> list[Any]:
        """What was watched last, or the newest training."""
        known = _offered(self.workspace)
        ids = [each for _, each in known]
        chosen = kept if kept in ids else next(iter(ids), None)
        return [gr.update(choices=known, value=chosen, visible=bool(known)), *self.follow(chosen)]

    def choose(self, enhancer: Any) -> list[Any]:
        return [enhancer, *self.follow(enhancer)]

    def act(self, enhancer: Any, event: gr.EventData) -> list[Any]:
        """Cancel the training on show, or go on with it."""
        name, value = pressed(event)
        job = job_of(self.workspace, enhancer)
        if job is not None and value == job.id:
            act_on_job(self.workspace, name, value)
        return self.follow(enhancer)

    def follow(self, enhancer: Any) -> list[Any]:
        """Values of progress, curve, rounds, the button that uses it, and of what they show.

        The last is left to the clock: an answer of the clock that was on its way may come behind this one, and must
        not stay.
        """
        found, job = read_training(self.workspace, str(enhancer or "")), job_of(self.workspace, enhancer)
        if found is None and job is None:
            return [_empty(), drawn(None), "", gr.update(visible=False), ""]
        curve = drawn(curve_of(found)) if found else drawn(None)
        ready = gr.update(visible=bool(found and found.usable))
        return [told(job, found), curve, rounds_of(found) if found else "", ready, ""]

    def keep_up(self, enhancer: Any, seen: str) -> list[Any]:
        if not enhancer:
            return [gr.skip()] * 5
        now = self._stamp(enhancer, job_of(self.workspace, enhancer))
        return [gr.skip()] * 5 if now == seen else [*self.follow(enhancer)[:-1], now]

    def _stamp(self, enhancer: Any, job: Job | None) -> str:
        at_work = f"{job.id}-{job.state.value}-{job.message}-{job.cancel_requested}" if job else ""
        return f"{at_work}-{training_stamp(self.workspace, str(enhancer))}"


def _jobs(workspace: Workspace) -> list[Job]:
    """All that train enhancers, the newest first."""
    with workspace.session() as session:
        return list(session.scalars(select(Job).where(Job.kind == "enhance-train").order_by(Job.created_at.desc())))


def _offered(workspace: Workspace) -> list[tuple[str, str]]:
    """(name, enhancer) of all that were trained, are in training or wait for it."""
    asked = {str(job.payload["id"]): str(job.payload["name"]) for job in _jobs(workspace)}
    known = asked | {each: name for each, name in trainings(workspace) if each not in asked}
    return [(name, each) for each, name in known.items()]


def job_of(workspace: Workspace, enhancer: Any) -> Job | None:
    """The newest job that trained an enhancer."""
    return next((job for job in _jobs(workspace) if job.payload.get("id") == enhancer), None)


def told(job: Job | None, found: Training | None) -> Html:
    """Where a training is: its job, its stages with the present one marked, and what the curve says in a sentence."""
    block = progress(job) if job is not None else Html("")
    stopped = job is not None and job.state in (JobState.CANCELLED, JobState.FAILED)
    hint = "“Try again” goes on where it stopped." if stopped and found and found.curve else ""
    return tag("div", block, tag("p", hint, class_="pl-quiet") if hint else "", _stages(found), _sentence(found))


def _stages(found: Training | None) -> Html:
    if found is None or not found.curve or found.card.get("kind") == "zero-dce":
        return Html("")
    settings = TrainSettings(**found.card["settings"])
    newest = found.curve[-1]
    (stage, number), items = settings.first(), []
    while stage is not Stage.DONE:
        now = stage.value == newest["stage"] and number == newest["round"]
        items.append(tag("li", stage_words(stage, number), aria_current="step" if now else None))
        stage, number = settings.after(stage, number)
    return tag("ol", *items, class_="pl-stages")


def _sentence(found: Training | None) -> Html:
    shown = [point["p_backlit"] for point in found.curve if point["p_backlit"] is not None] if found else []
    if not shown:
        return Html("")
    said = f"The learned prompts took enhanced photos for backlit with a probability of {shown[0]:.2f} at first, now of"
    more = "This judge is what the enhancer learns to please: trust your eyes on the photos below."
    return tag("div", tag("p", f"{said} {shown[-1]:.2f}.", class_="pl-sentence"), tag("p", more, class_="pl-quiet"))


def curve_of(found: Training) -> Figure | None:
    """p(backlit) over the steps; the loss where there is no such judge."""
    judged = [(point["total"], point["p_backlit"]) for point in found.curve if point["p_backlit"] is not None]
    points = judged or [
        (point["total"], point["loss"]) for point in found.curve if found.card.get("kind") == "zero-dce"
    ]
    if not points:
        return None
    points = points[:: max(1, len(points) // POINTS)]
    line = {
        "type": "scatter",
        "mode": "lines" if len(points) > 1 else "markers",
        "x": [step for step, _ in points],
        "y": [value for _, value in points],
        "line": {"color": BLUE, "width": 2},
        "hovertemplate": "step %{x}: %{y:.3f}<extra></extra>",
    }
    y = {"range": [0, 1.02]} if judged else {"rangemode": "tozero"}
    title = "p(backlit) of enhanced photos" if judged else "Loss"
    return figure([line], title, xaxis={"title": {"text": "steps"}}, yaxis=y)


def rounds_of(found: Training) -> Html:
    """The same photos after each round."""
    if not found.snapshots:
        return Html("")
    lines = [
        tag(
            "div",
            tag("span", f"after round {number}" if number else "as they are"),
            *(
                tag("img", src=f"{address(file)}?{file.stat().st_mtime_ns}", alt=f"Photo {place}, round {number}")
                for place, file in enumerate(files, 1)
            ),
        )
        for number, files in found.snapshots.items()
    ]
    return tag("div", section("The same photos after each round"), tag("div", *lines, class_="pl-rounds"))


def _empty() -> Html:
    return empty_state(BARS, "How the training comes along will stand here. Name two folders and press Start training.")
