"""The form that brings images in: sample data, a place on this computer, or an upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.components.folders import browser, start_folder
from app.components.forms import collect, component, form_fields
from app.components.html import section, tag
from app.components.live import live_html, pressed
from app.context import AppContext
from engines.data import SAMPLES, ImportOptions, available_readers
from engines.errors import DataError

UPLOADS = [".zip", ".csv", ".tsv", ".jsonl", ".parquet", ".npz"]
OFFERED = (
    "split",
    "copy_images",
    "keep_duplicates",
    "label_column",
    "path_column",
    "split_column",
    "group_column",
    "domain_column",
    "images_folder",
)
"""Options of an import that the form shows; the command line knows them all."""
AUTOMATIC = "Find out by itself"


@dataclass(frozen=True)
class ImportForm:
    """The listeners that need to know of a new job."""

    started: gr.State
    """Id of the job that was started last."""


def build_imports(context: AppContext) -> ImportForm:
    """Lay out the form and wire it up; a started import is a job, and its id appears in `started`."""
    started = gr.State("")
    gr.HTML(section("Sample data", "Try everything at once, without images of your own."), apply_default_css=False)
    with gr.Row():
        for name, sample in SAMPLES.items():
            with gr.Column(min_width=200, elem_classes="pl-sample"):
                button = gr.Button(sample.title, elem_id=f"sample-{name}")
                gr.HTML(tag("p", sample.description, class_="pl-quiet"), apply_default_css=False)
                context.listen(button.click, _start_sample(context, name), outputs=started)
    gr.HTML(
        section("Your own images", "A folder with one sub-folder per class is best; nothing in it is changed."),
        apply_default_css=False,
    )
    with gr.Row(equal_height=True):
        source = gr.Textbox(
            label="Folder or file on this computer",
            placeholder="for example a folder called cells, with sub-folders neutrophil, eosinophil, …",
            max_lines=1,
            scale=4,
            elem_id="import-source",
        )
        browse = gr.Button("Browse …", scale=0, min_width=112, elem_id="import-browse", elem_classes="pl-beside")
    listing = live_html(elem_id="import-browser", visible=False)
    with gr.Row():
        upload = gr.File(
            label="or a ZIP, table or .npz file from another computer",
            file_types=UPLOADS,
            height=140,
            elem_id="import-upload",
        )
        name = gr.Textbox(
            label="Name of the data set",
            info="The name of the folder or file where left empty.",
            max_lines=1,
            max_length=200,
            elem_id="import-name",
        )
    with gr.Accordion("Advanced", open=False, elem_id="import-advanced"):
        reader = gr.Dropdown(
            [AUTOMATIC, *(each.title for each in available_readers().values())],
            value=AUTOMATIC,
            label="How to read it",
            info="Only needed where the kind of source is not recognised.",
        )
        fields = [f for f in form_fields(ImportOptions.model_json_schema()) if f.name in OFFERED]
        inputs: list[gr.components.Component] = []
        for place in range(0, len(fields), 3):
            with gr.Row(equal_height=True):
                inputs += [component(field) for field in fields[place : place + 3]]
    button = gr.Button("Import", variant="primary", elem_id="import-start", scale=0, min_width=160)

    def start(where: str, uploaded: str | None, called: str, how: str, *values: Any) -> tuple[str, Any, Any, Any]:
        chosen, problems = collect(fields, values)
        if problems:
            raise DataError(str(problems[0]), "Correct it under Advanced.")
        job = _submit(context, str(where or ""), uploaded, str(called or ""), str(how), chosen)
        return job, "", None, ""

    context.listen(button.click, start, [source, upload, name, reader, *inputs], [started, source, upload, name])
    context.listen(source.submit, start, [source, upload, name, reader, *inputs], [started, source, upload, name])
    context.listen(browse.click, _open_browser, source, listing, every=True)
    context.listen(listing.action, _browse, source, [listing, source], every=True)
    return ImportForm(started)


def _start_sample(context: AppContext, name: str) -> Any:
    def start() -> str:
        return context.submit("sample", {"sample": name})

    return start


def _submit(context: AppContext, where: str, uploaded: str | None, name: str, how: str, options: dict[str, Any]) -> str:
    """Check what can be checked at once, and queue the import."""
    place = where.strip().strip("\"'")
    if place and uploaded:
        raise DataError("There is both a place on this computer and an upload.", "Take one of them away.")
    if not place and not uploaded:
        raise DataError("Nothing was chosen yet.", "Name a folder or file, press Browse, or drop a file.")
    path = Path(uploaded) if uploaded else Path(place).expanduser()
    if not path.exists():
        raise DataError(
            f"There is no folder or file “{path.name or place}” at that place.",
            "Check the spelling, or choose it with Browse. The place is meant on the computer that runs Promptloupe.",
            str(path),
        )
    readers = {reader.title: key for key, reader in available_readers().items()}
    request = {
        "source": str(path.resolve()),
        "name": name.strip() or None,
        "reader": readers.get(how),
        "options": options,
    }
    return context.submit("import", request)


def _open_browser(where: str) -> Any:
    place = Path(str(where or "").strip() or start_folder()).expanduser()
    return gr.HTML(browser(str(place if place.is_dir() else start_folder())), visible=True)


def _browse(where: str, event: gr.EventData) -> Sequence[Any]:
    name, value = pressed(event)
    if name == "open":
        return browser(value), gr.skip()
    return gr.HTML(visible=False), value if name == "choose" else gr.skip()
