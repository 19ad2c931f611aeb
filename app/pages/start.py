"""Start: the workspace at a glance and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import gradio as gr
from sqlalchemy import func, select

from app.components.html import Html, cards, empty_state, join, page_title, section, table, tag, term
from app.components.icons import BARS, icon
from app.components.jobs import device
from app.components.live import live_html
from app.components.tour import tour
from app.components.words import counted, moment, number, percent
from app.context import AppContext, Page
from engines import jobs
from engines.backbones.places import local_models
from engines.store import Annotation, Dataset, Job, JobState, Sample, Verdict, Workspace
from engines.store.browse import Glance, glance, labelled_images
from engines.store.run_queries import Experiment, experiments

PAGE = Page(route="", title="Start", order=10, icon="start")
LEAD = "Teach a model to tell your images apart, from a handful of labelled ones. Nothing leaves this computer."
READY_MADE = term(
    "Ready-made prompt", "A sentence such as “a photo of a neutrophil”, without any training (zero-shot)."
)
RECENT = 5


@dataclass(frozen=True)
class Step:
    """One thing to do, and how far it is."""

    title: str
    state: str
    route: str
    done: bool
    busy: bool = False
    """Whether a job is at it."""


def build(context: AppContext) -> None:
    workspace = context.workspace
    gr.HTML(page_title("Start", LEAD), apply_default_css=False)
    top = live_html(elem_id="start-steps")
    gr.HTML(tour(), elem_id="start-tour", apply_default_css=False)
    with gr.Row():
        with gr.Column(scale=3, min_width=420):
            gr.HTML(section("Newest results"), apply_default_css=False)
            recent = live_html(elem_id="start-results")
        with gr.Column(scale=2, min_width=320):
            gr.HTML(section("This workspace"), apply_default_css=False)
            status = live_html(elem_id="start-status")

    def look() -> tuple[Html, Html, Html]:
        held, active = glance(workspace), jobs.active(workspace)
        found = experiments(workspace, limit=60)
        shown = _steps(steps(workspace, held, found, active), context.routes)
        return shown, _results(found, bool(held.datasets)), _status(workspace, held)

    context.on_load(look, outputs=[top, recent, status])
    context.on_tick(look, outputs=[top, recent, status])


def steps(workspace: Workspace, held: Glance, found: Sequence[Experiment], active: Sequence[Job]) -> list[Step]:
    """What there is to do, in order, each with its state in a line."""
    done = [each for each in found if each.state == "done"]
    trained = [each for each in done if each.method != "zero-shot"]
    labelled = labelled_images(workspace) + labelled_here(workspace)
    importing, training = _importing(active), _training(active)
    return [
        Step("Import", importing or _imported(held), "data", held.datasets > 0, bool(importing)),
        Step("Label", _labelled(labelled, held.images), "label", labelled > 0),
        Step("Train", training or _trained(len(trained)), "train", bool(trained), bool(training)),
        Step("Compare", _comparable(len(done)), "runs", False),
    ]


def labelled_here(workspace: Workspace) -> int:
    """Images that came without a label and were given one on Label. Counted anew only when a verdict was added."""
    with workspace.session() as session:
        newest = session.scalar(select(func.max(Annotation.id))) or 0
    return _count_labelled(workspace, newest) if newest else 0


@lru_cache(maxsize=4)
def _count_labelled(workspace: Workspace, newest: int) -> int:
    taken_back = select(Annotation.refers_to).where(
        Annotation.verdict == Verdict.UNDO, Annotation.refers_to.is_not(None)
    )
    query = (
        select(func.count(func.distinct(Annotation.sample_id)))
        .join(Sample, Sample.id == Annotation.sample_id)
        .join(Dataset, Dataset.id == Sample.dataset_id)
        .where(Annotation.verdict == Verdict.LABEL, Annotation.id <= newest, Annotation.id.not_in(taken_back))
        .where(Sample.class_id.is_(None), Dataset.deleted_at.is_(None))
    )
    with workspace.session() as session:
        return session.scalar(query) or 0


def _importing(active: Sequence[Job]) -> str:
    running = [job for job in active if job.kind in ("import", "sample")]
    return f"{running[0].title or 'Importing'}: {100 * running[0].progress:.0f}%" if running else ""


def _imported(held: Glance) -> str:
    if not held.datasets:
        return "No images yet. Begin here."
    return f"{counted(held.images, 'image')} in {counted(held.datasets, 'data set')}"


def _labelled(labelled: int, images: int) -> str:
    if not images:
        return "A handful of labelled images per class is enough."
    if labelled >= images:
        return "Every image has a label."
    return f"{number(labelled)} of {counted(images, 'image')} have a label"


def _training(active: Sequence[Job]) -> str:
    running = [job for job in active if job.kind == "train"]
    at_work = [job for job in running if job.state is JobState.RUNNING]
    progress = f", {100 * at_work[0].progress:.0f}% of the first" if at_work else ""
    return f"{counted(len(running), 'training')} at work{progress}" if running else ""


def _trained(trained: int) -> str:
    return f"{counted(trained, 'training')} done" if trained else "The model learns better words for your classes."


def _comparable(done: int) -> str:
    return f"{counted(done, 'result')} to look at" if done else "See whether training helped, and where it fails."


def _steps(listed: Sequence[Step], routes: frozenset[str]) -> Html:
    next_step = next((step for step in listed if not step.done), listed[-1])
    items = []
    for place, step in enumerate(listed, 1):
        state = "next" if step is next_step else "done" if step.done else "later"
        mark = icon("check", 16) if step.done and state != "next" else place
        inner = (
            tag("b", mark),
            tag("strong", step.title),
            tag("span", step.state),
            tag("em", "At work …" if step.busy else "Do this next") if step.busy or state == "next" else "",
        )
        route = step.route if step.route in routes else None
        items.append(tag("li", tag("a", *inner, href=route) if route else tag("div", *inner), class_=state))
    return tag("ol", *items, class_="pl-steps")


def _results(found: Sequence[Experiment], has_data: bool) -> Html:
    if not found:
        sentence = (
            "Results will be listed here: how many test images each prompt got right."
            if has_data
            else "Results will be listed here once there are images and a training."
        )
        route, words = ("train", "Train a first prompt") if has_data else ("data", "Bring in images")
        return empty_state(BARS, sentence, tag("a", words, href=route, class_="pl-button primary"))
    rows = [
        [tag("a", each.name, href="runs"), _score(each), _ready_made(each), moment(each.created_at)]
        for each in found[:RECENT]
    ]
    columns = ["What was tried", "Right>", Html(f"{READY_MADE}>"), "Started>"]
    return tag("div", table(columns, rows), class_="pl-card")


def _score(each: Experiment) -> str:
    if each.state != "done":
        return {"queued": "waiting", "running": "running"}.get(each.state, each.state)
    spread = f" ±{100 * each.spread:.1f}" if each.spread is not None else ""
    return f"{percent(each.score)}{spread}"


def _ready_made(each: Experiment) -> str:
    return "" if each.method == "zero-shot" else percent(each.zero_shot)


def _status(workspace: Workspace, held: Glance) -> Html:
    engine = jobs.engine_status(workspace)
    models = _models()
    rows = [
        ("Background worker", "running" if engine.running else "starting …"),
        ("Computes on", device(engine.workers) if engine.running else "–"),
        (
            term("Model", "The image-and-text network that prompts are learned for (backbone)."),
            ", ".join(models[:3]) or "none found",
        ),
        ("Free disk", f"{workspace.free_bytes() / 1e9:.0f} GB"),
    ]
    held_now = {"data set": held.datasets, "image": held.images, "training": held.runs}
    facts = cards((number(count), name if count == 1 else f"{name}s") for name, count in held_now.items())
    lines = (join([tag("dt", name), tag("dd", value)]) for name, value in rows)
    return tag("div", facts, tag("dl", *lines, class_="pl-list"), class_="pl-card")


@cache
def _models() -> list[str]:
    """Names of the models that lie on this computer, the shipped one said to be."""
    return ["mini-CLIP (shipped)" if name == "mini-clip" else name for name in local_models()]
