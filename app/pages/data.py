"""Data: bring images in, look at them, see what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.components import datasets as words
from app.components.descriptions import Descriptions
from app.components.figures import SPLIT_WORDS
from app.components.gallery import PAGE_SIZE, grid, pager, sample_cells, viewer
from app.components.html import Html, action, empty_state, page_title, tag
from app.components.icons import GALLERY
from app.components.imports import build_imports
from app.components.live import live_html, pressed
from app.components.manage import build_manage
from app.components.plot import drawn, plot
from app.components.words import number
from app.context import AppContext, Page
from engines.store import Dataset, LabelClass, Sample
from engines.store.browse import DatasetSummary, Tally, classes, dataset_summaries, gallery_page, in_order, tally

PAGE = Page(
    route="data",
    title="Data",
    order=20,
    keys={
        "← →": "Page of images before, next",
        "Home End": "First page, last page",
        "Tab, arrows, Enter": "Walk through the images and open one",
        "C": "Close the open image",
    },
)
LEAD = "Bring images in, look at them, and check that every class has enough of them."
ALL = ("All", "")
DOMAIN = "Domain (site, scanner, stain or style)"
View = dict[str, Any]
"""What is looked at: dataset, split, class, domain, first (place of the first image), selected (sample)."""


@dataclass(frozen=True)
class Shown:
    """A data set with what the page needs to draw it."""

    dataset: DatasetSummary
    classes: list[LabelClass]
    tally: Tally

    @property
    def names(self) -> dict[int, str]:
        return {each.id: each.name for each in self.classes}


def build(context: AppContext) -> None:
    DataPage(context).build()


class DataPage:
    """The page's components and their listeners."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.workspace = context.workspace
        self.descriptions = Descriptions(context)

    def build(self) -> None:
        context = self.context
        self.dataset = context.remembered("dataset")
        self.view = context.remembered("data-view", {})
        self.changed = gr.State(0)
        gr.HTML(page_title("Data", LEAD), apply_default_css=False)
        self.following = live_html(elem_id="data-following", visible=False)
        self.imports = gr.Accordion("Add a data set", open=False, elem_id="data-add")
        with self.imports:
            form = build_imports(context)
        self.empty = live_html(elem_id="data-empty", visible=False)
        with gr.Column(visible=False, elem_id="data-body") as self.body:
            with gr.Row(equal_height=True):
                self.chooser = gr.Dropdown([], label="Data set", elem_id="data-chooser", scale=3, filterable=True)
                self.manage = build_manage(context, self.dataset, self.changed)
            self.summary = gr.HTML(elem_id="data-summary", apply_default_css=False)
            with gr.Tabs(elem_id="data-tabs"):
                with gr.Tab("Images"):
                    with gr.Row():
                        self.split = gr.Dropdown([ALL], value="", label="Used", elem_id="data-split")
                        self.label = gr.Dropdown([ALL], value="", label="Class", elem_id="data-class")
                        self.domain = gr.Dropdown([ALL], value="", label=DOMAIN, visible=False, elem_id="data-domain")
                    self.gallery = live_html(elem_id="data-gallery")
                with gr.Tab("Classes and balance"):
                    self.balance = plot(elem_id="data-balance")
                with gr.Tab("Import report"):
                    self.report = gr.HTML(elem_id="data-report", apply_default_css=False)
                with gr.Tab("Descriptions"):
                    self.descriptions.build(self.dataset)
        self.wire(form.started)

    # --- listeners ----------------------------------------------------------------

    def wire(self, started: gr.State) -> None:
        context = self.context
        everything = [
            self.dataset, self.view, self.imports, self.empty, self.body, self.chooser, self.summary, self.split,
            self.label, self.domain, self.gallery, self.balance, self.report, *self.descriptions.parts,
        ]  # fmt: skip
        images = [self.view, self.gallery]
        context.on_load(self.open, [self.dataset, self.view], everything)
        context.listen(self.changed.change, self.refresh, [self.dataset, self.view], everything)
        context.listen(self.chooser.input, self.choose, self.chooser, everything)
        self.chooser.change(None, self.chooser, js="name => { promptloupe.setQuery('data', name); }")
        for part in (self.split, self.label, self.domain):
            context.listen(part.input, self.filter, [self.dataset, self.split, self.label, self.domain], images)
        context.listen(self.empty.action, lambda: context.submit("sample", {"sample": "blood-smear"}), None, started)
        context.listen(self.gallery.action, self.act, [self.dataset, self.view], images, every=True)
        self.manage.follow(context, started, self.following, everything, lambda arrived: self.refresh(arrived, {}))

    def open(self, dataset: Any, view: Any, request: gr.Request) -> list[Any]:
        asked = dict(request.query_params).get("data")
        known = {each.name: each.id for each in dataset_summaries(self.workspace)} if asked else {}
        return self.refresh(known.get(str(asked), dataset), view)

    def choose(self, name: str) -> list[Any]:
        found = {each.name: each.id for each in dataset_summaries(self.workspace)}
        return self.refresh(found.get(str(name)), {})

    def refresh(self, dataset: Any, view: Any) -> list[Any]:
        """Everything on the page, for the data set that is chosen (else the newest)."""
        known = dataset_summaries(self.workspace)
        if not known:
            closed = gr.Column(visible=False)
            return [None, {}, gr.Accordion(open=True), gr.HTML(_nothing_yet(), visible=True), closed, *[gr.skip()] * 12]
        chosen = next((each for each in known if each.id == dataset), known[0])
        shown = self.read(chosen)
        view = _checked(view, shown)
        return [
            chosen.id,
            view,
            gr.Accordion(),
            gr.HTML(visible=False),
            gr.Column(visible=True),
            gr.Dropdown([each.name for each in known], value=chosen.name),
            words.summary_line(chosen, shown.tally),
            *_filters(shown, view),
            self.draw(shown, view),
            drawn(words.balance(shown.classes, shown.tally)),
            words.report(chosen, self.stored_report(chosen.id), shown.classes, shown.tally),
            *self.descriptions.show(shown.classes),
        ]

    def filter(self, dataset: Any, split: Any, label: Any, domain: Any) -> tuple[View, Html]:
        shown = self.find(dataset)
        if shown is None:
            return {}, Html("")
        view = _checked({"dataset": shown.dataset.id, "split": split, "class": label, "domain": domain}, shown)
        return view, self.draw(shown, view)

    def act(self, dataset: Any, view: Any, event: gr.EventData) -> tuple[View, Html]:
        shown = self.find(dataset)
        if shown is None:
            return {}, Html("")
        name, value = pressed(event)
        place = int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None
        view = _checked(view, shown)
        if name == "page":
            view |= {"first": place or 0, "selected": None}
        elif name in ("select", "close"):
            view["selected"] = None if place == view["selected"] else place
        return view, self.draw(shown, view)

    # --- reading and drawing --------------------------------------------------------

    def find(self, dataset: Any) -> Shown | None:
        chosen = next((each for each in dataset_summaries(self.workspace) if each.id == dataset), None)
        return self.read(chosen) if chosen else None

    def read(self, dataset: DatasetSummary) -> Shown:
        return Shown(dataset, classes(self.workspace, dataset.id), tally(self.workspace, dataset.id))

    def stored_report(self, dataset_id: int) -> dict[str, Any]:
        with self.workspace.session() as session:
            row = session.get(Dataset, dataset_id)
            return dict(row.report or {}) if row else {}

    def draw(self, shown: Shown, view: View) -> Html:
        page = gallery_page(
            self.workspace,
            shown.dataset.id,
            split=view["split"],
            class_id=view["class"],
            domain=view["domain"],
            first=view["first"],
            limit=PAGE_SIZE,
        )
        if not page.total:
            return tag("p", "No image is like that. Choose “All” above.", class_="pl-quiet")
        view["first"] = page.first
        cells = sample_cells(self.workspace, page.samples, shown.names, view["selected"])
        chosen = self.sample(shown.dataset.id, view["selected"])
        side = viewer(self.workspace, chosen, shown.names.get(chosen.class_id or 0, "no label")) if chosen else ""
        return tag(
            "div",
            tag("div", pager(page.first, len(page.samples), page.total), grid(cells)),
            side,
            class_=f"pl-browse {'open' if chosen else ''}",
        )

    def sample(self, dataset_id: int, sample_id: int | None) -> Sample | None:
        if sample_id is None:
            return None
        with self.workspace.session() as session:
            found = session.get(Sample, sample_id)
        return found if found is not None and found.dataset_id == dataset_id else None


