"""Labels out of the workspace and into it: exports with or without the log, pre-labels as suggestions or as labels."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import gradio as gr

from app.components.html import Html, fold, notice, section, table, tag
from app.components.jobs import progress
from app.components.label_desk import Desk, existing, newest_job
from app.components.live import live_html, pressed
from app.components.words import counted, moment, number
from engines import jobs
from engines.errors import DataError
from engines.labelling.imports import LabelImport
from engines.store import Job, JobState

EXPORT, IMPORT = "export_labels", "import_labels"
FORMATS = {
    "Table (CSV): one line an image, for a spreadsheet or statistics": "csv",
    "Folders: one folder a class, with the images": "folder",
    "COCO: the images with one JSON file": "coco",
    "Hugging Face data set: the images with a table beside them": "hf",
    "Croissant: the images with a description that machines read": "croissant",
}
SUGGESTIONS, LABELS = "suggestions", "labels"
LINKED = 5
"""Files of an export that get a link."""


class Files:
    """The tab, and what it answers."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.workspace = desk, desk.workspace
        with gr.Row(equal_height=False):
            with gr.Column(min_width=400):
                self._export()
            with gr.Column(min_width=400):
                self._import()

    def _export(self) -> None:
        gr.HTML(section("Export", "The label of each image by the rule, and who said what."), apply_default_css=False)
        self.format = gr.Dropdown(
            list(FORMATS.items()), value="csv", label="As", interactive=True, elem_id="label-format"
        )
        self.audit = gr.Checkbox(
            value=True,
            label="With the log of every verdict",
            info="Who, when, what, in which round, with which model, and what was taken back.",
            interactive=True,
            elem_id="label-audit",
        )
        self.export = gr.Button("Export", variant="primary", scale=0, min_width=120, elem_id="label-export")
        self.exported = live_html(elem_id="label-exported")

    def _import(self) -> None:
        lead = "A table with a column for the image and one for the label, or a COCO file."
        gr.HTML(section("Import", lead), apply_default_css=False)
        self.upload = gr.File(
            label="Labels from elsewhere", file_types=[".csv", ".tsv", ".json"], height=132, elem_id="label-upload"
        )
        self.treat = gr.Radio(
            [("as suggestions, to be confirmed", SUGGESTIONS), ("as labels", LABELS)],
            value=SUGGESTIONS,
            label="Take them",
            info="A suggestion is no label until somebody has confirmed it. What a reader says beats both.",
            interactive=True,
            elem_id="label-treat",
        )
        self.create = gr.Checkbox(
            value=False,
            label="Add classes that are new",
            info="Otherwise lines with a class that the data set does not have are refused.",
            interactive=True,
            elem_id="label-create",
        )
        self.take = gr.Button("Import", variant="primary", scale=0, min_width=120, elem_id="label-import")
        self.imported = live_html(elem_id="label-imported")

    def listen(self) -> None:
        context, dataset = self.desk.context, self.desk.dataset
        context.listen(self.export.click, self.begin, [dataset, self.format, self.audit], self.exported)
        asked = [dataset, self.desk.name, self.upload, self.treat, self.create]
        context.listen(self.take.click, self.read, asked, [self.imported, self.upload])
        for kind, place in ((EXPORT, self.exported), (IMPORT, self.imported)):
            context.listen(place.action, self._acting(kind), dataset, place, every=True)
        context.on_tick(self.follow, dataset, [self.exported, self.imported])

    def begin(self, dataset_id: Any, form: Any, audit: Any) -> Html:
        """Queue an export."""
        chosen = existing(self.workspace, dataset_id)
        self.desk.context.submit(EXPORT, {"dataset_id": chosen, "format": form, "audit": bool(audit)})
        return self._said(EXPORT, chosen)

    def read(self, dataset_id: Any, name: Any, file: Any, treat: Any, create: Any) -> tuple[Html, None]:
        """Queue an import.

        Raises:
            DataError: nobody said whose labels these are, or there is no file.
        """
        chosen = existing(self.workspace, dataset_id)
        if not file:
            raise DataError("Nothing was chosen yet.", "Drop a file with labels first.")
        if not name:
            raise DataError("Whose labels are these?", "Type a name under “What you chose” first.")
        as_ = LABELS if treat == LABELS else SUGGESTIONS
        payload = {"dataset_id": chosen, "file": str(file), "as_": as_, "annotator": str(name)}
        self.desk.context.submit(IMPORT, {**payload, "create_classes": bool(create)})
        return self._said(IMPORT, chosen), None

    def follow(self, dataset_id: Any) -> list[Html]:
        known = isinstance(dataset_id, int)
        return [self._said(kind, dataset_id) if known else Html("") for kind in (EXPORT, IMPORT)]

    def _acting(self, kind: str) -> Any:
        def act(dataset_id: Any, event: gr.EventData) -> Html:
            what, value = pressed(event)
            chosen = existing(self.workspace, dataset_id)
            newest = newest_job(self.workspace, kind, chosen)
            if newest is not None and newest.id == value and what in ("cancel", "retry"):
                (jobs.cancel if what == "cancel" else jobs.retry)(self.workspace, value)
            return self._said(kind, chosen)

        return act

    def _said(self, kind: str, dataset_id: int) -> Html:
        """How far the newest job is, and what it brought."""
        job = newest_job(self.workspace, kind, dataset_id)
        if job is None:
            return Html("")
        if job.state is not JobState.DONE:
            return tag("div", progress(job), class_="pl-card")
        return self._export_done(job) if kind == EXPORT else import_done(job)

    def _export_done(self, job: Job) -> Html:
        result = job.result
        files = [str(each) for each in result.get("files") or []][:LINKED]
        place = PurePosixPath(str(result.get("path", ""))).name
        missing = int(result.get("missing") or 0)
        lost = f" {counted(missing, 'image')} could not be read and were left out." if missing else ""
        what = f"Exported {moment(job.finished_at)}: {counted(int(result.get('labelled') or 0), 'label')}.{lost}"
        where = f"All of it lies in the workspace’s folder “exports”, under “{place}”."
        return tag(
            "div", notice("good", what, where), tag("p", *map(self._link, files)), class_="pl-stack pl-downloads"
        )

    def _link(self, file: str) -> Html:
        address = f"gradio_api/file={quote(str(self.workspace.resolve(file)))}"
        name = PurePosixPath(file).name
        return tag("a", f"Download {name}", href=address, download=name, class_="pl-button small")


def import_done(job: Job) -> Html:
    """What a file brought, and what of it could not be used."""
    report = LabelImport.model_validate(job.result)
    suggestions = job.payload.get("as_") == SUGGESTIONS
    thing = "suggestion" if suggestions else "label"
    known = f", {number(report.already)} were known already" if report.already else ""
    what = f"Imported {moment(job.finished_at)}: {counted(report.added, thing)}{known}."
    new = f"New classes: {', '.join(report.created_classes)}." if report.created_classes else ""
    if not report.refused:
        return notice("good", what, new)
    more = f"{counted(report.refused, 'line')} could not be used."
    reasons = table(["Why", "Lines>"], [(reason, number(count)) for reason, count in report.reasons.items()])
    lines = [(row.where, row.image, row.label, row.reason) for row in report.refused_rows]
    shown = fold("Show the lines", table(["Line", "Image", "Label", "Why"], lines))
    return tag("div", notice("warning", what, f"{more} {new}"), reasons, shown, class_="pl-stack")
