"""Runs: every result, sorted and filtered; one of them opened, with its mistakes and its answers for new images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from app.components import run_page as one
from app.components import training as views
from app.components.choices import DEFAULTS, choice_of
from app.components.gallery import picture_url
from app.components.html import Html, empty_state, link, page_title, tag
from app.components.icons import BARS
from app.components.live import live_html, pressed
from app.components.methods import begin_reading, method_title
from app.components.plot import drawn, plot, pressed_mark
from app.components.run_page import NEVER, TRAINED, find_result
from app.components.runs import COLUMNS, asked, bin_notice, filtered, runs_table, sorted_by
from app.context import AppContext, Page, tell_errors
from engines import jobs
from engines.data import load_image
from engines.errors import ConfigError, PromptloupeError
from engines.store import Workspace
from engines.store.run_queries import experiments, move_to_bin, put_back, training_jobs

PAGE = Page(route="runs", title="Runs", order=50)
ANY = ""
IMAGE_FILES = ["image", ".dcm", ".tif", ".tiff"]
MOST_ASKED = 16


def build(context: AppContext) -> None:
    begin_reading()
    workspace = context.workspace
    lead = "Every result of this workspace. Open one to see what it got wrong, and to try it on an image of your own."
    gr.HTML(page_title("Runs", lead), apply_default_css=False)
    opened = context.remembered("opened", "")
    choice = context.remembered("choice", DEFAULTS)
    sort, place = gr.State(["started", True]), gr.State({"cell": None, "first": 0})
    told = live_html()
    with gr.Row(visible=False) as filters:
        words = gr.Textbox(label="Find", placeholder="Part of a name or setting", max_lines=1, elem_id="runs-find")
        dataset = gr.Dropdown([("all", ANY)], value=ANY, label="Images", elem_id="runs-dataset")
        method = gr.Dropdown([("all", ANY)], value=ANY, label="Method", elem_id="runs-method")
        binned = gr.Checkbox(False, label="Show the bin", elem_id="runs-bin")
    table = live_html(tag("p", "One moment …", class_="pl-quiet"), elem_id="runs-table")
    with gr.Column(visible=False, elem_id="run") as detail:
        head = gr.HTML(elem_id="run-head", apply_default_css=False)
        bars = plot(elem_id="run-bars")
        with gr.Row(elem_id="run-actions"):
            reuse = gr.Button("Use these settings again", size="sm", elem_id="run-reuse")
            export = gr.Button("Save the learned prompt", size="sm", elem_id="run-export")
            delete = gr.Button("Move to the bin", size="sm", variant="stop", elem_id="run-delete")
            file = gr.DownloadButton("Download", visible="hidden", elem_id="run-file")
        with gr.Row():
            seed = gr.Radio([], label="Seed on show", visible=False, elem_id="run-seed")
            part = gr.Radio([TRAINED, NEVER], value=TRAINED, label="Classes on show", visible=False, elem_id="run-part")
        with gr.Tabs(visible=False) as tabs:
            with gr.Tab("What it confuses"):
                gr.HTML(
                    tag("p", "Each row is a true class, each column an answer. Press a cell to see its images."),
                    apply_default_css=False,
                )
                confusion = plot(elem_id="run-confusion")
                wrong = live_html(elem_id="run-mistakes")
            with gr.Tab("Class by class"):
                per_class = plot(elem_id="run-classes")
            with gr.Tab("How sure it is"):
                sure = gr.HTML(elem_id="run-sure", apply_default_css=False)
                sure_plot = plot(elem_id="run-reliability")
            with gr.Tab("Try your own image"):
                upload = gr.File(
                    label="Images that are not in the data set (PNG, JPEG, TIFF, DICOM …)",
                    file_count="multiple",
                    file_types=IMAGE_FILES,
                    height=140,
                    elem_id="run-upload",
                )
                answer = gr.HTML(elem_id="run-answer", apply_default_css=False)
            with gr.Tab("How it was trained"):
                with gr.Row():
                    loss, accuracy = plot(elem_id="run-loss"), plot(elem_id="run-accuracy")
                settings = gr.HTML(elem_id="run-settings", apply_default_css=False)
    listing = [filters, table, dataset, method]
    shown = [detail, head, bars, export, seed, part, tabs, confusion, wrong, per_class, sure, sure_plot]
    shown += [loss, accuracy, settings]
    asking = [words, dataset, method, binned, sort]

    # --- the list ----------------------------------------------------------------

    def begin(key: Any, request: gr.Request) -> list[Any]:
        asked_for = dict(request.query_params or {}).get("open", "") if request else ""
        key = asked_for or (key if isinstance(key, str) else "")
        result = find_result(workspace, key)
        listed = _listing(workspace, key, "", ANY, ANY, False, ["started", True])
        return [*listed, *_shown(result), key if result else "", {"cell": None, "first": 0}]

    def ask(key: str, *given: Any) -> list[Any]:
        return _listing(workspace, key, *given)

    def act(key: str, how: list[Any], find: str, images: str, by: str, bin_: bool, event: gr.EventData) -> list[Any]:
        name, value = pressed(event)
        if name == "sort" and value in COLUMNS:
            how = [value, not how[1] if value == how[0] else value not in ("method", "images")]
        if name == "restore":
            _restore(workspace, [value])
        key = value if name == "open" else key
        opening = _shown(find_result(workspace, key)) if name == "open" else [gr.skip()] * len(shown)
        return [*_listing(workspace, key, find, images, by, bin_, how), *opening, key, how, {"cell": None, "first": 0}]

    context.on_load(begin, [opened], [*listing, *shown, opened, place]).then(
        None, js="() => window.promptloupe?.setQuery('open', '')"
    )
    for part_asked in (words, dataset, method, binned):
        context.listen(part_asked.change, ask, [opened, *asking], listing)
    context.listen(
        table.action,
        act,
        [opened, sort, words, dataset, method, binned],
        [*listing, *shown, opened, sort, place],
    )

    # --- the result on show ------------------------------------------------------

    def look(key: str, which: Any, classes: str) -> list[Any]:
        return [*_shown(find_result(workspace, key, which, classes)), {"cell": None, "first": 0}]

    def cell(key: str, which: Any, classes: str, event: gr.EventData) -> tuple[Html, dict[str, Any]]:
        mark = pressed_mark(event)
        chosen = mark[:2] if len(mark) >= 2 else None
        return _wrong(workspace, key, which, classes, chosen, 0), {"cell": chosen, "first": 0}

    def turn(key: str, which: Any, classes: str, now: dict[str, Any], event: gr.EventData) -> tuple[Html, Any]:
        name, value = pressed(event)
        chosen = None if name == "all" else now["cell"]
        first = int(value) if name == "page" and value.isdigit() else 0
        return _wrong(workspace, key, which, classes, chosen, first), {"cell": chosen, "first": first}

    chosen_run = [opened, seed, part]
    for radio in (seed, part):
        context.listen(radio.input, look, chosen_run, [*shown, place])
    context.listen(confusion.press, cell, chosen_run, [wrong, place])
    context.listen(wrong.action, turn, [*chosen_run, place], [wrong, place])

    # --- what can be done with it -----------------------------------------------------

    def try_images(key: str, which: Any, files: Any) -> Html:
        if not files:
            return Html("")
        result = find_result(workspace, key, which)
        if result is None or result.run is None:
            raise ConfigError("There is no result open.", "Open one in the table.")
        paths = [str(path) for path in files][:MOST_ASKED]
        answers = context.call("predict", {"run_id": result.run.id, "images": paths})["answers"]
        return asked([_picture(path) for path in paths], answers, result.run.method, views.trains(result.run))

    def use_again(key: str) -> Any:
        result = find_result(workspace, key)
        return choice_of(result.experiment) if result else gr.skip()

    def save(key: str, which: Any) -> Any:
        result = find_result(workspace, key, which)
        if result is None or result.run is None:
            raise ConfigError("There is no learned prompt to save yet.", "Wait until the training is done.")
        made = context.call("export-prompt", {"run_id": result.run.id})["path"]
        return gr.update(value=str(workspace.resolve(made)))

    def remove(key: str, *given: Any) -> list[Any]:
        result = find_result(workspace, key)
        if result is None:
            return [gr.skip()] * (len(listing) + len(shown) + 2)
        for job in training_jobs(workspace, result.experiment.all_ids).values():
            if not job.state.ended:
                jobs.cancel(workspace, job.id)
        move_to_bin(workspace, result.experiment.all_ids)
        note = bin_notice([result.experiment.name], json.dumps([key]))
        return [*_listing(workspace, "", *given), *_shown(None), "", note]

    def undo(find: str, images: str, by: str, bin_: bool, how: list[Any], event: gr.EventData) -> list[Any]:
        keys = _restore(workspace, _keys(pressed(event)[1]))
        key = keys[0] if keys else ""
        listed = _listing(workspace, key, find, images, by, bin_, how)
        return [*listed, *_shown(find_result(workspace, key)), key, Html("")]

    hidden: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}
    upload.change(tell_errors(try_images), [opened, seed, upload], answer, **hidden)
    context.listen(reuse.click, use_again, opened, choice).then(
        None, js="() => setTimeout(() => { window.location.href = 'train'; }, 150)"
    )
    export.click(tell_errors(save), [opened, seed], file, **hidden).success(
        None, js="() => setTimeout(() => document.querySelector('#run-file')?.click(), 300)"
    )
    context.listen(delete.click, remove, [opened, *asking], [*listing, *shown, opened, told])
    context.listen(told.action, undo, asking, [*listing, *shown, opened, told])


# --- values of components ---------------------------------------------------------


def _listing(
    workspace: Workspace, opened: str, find: str, images: str, by: str, bin_: bool, how: list[Any]
) -> list[Any]:
    """Values of the filters' row, the table, and the two choosers."""
    everything = experiments(workspace, deleted=bool(bin_))
    datasets = list(dict.fromkeys(each.dataset for each in everything if each.dataset))
    methods = list(dict.fromkeys(each.method for each in everything))
    images = images if images in datasets else ANY
    by = by if by in methods else ANY
    found = sorted_by(filtered(everything, find or "", images, by), str(how[0]), bool(how[1]))
    any_run = bool(everything) or bool(bin_) or bool(experiments(workspace, deleted=True, limit=1))
    if not any_run:
        shown = _nothing_yet()
    elif not found:
        shown = tag("p", "The bin is empty." if bin_ else "No result fits what you look for.", class_="pl-quiet")
    else:
        shown = runs_table(found, opened, str(how[0]), bool(how[1]), bool(bin_))
    return [
        gr.update(visible=any_run),
        shown,
        gr.update(choices=[("all", ANY), *((name, name) for name in datasets)], value=images),
        gr.update(choices=[("all", ANY), *((method_title(name), name) for name in methods)], value=by),
    ]