def _nothing_yet() -> Html:
    sentence = "Your images will be here. Take the sample data, or choose a folder of your own above."
    return empty_state(GALLERY, sentence, action("Use the blood-smear sample", "sample", "blood-smear", "primary"))


def _filters(shown: Shown, view: View) -> list[Any]:
    """The three filters with what there is to choose from, set as in `view`."""
    totals = words.split_totals(shown.tally)
    splits = [(f"{SPLIT_WORDS.get(name, name)} ({number(count)})", name) for name, count in totals.items()]
    domains = sorted({domain for _, _, domain in shown.tally if domain})
    return [
        gr.Dropdown([ALL, *splits], value=view["split"] or ""),
        gr.Dropdown([ALL, *((each.name, each.id) for each in shown.classes)], value=view["class"] or ""),
        gr.Dropdown([ALL, *((name, name) for name in domains)], value=view["domain"] or "", visible=len(domains) > 1),
    ]


def _checked(view: Any, shown: Shown) -> View:
    """A view that fits the data set, whatever the browser remembered."""
    view = view if isinstance(view, dict) and view.get("dataset") == shown.dataset.id else {}
    allowed: dict[str, list[Any]] = {  # lists, because what a browser sends need not be hashable
        "split": in_order(split for split, _, _ in shown.tally),
        "class": list(shown.names),
        "domain": sorted({domain for _, _, domain in shown.tally if domain}),
    }
    first, selected = view.get("first"), view.get("selected")
    return {
        "dataset": shown.dataset.id,
        **{key: view.get(key) if view.get(key) in values else None for key, values in allowed.items()},
        "first": first if isinstance(first, int) and 0 <= first < 2**31 else 0,
        "selected": selected if isinstance(selected, int) and 0 <= selected < 2**40 else None,
    }
