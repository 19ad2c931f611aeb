"""The tab where classes are described in sentences: typed, taken from a file, written to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app.components.html import Html, action, fold, join, notice, tag
from app.components.live import live_html, pressed
from app.components.words import counted
from app.context import AppContext
from engines.data import import_descriptions, read_descriptions, set_descriptions, write_descriptions
from engines.data.description_files import SUFFIXES
from engines.data.descriptions import tidy
from engines.data.names import file_name
from engines.errors import DataError
from engines.store import LabelClass
from engines.store.browse import classes, dataset_summaries
from engines.store.edit import describe_class

LEAD = (
    "Say in plain sentences what each class looks like, as you would to a colleague. Methods that compare images with"
    " descriptions read them. They stay on this computer: nothing is sent anywhere, and no sentence is made up."
)
EXAMPLE = '{"monocyte": ["a large cell with a kidney-shaped nucleus", "…"], "…": ["…"]}'
ADD, REPLACE = "Add to what is there", "Replace what is there"
DOWNLOAD = "() => setTimeout(() => document.querySelector('#describe-file')?.click(), 300)"
MOST_NAMED = 5


class Descriptions:
    """The tab's components, and what each press does. A page draws `parts` anew with `show`."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.workspace = context.workspace

    def build(self, dataset: gr.BrowserState) -> None:
        gr.HTML(tag("p", LEAD, class_="pl-lead"), apply_default_css=False)
        self.state = gr.HTML(elem_id="describe-state", apply_default_css=False)
        with gr.Row():
            self.chosen = gr.Dropdown([], label="Class", elem_id="describe-class", scale=1)
            self.sentences = gr.Textbox(
                label="Descriptions",
                info="One sentence a line.",
                lines=5,
                max_lines=12,
                elem_id="describe-text",
                scale=3,
            )
        save = gr.Button("Save descriptions", scale=0, min_width=180, elem_id="describe-save")
        with gr.Row(equal_height=True):
            way = gr.Radio([ADD, REPLACE], value=ADD, label="Sentences of a file", elem_id="describe-way", scale=3)
            aside: dict[str, Any] = {"scale": 0, "min_width": 176, "elem_classes": "pl-beside"}
            upload = gr.UploadButton(
                "Take from a file …", file_types=list(SUFFIXES), elem_id="describe-upload", **aside
            )
            download = gr.Button("Download all", elem_id="describe-download", **aside)
            file = gr.DownloadButton("Download", visible="hidden", elem_id="describe-file")
        how = tag("p", "A JSON file such as ", tag("code", EXAMPLE), ", or a table (CSV) with the columns ")
        columns = join([tag("code", "class"), tag("code", "description")], " and ")
        gr.HTML(fold("What such a file looks like", how, tag("p", columns, ", one row a sentence.")), padding=False)
        self.said = live_html(elem_id="describe-saved")
        before = gr.State({})
        self.wire(dataset, save, way, upload, download, file, before)

    @property
    def parts(self) -> list[gr.components.Component]:
        """What depends on the data set."""
        return [self.chosen, self.sentences, self.state, self.said]

    def wire(
        self,
        dataset: gr.BrowserState,
        save: gr.Button,
        way: gr.Radio,
        upload: gr.UploadButton,
        download: gr.Button,
        file: gr.DownloadButton,
        before: gr.State,
    ) -> None:
        listen, shown = self.context.listen, [self.sentences, self.state, self.said, before]
        listen(self.chosen.input, self.read, [dataset, self.chosen], [self.sentences, self.said])
        listen(save.click, self.write, [dataset, self.chosen, self.sentences], [self.state, self.said, before])
        listen(upload.upload, self.take, [dataset, self.chosen, upload, way], shown)
        listen(self.said.action, self.undo, [dataset, self.chosen, before], shown)
        listen(download.click, self.save_file, dataset, file).success(None, js=DOWNLOAD)

    # --- what each press does -----------------------------------------------------------

    def show(self, found: Sequence[LabelClass]) -> list[Any]:
        """Values of `parts` for the classes of a data set."""
        first = found[0] if found else None
        return [
            gr.Dropdown([each.name for each in found], value=first.name if first else None),
            as_lines(first),
            state(found),
            Html(""),
        ]

    def read(self, dataset: Any, name: Any) -> tuple[str, Html]:
        return as_lines(self.named(dataset, name)), Html("")

    def write(self, dataset: Any, name: Any, text: Any) -> tuple[Html, Html, dict[str, Any]]:
        found = self.named(dataset, name)
        if found is None:
            return gr.skip(), tag("p", "Choose a class first.", class_="pl-problem"), {}
        kept = describe_class(self.workspace, found.dataset_id, found.id, tidy(str(text or "").splitlines()))
        said = tag("p", f"Saved: {len(kept.descriptions)} for “{found.name}”.", class_="pl-quiet")
        return state(self.classes(dataset)), said, {}

    def take(self, dataset: Any, name: Any, uploaded: Any, way: Any) -> list[Any]:
        """Take the sentences of an uploaded file, and offer to undo it."""
        if not uploaded:
            raise DataError("No file arrived.", "Choose it again.")
        report = import_descriptions(
            self.workspace, self.existing(dataset), read_descriptions(Path(str(uploaded))), replace=way == REPLACE
        )
        first, *more = report.lines()
        kind = "warning" if report.unknown or report.ambiguous or report.too_long else "good"
        undo = action("Undo", "undo", "", "small") if report.before else ""
        listed = tag("ul", *(tag("li", line) for line in more)) if more else ""
        said = tag("div", notice(kind, first, listed), undo, class_="pl-offer")
        return [*self.now(dataset, name), said, {"dataset": dataset, "sentences": report.before}]

    def undo(self, dataset: Any, name: Any, before: Any, event: gr.EventData) -> list[Any]:
        former = before.get("sentences") if isinstance(before, Mapping) and before.get("dataset") == dataset else None
        if pressed(event)[0] != "undo" or not former:
            return [gr.skip()] * 4
        set_descriptions(self.workspace, self.existing(dataset), former)
        said = tag("p", f"Undone: {counted(len(former), 'class', 'classes')} as before.", class_="pl-quiet")
        return [*self.now(dataset, name), said, {}]

    def save_file(self, dataset: Any) -> Any:
        number = self.existing(dataset)
        name = file_name(self.known[number])
        place = self.workspace.folder("exports") / f"{name} descriptions.json"
        write_descriptions(self.workspace, number, place)
        return gr.update(value=str(place))

    # --- reading ------------------------------------------------------------------------

    def now(self, dataset: Any, name: Any) -> tuple[str, Html]:
        return as_lines(self.named(dataset, name)), state(self.classes(dataset))

    @property
    def known(self) -> dict[int, str]:
        return {each.id: each.name for each in dataset_summaries(self.workspace)}

    def existing(self, dataset: Any) -> int:
        if dataset not in list(self.known):
            raise DataError("No data set is chosen.", "Choose one first.")
        return int(dataset)

    def classes(self, dataset: Any) -> list[LabelClass]:
        return classes(self.workspace, dataset) if dataset in list(self.known) else []

    def named(self, dataset: Any, name: Any) -> LabelClass | None:
        return next((each for each in self.classes(dataset) if each.name == name), None)


def as_lines(found: LabelClass | None) -> str:
    return "\n".join(map(str, found.descriptions)) if found else ""


def state(found: Sequence[LabelClass]) -> Html:
    """Which classes have no description, and what happens to these."""
    without = [each.name for each in found if not each.descriptions]
    if not found:
        return tag("p", "This data set has no classes yet.", class_="pl-quiet")
    if not without:
        total = sum(len(each.descriptions) for each in found)
        said = f"All {counted(len(found), 'class', 'classes')} are described, in {counted(total, 'sentence')}."
        return tag("p", said, class_="pl-quiet")
    named = ", ".join(f"“{name}”" for name in without[:MOST_NAMED])
    more = f" and {len(without) - MOST_NAMED:,} more" if len(without) > MOST_NAMED else ""
    lead = "No class is described yet." if len(without) == len(found) else f"Not described yet: {named}{more}."
    general = f"General sentences stand in for missing ones, such as “a photo of a {without[0].replace('_', ' ')}.”"
    return tag("p", lead, " ", general, class_="pl-quiet")