def _nothing_yet() -> Html:
    return empty_state(
        BARS,
        "Results will stand here. Train a first prompt: with the sample images it takes a minute.",
        link("Train a prompt", "train", "pl-button primary"),
    )


def _shown(result: one.Result | None) -> list[Any]:
    """Values of the components of the result on show."""
    if result is None:
        return [gr.update(visible=False), *[gr.skip()] * 14]
    if result.run is None:
        nothing = [gr.update(visible=False)] * 2
        return [
            gr.update(visible=True),
            one.headline(result),
            "",
            gr.update(interactive=False),
            *nothing,
            gr.update(visible=False),
            *[gr.skip()] * 8,
        ]
    tested = bool(result.summary.get("images"))
    loss, accuracy, settings = one.how_trained(result)
    seeds = [(str(run.seed), run.seed) for run in result.runs]
    return [
        gr.update(visible=True),
        one.headline(result),
        drawn(views.comparison(result.runs)),
        gr.update(interactive=True),
        gr.update(choices=seeds, value=result.run.seed, visible=len(seeds) > 1),
        gr.update(value=result.part, visible=result.both_parts),
        gr.update(visible=True),
        drawn(one.mistakes_figure(result)) if tested else "",
        one.mistakes(result, None, 0) if tested else Html(""),
        drawn(one.per_class(result)) if tested else "",
        one.sureness(result) if tested else Html(""),
        drawn(one.sureness_figure(result)) if tested else "",
        drawn(loss),
        drawn(accuracy),
        settings,
    ]


def _wrong(workspace: Workspace, key: str, seed: Any, part: str, cell: Any, first: int) -> Html:
    result = find_result(workspace, key, seed, part)
    return one.mistakes(result, cell, first) if result and result.run else Html("")


def _picture(path: str) -> str:
    try:
        image = load_image(Path(path))
    except PromptloupeError:
        return ""
    image.thumbnail((320, 320))
    return picture_url(image)


def _keys(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [key for key in found if isinstance(key, str)] if isinstance(found, list) else []


def _restore(workspace: Workspace, keys: list[str]) -> list[str]:
    """Put experiments back from the bin; returns those that were there."""
    found = [each for each in experiments(workspace, deleted=True) if each.key in keys]
    for each in found:
        put_back(workspace, each.all_ids)
    return [each.key for each in found]
