"""Runs: every result, sorted and filtered; one of them opened, with its mistakes and its answers for new images."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from app.components import defects, report_actions
from app.components import training as views
from app.components.choices import DEFAULTS, choice_of
from app.components.html import Html, page_title, section, tag
from app.components.live import live_html, pressed
from app.components.methods import begin_reading
from app.components.plot import plot, pressed_mark
from app.components.run_page import NEVER, TRAINED, Result, find_result, picture, shown, wrong
from app.components.runs import COLUMNS, asked, bin_notice
from app.components.runs_list import ANY, NEWEST, keys_of, listing, restore
from app.context import AppContext, Page, tell_errors
from engines import jobs
from engines.errors import ConfigError
from engines.store.run_queries import move_to_bin, runs_stamp, training_jobs

PAGE = Page(route="runs", title="Runs", order=50)
LEAD = "Every result of this workspace. Open one to see what it got wrong, and to try it on an image of your own."
IMAGE_FILES = ["image", ".dcm", ".tif", ".tiff"]
DEFECTS = (
    "Every test image has a score, from 0 (surely sound) to 1 (surely damaged), and a map that says the same of every"
    " place in it. Press an image to see its map."
)
MOST_ASKED = 16
"""Images that are looked at in one go."""
ALL_MISTAKES: dict[str, Any] = {"cell": None, "first": 0}
SHORT: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}
GO_TO_TRAIN = "() => setTimeout(() => { window.location.href = 'train'; }, 150)"
DOWNLOAD = "() => setTimeout(() => document.querySelector('#run-file')?.click(), 300)"
FORGET_ADDRESS = "() => window.promptloupe?.setQuery('open', '')"


def build(context: AppContext) -> None:
    page = _RunsPage(context)
    page.listen_to_list()
    page.listen_to_result()


class _RunsPage:
    """The components of the page: the list, the result on show, and what listens to them."""

    def __init__(self, context: AppContext) -> None:
        begin_reading()
        self.context, self.workspace = context, context.workspace
        gr.HTML(page_title("Runs", LEAD), apply_default_css=False)
        self.opened = context.remembered("opened", "")
        self.choice = context.remembered("choice", DEFAULTS)
        self.sort, self.place, self.seen = gr.State(NEWEST), gr.State(ALL_MISTAKES), gr.State(())
        self.told = live_html()
        self._list()
        with gr.Column(visible=False, elem_id="run") as self.detail:
            self._head()
            with gr.Column(visible=False, elem_id="run-defects") as self.defects:
                self._defects()
            with gr.Tabs(visible=False) as self.tabs:
                self._tabs()
        self.listed = [self.filters, self.table, self.dataset, self.method]
        self.asking = [self.words, self.dataset, self.method, self.binned, self.sort]
        self.shown = [self.detail, self.head, self.bars, self.export, self.seed, self.part, self.tabs, self.confusion]
        self.shown += [
            self.mistakes,
            self.per_class,
            self.sure,
            self.sure_plot,
            self.loss,
            self.accuracy,
            self.settings,
            self.defects,
            self.worth,
            self.target,
            self.scores,
            self.viewer,
        ]

    def _list(self) -> None:
        with gr.Row(visible=False) as self.filters:
            self.words = gr.Textbox(
                label="Find", placeholder="Part of a name or setting", max_lines=1, elem_id="runs-find"
            )
            self.dataset = gr.Dropdown([("all", ANY)], value=ANY, label="Images", elem_id="runs-dataset")
            self.method = gr.Dropdown([("all", ANY)], value=ANY, label="Method", elem_id="runs-method")
            self.binned = gr.Checkbox(False, label="Show the bin", elem_id="runs-bin")
        self.table = live_html(tag("p", "One moment …", class_="pl-quiet"), elem_id="runs-table")

    def _head(self) -> None:
        self.head = gr.HTML(elem_id="run-head", apply_default_css=False)
        self.bars = plot(elem_id="run-bars")
        with gr.Row(elem_id="run-actions"):
            self.reuse = gr.Button("Use these settings again", size="sm", elem_id="run-reuse")
            self.export = gr.Button("Save the learned prompt", size="sm", elem_id="run-export")
            self.report = gr.Button("Report", size="sm", elem_id="run-report")
            self.delete = gr.Button("Move to the bin", size="sm", variant="stop", elem_id="run-delete")
            self.file = gr.DownloadButton("Download", visible="hidden", elem_id="run-file")
        with gr.Row():
            self.seed = gr.Radio([], label="Seed on show", visible=False, elem_id="run-seed")
            self.part = gr.Radio(
                [TRAINED, NEVER], value=TRAINED, label="Classes on show", visible=False, elem_id="run-part"
            )

    def _defects(self) -> None:
        gr.HTML(section("Where it sees defects", DEFECTS), apply_default_css=False)
        self.worth = gr.HTML(elem_id="run-worth", apply_default_css=False)
        self.target = gr.Radio([], label="Images on show", visible=False, elem_id="run-target")
        with gr.Row():
            self.scores = live_html(elem_id="run-scores")
            self.viewer = defects.viewer(elem_id="run-viewer")

    def _tabs(self) -> None:
        with gr.Tab("What it confuses"):
            hint = "Each row is a true class, each column an answer. Press a cell to see its images."
            gr.HTML(tag("p", hint), apply_default_css=False)
            self.confusion = plot(elem_id="run-confusion")
            self.mistakes = live_html(elem_id="run-mistakes")
        with gr.Tab("Class by class"):
            self.per_class = plot(elem_id="run-classes")
        with gr.Tab("How sure it is"):
            self.sure = gr.HTML(elem_id="run-sure", apply_default_css=False)
            self.sure_plot = plot(elem_id="run-reliability")
        with gr.Tab("Try your own image"):
            self.upload = gr.File(
                label="Images that are not in the data set (PNG, JPEG, TIFF, DICOM …)",
                file_count="multiple",
                file_types=IMAGE_FILES,
                height=140,
                elem_id="run-upload",
            )
            self.answer = gr.HTML(elem_id="run-answer", apply_default_css=False)
        with gr.Tab("How it was trained"):
            with gr.Row():
                self.loss, self.accuracy = plot(elem_id="run-loss"), plot(elem_id="run-accuracy")
            self.settings = gr.HTML(elem_id="run-settings", apply_default_css=False)

    # --- the list ----------------------------------------------------------------------

    def listen_to_list(self) -> None:
        context, found = self.context, [*self.listed, *self.shown]
        loaded = context.on_load(self.begin, self.opened, [*found, self.opened, self.place])
        loaded.then(None, js=FORGET_ADDRESS)
        for part in (self.words, self.dataset, self.method, self.binned):
            context.listen(part.change, self.ask, [self.opened, *self.asking], self.listed)
        acted = [*found, self.opened, self.sort, self.place]
        context.listen(self.table.action, self.act, [self.opened, *self.asking], acted, every=True)
        context.on_tick(self.keep_up, [self.seen, self.opened, *self.asking], [*found, self.seen])
        context.listen(self.delete.click, self.remove, [self.opened, *self.asking], [*found, self.opened, self.told])
        context.listen(self.told.action, self.undo, self.asking, [*found, self.opened, self.told], every=True)

    def begin(self, key: Any, request: gr.Request) -> list[Any]:
        """The list, and the result that the address or the browser's memory names."""
        named = dict(request.query_params or {}).get("open", "") if request else ""
        key = named or (key if isinstance(key, str) else "")
        result = find_result(self.workspace, key)
        listed = listing(self.workspace, key, ["", ANY, ANY, False, NEWEST])
        return [*listed, *shown(result), key if result else "", ALL_MISTAKES]

    def ask(self, key: str, *given: Any) -> list[Any]:
        return listing(self.workspace, key, given)

    def act(
        self, key: str, find: str, images: str, by: str, binned: bool, how: list[Any], event: gr.EventData
    ) -> list[Any]:
        """Sort the table, open a result, or put one back from the bin."""
        name, value = pressed(event)
        if name == "sort" and value in COLUMNS:
            how = [value, not how[1] if value == how[0] else value not in ("method", "images")]
        if name == "restore":
            restore(self.workspace, [value])
        key = value if name == "open" else key
        opening = shown(find_result(self.workspace, key)) if name == "open" else [gr.skip()] * len(self.shown)
        listed = listing(self.workspace, key, [find, images, by, binned, how])
        return [*listed, *opening, key, how, ALL_MISTAKES if name == "open" else gr.skip()]

    def keep_up(self, known: Any, key: str, *given: Any) -> list[Any]:
        """Show what has changed since: the list, and the result on show when another of its seeds is done."""
        result = find_result(self.workspace, key)
        now = (runs_stamp(self.workspace), key, [run.id for run in result.runs] if result else [])
        if now == known:
            return [gr.skip()] * (len(self.listed) + len(self.shown) + 1)
        another = bool(known) and known[1] == key and now[2] != known[2]
        detail = shown(result) if another else [gr.skip()] * len(self.shown)
        return [*listing(self.workspace, key, given), *detail, now]

    def remove(self, key: str, *given: Any) -> list[Any]:
        """Move the result on show to the bin; what still runs of it is cancelled."""
        result = find_result(self.workspace, key)
        if result is None:
            return [gr.skip()] * (len(self.listed) + len(self.shown) + 2)
        for job in training_jobs(self.workspace, result.experiment.all_ids).values():
            if not job.state.ended:
                jobs.cancel(self.workspace, job.id)
        move_to_bin(self.workspace, result.experiment.all_ids)
        note = bin_notice([result.experiment.name], json.dumps([key]))
        return [*listing(self.workspace, "", given), *shown(None), "", note]

    def undo(self, find: str, images: str, by: str, binned: bool, how: list[Any], event: gr.EventData) -> list[Any]:
        keys = restore(self.workspace, keys_of(pressed(event)[1]))
        key = keys[0] if keys else ""
        listed = listing(self.workspace, key, [find, images, by, binned, how])
        return [*listed, *shown(find_result(self.workspace, key)), key, Html("")]

    # --- the result on show --------------------------------------------------------------

    def listen_to_result(self) -> None:
        context, chosen = self.context, [self.opened, self.seed, self.part]
        for radio in (self.seed, self.part):
            context.listen(radio.input, self.look, chosen, [*self.shown, self.place])
        context.listen(self.confusion.press, self.cell, chosen, [self.mistakes, self.place])
        context.listen(self.mistakes.action, self.turn, [*chosen, self.place], [self.mistakes, self.place], every=True)
        for another in (self.opened.change, self.seed.input):
            context.listen(another, lambda: (None, Html("")), outputs=[self.upload, self.answer])
        looking = [self.opened, self.seed, self.target]
        context.listen(self.target.input, self.narrow, looking, [self.scores, self.viewer])
        context.listen(self.scores.action, self.inspect, looking, [self.scores, self.viewer], every=True)
        asking = [self.opened, self.seed, self.upload]
        self.upload.change(tell_errors(self.try_images), asking, self.answer, **SHORT)
        context.listen(self.reuse.click, self.use_again, self.opened, self.choice).then(None, js=GO_TO_TRAIN)
        saved = self.export.click(tell_errors(self.save), [self.opened, self.seed], self.file, **SHORT)
        saved.success(None, js=DOWNLOAD)
        report_actions.at_run(context, self.opened, self.report)

    def look(self, key: str, seed: Any, part: str) -> list[Any]:
        return [*shown(find_result(self.workspace, key, seed, part)), ALL_MISTAKES]

    def cell(self, key: str, seed: Any, part: str, event: gr.EventData) -> tuple[Html, dict[str, Any]]:
        """The images of the cell that was pressed."""
        mark = pressed_mark(event)
        cell = mark[:2] if len(mark) >= 2 else None
        return wrong(self.workspace, key, seed, part, cell, 0), {"cell": cell, "first": 0}

    def turn(
        self, key: str, seed: Any, part: str, now: dict[str, Any], event: gr.EventData
    ) -> tuple[Html, dict[str, Any]]:
        """Another page of images, or all mistakes again."""
        name, value = pressed(event)
        cell = None if name == "all" else now["cell"]
        first = int(value) if name == "page" and value.isdigit() else 0
        return wrong(self.workspace, key, seed, part, cell, first), {"cell": cell, "first": first}

    def narrow(self, key: str, seed: Any, target: Any) -> list[Any]:
        """The images of one data set, or of all."""
        run = self._done(key, seed).run
        assert run is not None
        return defects.narrowed(self.workspace, run, target if isinstance(target, str) else "")

    def inspect(self, key: str, seed: Any, target: Any, event: gr.EventData) -> list[Any]:
        """Another page of images by their scores, or one image with its map."""
        run, (name, value) = self._done(key, seed).run, pressed(event)
        assert run is not None
        return defects.answer(self.workspace, run, target if isinstance(target, str) else "", name, value)

    def try_images(self, key: str, seed: Any, files: Any) -> Html:
        if not files:
            return Html("")
        run = self._done(key, seed).run
        assert run is not None
        paths = [str(path) for path in files][:MOST_ASKED]
        payload = {"run_id": run.id, "images": paths, "maps": defects.looked(run)}
        answers = self.context.call("predict", payload)["answers"]
        pictures = [picture(path, answer.get("map", "")) for path, answer in zip(paths, answers, strict=True)]
        return asked(pictures, answers, run.method, views.trains(run))

    def use_again(self, key: str) -> Any:
        result = find_result(self.workspace, key)
        return choice_of(result.experiment) if result else gr.skip()

    def save(self, key: str, seed: Any) -> Any:
        run = self._done(key, seed).run
        assert run is not None
        made = self.context.call("export-prompt", {"run_id": run.id})["path"]
        return gr.update(value=str(self.workspace.resolve(made)))

    def _done(self, key: str, seed: Any) -> Result:
        """The result on show, whose `run` is there.

        Raises:
            ConfigError: there is none, or nothing was learned yet.
        """
        result = find_result(self.workspace, key, seed)
        if result is None or result.run is None:
            raise ConfigError("There is no learned prompt here yet.", "Open a result that is done.")
        return result
