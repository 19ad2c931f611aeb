"""Train: choose images, model and method, see what it will cost, watch it, read what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import gradio as gr

from app.components import training as views
from app.components.forms import Field, build_form, collect, form_fields, validated
from app.components.html import Html, empty_state, join, link, notice, page_title, section, tag
from app.components.icons import BARS
from app.components.live import live_html, pressed
from app.components.methods import begin_reading, method_cards, methods
from app.components.plot import drawn, plot
from app.components.results import estimate_sentence
from app.context import AppContext, Page, tell_errors
from engines import jobs
from engines.backbones import list_backbones
from engines.errors import PromptloupeError
from engines.jobs.kinds.train import submit_training
from engines.prompts.catalog import MethodEntry
from engines.prompts.settings import TrainingConfig, parse
from engines.runs.request import TrainRequest
from engines.store import Workspace
from engines.store.browse import NO_LABEL, class_counts, dataset_summaries
from engines.store.run_queries import curves, metrics_stamp, runs_by_id, training_jobs, unfinished_runs

PAGE = Page(route="train", title="Train", order=40)
SHOTS = {"1": 1, "2": 2, "4": 4, "8": 8, "16": 16, "all": 0}
SEEDS = {"once": 1, "3 times": 3, "5 times": 5}
PROTOCOLS = {
    "on the classes it was trained on": "few-shot",
    "also on classes it never saw (base / new)": "base-to-new",
}
DEFAULTS: dict[str, Any] = {
    "dataset_id": None,
    "backbone": "mini-clip",
    "method": "coop",
    "shots": 16,
    "seeds": 3,
    "protocol": "few-shot",
    "settings": {},
}
"""What is chosen at first; the browser remembers it under the key `choice` (settings: all changed ones by name)."""


def build(context: AppContext) -> None:
    begin_reading()
    workspace = context.workspace
    gr.HTML(
        page_title(
            "Train",
            "Teach the model your classes from a few labelled images, and see whether that beats a ready-made prompt.",
        ),
        apply_default_css=False,
    )
    choice = context.remembered("choice", DEFAULTS)
    watched = context.remembered("training", [])
    method, form, stamp = gr.State("coop"), gr.State({}), gr.State("")
    empty = live_html(visible=False)
    with gr.Column(elem_id="train-choices", visible=False) as chosen:
        dataset = gr.Dropdown(
            [], label="Images", info="The data set to learn from and to test on.", elem_id="train-dataset"
        )
        cards = live_html(elem_id="train-methods")
        with gr.Row():
            shots = gr.Radio(
                list(SHOTS.items()),
                value=16,
                label="Labelled images per class (shots)",
                info="How many it may learn from.",
                elem_id="train-shots",
            )
            seeds = gr.Radio(
                list(SEEDS.items()),
                value=3,
                label="Repeat (seeds)",
                info="Every repeat draws other images: that shows how much is luck.",
                elem_id="train-seeds",
            )
            protocol = gr.Radio(
                list(PROTOCOLS.items()),
                value="few-shot",
                label="Test it (protocol)",
                info="On images it never learned from.",
                elem_id="train-protocol",
            )
        with gr.Accordion("Model and settings: the paper’s are filled in", open=False, elem_id="train-settings"):
            backbone = gr.Dropdown(
                [("mini-CLIP", "mini-clip")],
                value="mini-clip",
                label="Model",
                info="What looks at the images and reads the words. Type a name to use one that is not listed.",
                allow_custom_value=True,
                elem_id="train-backbone",
            )
            slot = gr.Column()
        estimate = gr.HTML(_estimate_box("Working out how long it takes …"), apply_default_css=False)
        start = gr.Button("Start training", variant="primary", elem_id="train-start", scale=0)
    happening = gr.HTML(section("What happens"), visible=False, apply_default_css=False)
    progress = live_html(elem_id="train-progress")
    with gr.Row(visible=False) as plots:
        loss, accuracy = plot(elem_id="train-loss"), plot(elem_id="train-accuracy")
    outcome = gr.HTML(elem_id="train-outcome", apply_default_css=False)
    bars = plot(elem_id="train-bars")
    following = [happening, progress, plots, loss, accuracy, outcome, bars, stamp]
    options = [dataset, backbone, cards, shots, seeds, protocol]
    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    # --- what was chosen ------------------------------------------------------

    def restore(remembered: Any, ids: Any) -> list[Any]:
        value = _checked(remembered)
        sets = [d for d in dataset_summaries(workspace) if d.images]
        known = [d.id for d in sets]
        value["dataset_id"] = value["dataset_id"] if value["dataset_id"] in known else (known[0] if known else None)
        ids = _still_there(workspace, ids)
        return [
            gr.update(value=_no_images(), visible=not sets),
            gr.update(visible=bool(sets)),
            gr.update(choices=[(f"{d.name} ({d.images:,} images)", d.id) for d in sets], value=value["dataset_id"]),
            gr.update(choices=_backbones(value["backbone"]), value=value["backbone"]),
            _cards(workspace, value["dataset_id"], value["method"], {}),
            value["shots"],
            value["seeds"],
            value["protocol"],
            value["method"],
            {"values": value["settings"], "drawn": uuid4().hex},
            ids,
            *_follow(workspace, ids, "")[:-1],
            "",
        ]

    def choose(dataset_id: Any, name: str, event: gr.EventData) -> tuple[Html, Any]:
        action, value = pressed(event)
        if action != "method" or value not in methods():
            return _cards(workspace, dataset_id, name, {}), gr.skip()
        return _cards(workspace, dataset_id, value, {}), value

    def look_again(dataset_id: Any, model: str, name: str) -> Html:
        """Grey what the model cannot carry; the worker knows, once it has loaded the model."""
        try:
            reasons = context.call("refusals", {"backbone": model})["reasons"]
        except PromptloupeError:
            reasons = {}  # the estimate says what is wrong with the model
        return _cards(workspace, dataset_id, name, reasons)

    context.on_load(restore, [choice, watched], [empty, chosen, *options, method, form, watched, *following])
    context.listen(cards.action, choose, [dataset, method], [cards, method])
    gr.on(
        [dataset.change, backbone.change],
        tell_errors(look_again),
        [dataset, backbone, method],
        cards,
        trigger_mode="always_last",
        **hidden,
    )

    # --- the form of the method, and the start ---------------------------------

    with slot:

        @gr.render(
            [method, shots, protocol, form],
            triggers=[form.change, method.change, shots.change, protocol.change],
            show_progress="hidden",
        )
        def settings_form(name: str, count: int, how: str, remembered: Mapping[str, Any]) -> None:
            entry = methods().get(name)
            if entry is None:
                return
            fields = _fields(entry, how, count)
            built = build_form(fields, remembered.get("values"))
            ordered = [each for each, _ in built]
            values = [part for _, part in built]
            inputs = [dataset, backbone, method, shots, seeds, protocol, *values]

            def request(*given: Any) -> TrainRequest:
                changed, problems = collect(ordered, given[6:])
                if problems:
                    raise PromptloupeError("A setting does not fit.", " ".join(map(str, problems)))
                return _request(entry, given[:6], changed)

            def work_out(*given: Any) -> Html:
                problems = collect(ordered, given[6:])[1]
                if problems:
                    return _estimate_box(notice("warning", "A setting does not fit.", _listed(map(str, problems))))
                return _estimate(context, request(*given), {each.name: each.title for each in ordered})

            def begin(*given: Any) -> list[Any]:
                asked = request(*given)
                started = [run.id for run in submit_training(workspace, asked)]
                kept = collect(ordered, given[6:])[0]
                memory = dict(zip(DEFAULTS, [*given[:6], kept], strict=True))
                return [memory, started, *_follow(workspace, started, "")]

            def check(*given: Any) -> list[dict[str, Any]]:
                chosen_set = gr.validate(given[0] is not None, "Choose the images to learn from.")
                return [chosen_set, *[gr.validate(True, "")] * 5, *validated(ordered, given[6:])]

            answers = [choice, watched, *following]
            start.click(tell_errors(begin), inputs, answers, validator=check, key="begin", **hidden)
            gr.on(
                [context.blocks.load, *(part.change for part in (dataset, backbone, seeds, *values))],
                tell_errors(work_out),
                inputs,
                estimate,
                trigger_mode="always_last",
                key="work-out",
                **hidden,
            )

    # --- what happens ------------------------------------------------------------

    def follow(ids: Any, seen: str) -> list[Any]:
        return _follow(workspace, _ids(ids), seen)

    def act(ids: Any, event: gr.EventData) -> Html:
        act_on(workspace, _ids(ids), *pressed(event))
        return _progress(workspace, _ids(ids))

    context.on_tick(follow, [watched, stamp], following)
    context.listen(progress.action, act, watched, progress)


# --- what the page reads and says ----------------------------------------------


def act_on(workspace: Workspace, ids: list[str], name: str, job_id: str) -> None:
    """Cancel or try again, as a button of the progress block asked for; only jobs of the training on show."""
    known = {job.id: job for job in training_jobs(workspace, ids).values()}
    if name == "cancel-all":
        for job in known.values():
            if not job.state.ended:
                jobs.cancel(workspace, job.id)
    elif job_id in known and name == "cancel":
        jobs.cancel(workspace, job_id)
    elif job_id in known and name == "retry":
        jobs.retry(workspace, job_id)


def _follow(workspace: Workspace, ids: list[str], seen: str) -> list[Any]:
    """Values of the components that follow a training; `seen` is the stamp of what they show already."""
    runs = runs_by_id(workspace, ids)
    known = training_jobs(workspace, ids) if runs else {}
    state = "/".join(f"{run.id}:{run.state}:{known[run.id].state if run.id in known else ''}" for run in runs)
    points, done = metrics_stamp(workspace, ids) if runs else (0, 0), bool(runs) and views.finished(runs)
    stamp = f"{state}|{points}"
    quiet = gr.skip()
    if stamp == seen:
        moving = views.progress(runs, known) if runs and not done else quiet
        return [quiet, moving, quiet, quiet, quiet, quiet, quiet, quiet]
    loss, accuracy = views.curves_of(runs, curves(workspace, ids, views.METRICS)) if runs else (None, None)
    return [
        gr.update(visible=bool(runs)),
        views.progress(runs, known),
        gr.update(visible=loss is not None or accuracy is not None),
        drawn(loss),
        drawn(accuracy),
        _outcome(runs) if done else Html(""),
        drawn(views.comparison(runs)) if done else "",
        stamp,
    ]


def _progress(workspace: Workspace, ids: list[str]) -> Html:
    return views.progress(runs_by_id(workspace, ids), training_jobs(workspace, ids))


def _outcome(runs: list[Any]) -> Html:
    said = views.outcome(runs)
    if not said:
        return said
    see = tag("p", link("See the result", f"runs?open={runs[0].experiment or runs[0].id}", "pl-button primary"))
    return join([section("What came out"), said, see])


def _estimate(context: AppContext, request: TrainRequest, titles: Mapping[str, str]) -> Html:
    try:
        answer = context.call("check-settings", request, timeout=120)
    except PromptloupeError as error:
        return _estimate_box(notice("warning", error.what, error.remedy, error.detail))
    if not answer["ok"]:
        said = [_problem(problem, titles) for problem in answer["problems"]]
        return _estimate_box(notice("warning", "This cannot be trained yet.", _listed(said)))
    trains = methods()[request.method].trains
    sentence = estimate_sentence(
        answer["seconds"], answer["memory_mb"], len(request.seeds) if trains else 1, answer["note"]
    )
    return _estimate_box(tag("p", sentence, class_="pl-estimate"))


def _problem(problem: Mapping[str, str], titles: Mapping[str, str]) -> str:
    title = titles.get(problem["field"].rsplit(".", 1)[-1])
    return f"{title}: {problem['message']}" if title else problem["message"]


def _listed(sentences: Any) -> Html:
    return tag("ul", *(tag("li", sentence) for sentence in sentences), class_="pl-problems")


def _estimate_box(content: Any) -> Html:
    return tag("div", content if isinstance(content, Html) else tag("p", content, class_="pl-estimate"))


def _no_images() -> Html:
    return empty_state(
        BARS,
        "Results will stand here. First load images: the sample set of blood cells is ready at once.",
        link("Load images", "data", "pl-button primary"),
    )


def _cards(workspace: Workspace, dataset_id: Any, chosen: str, refused: Mapping[str, str]) -> Html:
    """The methods; greyed where the model or the images cannot carry one."""
    reasons = dict(refused)
    labelled = _labelled(workspace, dataset_id)
    for entry in methods().values():
        if entry.trains and not labelled:
            reasons.setdefault(entry.name, "Needs labelled images to learn from: these have no labels yet.")
    return method_cards(list(methods().values()), chosen, reasons)


def _labelled(workspace: Workspace, dataset_id: Any) -> bool:
    if not isinstance(dataset_id, int):
        return True
    counts = class_counts(workspace, dataset_id)
    return any(name != NO_LABEL and splits.get("train") for name, splits in counts.items())


def _backbones(chosen: str) -> list[tuple[str, str]]:
    """(title, name) of the models that are on this machine."""
    found: list[tuple[str, str]] = []
    for info in list_backbones():
        if info.pretrained:
            found += [(f"{info.name}, {tag_}", f"{info.name}:{tag_}") for tag_ in info.on_disk]
        elif info.state != "needs download":
            found.append((info.title, info.name))
    return found if chosen in (name for _, name in found) else [*found, (chosen, chosen)]


def _fields(entry: MethodEntry, protocol: str, shots: int) -> list[Field]:
    """The method's own settings, then those of the training where there are steps to set."""
    own = form_fields(entry.schema)
    if entry.fitting != "gradient":
        return own
    training = form_fields(TrainingConfig.model_json_schema(), entry.training_for(protocol, shots))
    return own + training


