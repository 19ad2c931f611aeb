"""The form that brings images in: sample data, a place on this computer, or an upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.components.folders import browse, chosen_place, open_browser
from app.components.forms import Field, collect, component, form_fields
from app.components.html import section, tag
from app.components.live import live_html
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
MEDICAL = (
    "slides",
    "tile_size",
    "tiles_per_slide",
    "tile_level",
    "tile_mpp",
    "tile_tissue",
    "frames",
)
"""Those for whole-slide images and DICOM, in a part of their own."""
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
        browsing = gr.Button("Browse …", scale=0, min_width=112, elem_id="import-browse", elem_classes="pl-beside")
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
        known = {field.name: field for field in form_fields(ImportOptions.model_json_schema())}
        fields = [known[name] for name in OFFERED]
        inputs = _laid_out(fields)
    with gr.Accordion("Slides and DICOM", open=False, elem_id="import-medical"):
        medical = [known[name] for name in MEDICAL]
        inputs += _laid_out(medical)
        fields += medical
    button = gr.Button("Import", variant="primary", elem_id="import-start", scale=0, min_width=160)

    def start(where: str, uploaded: str | None, called: str, how: str, *values: Any) -> tuple[str, Any, Any, Any]:
        chosen, problems = collect(fields, values)
        if problems:
            raise DataError(str(problems[0]), "Correct it under Advanced, or under Slides and DICOM.")
        job = _submit(context, str(where or ""), uploaded, str(called or ""), str(how), chosen)
        return job, "", None, ""

    context.listen(button.click, start, [source, upload, name, reader, *inputs], [started, source, upload, name])
    context.listen(source.submit, start, [source, upload, name, reader, *inputs], [started, source, upload, name])
    context.listen(browsing.click, open_browser, source, listing, every=True)
    context.listen(listing.action, browse, None, [listing, source], every=True)
    return ImportForm(started)


def _laid_out(fields: Sequence[Field]) -> list[gr.components.Component]:
    """The components of fields, three in a row."""
    made: list[gr.components.Component] = []
    for place in range(0, len(fields), 3):
        with gr.Row(equal_height=True):
            made += [component(field) for field in fields[place : place + 3]]
    return made


def _start_sample(context: AppContext, name: str) -> Any:
    def start() -> str:
        return context.submit("sample", {"sample": name})

    return start


def _submit(context: AppContext, where: str, uploaded: str | None, name: str, how: str, options: dict[str, Any]) -> str:
    """Check what can be checked at once, and queue the import."""
    readers = {reader.title: key for key, reader in available_readers().items()}
    request = {
        "source": str(chosen_place(where, uploaded)),
        "name": name.strip() or None,
        "reader": readers.get(how),
        "options": options,
    }
    return context.submit("import", request)