def _request(entry: MethodEntry, given: tuple[Any, ...], changed: Mapping[str, Any]) -> TrainRequest:
    dataset_id, backbone, method, shots, seeds, protocol = given
    own = entry.schema.get("properties", {})
    request: TrainRequest = parse(
        TrainRequest,
        {
            "dataset_id": dataset_id,
            "backbone": backbone or "mini-clip",
            "method": method,
            "shots": shots,
            "seeds": list(range(1, seeds + 1)),
            "protocol": protocol,
            "settings": {name: value for name, value in changed.items() if name in own},
            "training": {name: value for name, value in changed.items() if name not in own},
        },
        "the training",
    )
    return request


def _checked(remembered: Any) -> dict[str, Any]:
    """What the browser remembered, with the first choice for everything that does not fit."""
    value = dict(DEFAULTS)
    if isinstance(remembered, dict):
        value |= {key: remembered[key] for key in DEFAULTS if key in remembered}
    fits = {
        "backbone": isinstance(value["backbone"], str),
        "method": value["method"] in methods(),
        "shots": value["shots"] in SHOTS.values(),
        "seeds": value["seeds"] in SEEDS.values(),
        "protocol": value["protocol"] in PROTOCOLS.values(),
        "settings": isinstance(value["settings"], dict),
    }
    return {key: value[key] if fits.get(key, True) else default for key, default in DEFAULTS.items()}


def _ids(value: Any) -> list[str]:
    return [run_id for run_id in value if isinstance(run_id, str)][:100] if isinstance(value, list) else []


def _still_there(workspace: Workspace, value: Any) -> list[str]:
    """The runs that this browser watched, unless they are gone or ended and others are at work."""
    runs = runs_by_id(workspace, _ids(value))
    working = unfinished_runs(workspace)
    return working if working and (not runs or views.finished(runs)) else [run.id for run in runs]
