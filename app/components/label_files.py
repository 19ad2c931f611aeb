"""Labels out of the workspace and into it: exports with or without the log, pre-labels as suggestions or as labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import gradio as gr

from app.components.folders import browse, chosen_place, open_browser
from app.components.html import Html, action, fold, notice, section, table, tag
from app.components.jobs import progress
from app.components.label_desk import QUEUE, Desk, existing, newest_job
from app.components.live import live_html, pressed
from app.components.words import counted, moment, number, size
from engines import jobs
from engines.data.names import clean
from engines.errors import DataError
from engines.labelling import label_settings, standing
from engines.labelling.answers import imported_suggestions
from engines.labelling.imports import LabelImport
from engines.labelling.readers import tidy
from engines.labelling.verdicts import LONGEST_NAME
from engines.store import Job, JobState, Occasion

EXPORT, IMPORT = "export_labels", "import_labels"
FORMATS = {
    "Table (CSV): one line an image": "csv",
    "Folders: one folder a class, with the images": "folder",
    "COCO: the images with one JSON file": "coco",
    "Hugging Face data set: images with a table": "hf",
    "Croissant: images, described for machines": "croissant",
}
SUGGESTIONS, LABELS = "suggestions", "labels"
LINKED = 5
"""Files of an export that get a link."""
NAMED = 20
"""Unknown classes that are listed."""
UPLOADS = [".csv", ".tsv", ".jsonl", ".parquet", ".json", ".zip"]


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
        self.archive = gr.Checkbox(
            value=True,
            label="With one ZIP file to download",
            info="Beside the folder on the disk; it takes the space of the images once more.",
            interactive=True,
            visible=False,
            elem_id="label-zip",
        )
        self.export = gr.Button("Export", variant="primary", scale=0, min_width=120, elem_id="label-export")
        self.exported = live_html(elem_id="label-exported")

    def _import(self) -> None:
        lead = "A table with a column for the image and one for the label, a COCO file, or a folder with one per class."
        gr.HTML(section("Import", lead), apply_default_css=False)
        with gr.Row(equal_height=True):
            self.place = gr.Textbox(
                label="Folder or file on this computer", max_lines=1, scale=4, elem_id="label-import-place"
            )
            self.browse = gr.Button("Browse …", scale=0, min_width=112, elem_classes="pl-beside")
        self.listing = live_html(elem_id="label-import-browser", visible=False)
        self.upload = gr.File(
            label="or a table, COCO or ZIP file from another computer",
            file_types=UPLOADS,
            height=160,
            elem_id="label-upload",
        )
        self.source = gr.Textbox(
            label="Where they are from",
            info="A name that stands beside each of them; that of the file where left empty.",
            placeholder="for example: registry 2019",
            max_lines=1,
            max_length=LONGEST_NAME,
            elem_id="label-source",
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
        self.awaited: gr.State = gr.State("")

    def listen(self) -> None:
        desk, context = self.desk, self.desk.context
        dataset, screen = desk.dataset, desk.screen
        context.listen(self.format.input, lambda form: gr.update(visible=form != "csv"), self.format, self.archive)
        context.listen(self.export.click, self.begin, [dataset, self.format, self.audit, self.archive], self.exported)
        context.listen(self.browse.click, open_browser, self.place, self.listing, every=True)
        context.listen(self.listing.action, browse, None, [self.listing, self.place], every=True)
        asked = [dataset, self.place, self.upload, self.source, self.treat, self.create]
        context.listen(self.take.click, self.read, asked, [self.imported, self.awaited, self.place, self.upload])
        context.listen(self.exported.action, self.act_on_export, dataset, self.exported, every=True)
        context.listen(
            self.imported.action, self.act_on_import, [dataset, desk.name], [self.imported, *screen], every=True
        )
        seen = [dataset, desk.name, self.awaited, desk.showing]
        context.on_tick(self.follow, seen, [self.exported, self.imported, self.awaited, *screen])

    def begin(self, dataset_id: Any, form: Any, audit: Any, archive: Any) -> Html:
        """Queue an export."""
        chosen = existing(self.workspace, dataset_id)
        payload = {"dataset_id": chosen, "format": form, "audit": bool(audit)}
        self.desk.context.submit(EXPORT, {**payload, "archive": bool(archive) and form != "csv"})
        return self._said(EXPORT, chosen)

    def read(
        self, dataset_id: Any, place: Any, file: Any, source: Any, treat: Any, create: Any
    ) -> tuple[Html, str, str, None]:
        """Queue an import.

        Raises:
            DataError: there is no file.
        """
        chosen = existing(self.workspace, dataset_id)
        path = chosen_place(place, file)
        payload = {"dataset_id": chosen, "file": str(path), "as_": LABELS if treat == LABELS else SUGGESTIONS}
        payload["annotator"] = tidy(str(source or "")) or clean(path.name)[:LONGEST_NAME] or "import"
        job = self.desk.context.submit(IMPORT, {**payload, "create_classes": bool(create)})
        return self._said(IMPORT, chosen), job, "", None

    def follow(self, dataset_id: Any, name: Any, awaited: Any, showing: Any) -> list[Any]:
        """How far both are. What the reading screen shows is opened anew where an import of this window changes it."""
        if not isinstance(dataset_id, int):
            return ["", "", gr.skip(), *[gr.skip()] * 3]
        said = [self._said(kind, dataset_id) for kind in (EXPORT, IMPORT)]
        job = newest_job(self.workspace, IMPORT, dataset_id) if awaited else None
        if job is None or job.id != awaited or not job.state.ended:
            return [*said, gr.skip(), *[gr.skip()] * 3]
        report = LabelImport.model_validate(job.result)
        assisted = not label_settings(self.workspace, dataset_id).blind
        changed = report.created_classes or (assisted and report.added and job.payload.get("as_") == SUGGESTIONS)
        anew = changed and showing == QUEUE and name
        screen = [self.desk.reader.open(dataset_id, name), "", QUEUE] if anew else [gr.skip()] * 3
        return [*said, "", *screen]

    def act_on_export(self, dataset_id: Any, event: gr.EventData) -> Html:
        what, value = pressed(event)
        chosen = existing(self.workspace, dataset_id)
        self._turn(EXPORT, chosen, what, value)
        return self._said(EXPORT, chosen)

    def act_on_import(self, dataset_id: Any, name: Any, event: gr.EventData) -> list[Any]:
        """Cancel, try again, or look at what was suggested.

        Raises:
            DataError: nobody said who reads, the reader is blind to suggestions, or has decided all of these images.
        """
        what, value = pressed(event)
        chosen = existing(self.workspace, dataset_id)
        if what == "confirm":
            return [gr.skip(), *self._open_suggested(chosen, name)]
        self._turn(IMPORT, chosen, what, value)
        return [self._said(IMPORT, chosen), *[gr.skip()] * 3]

    def _open_suggested(self, dataset_id: int, name: Any) -> tuple[str, Html, str]:
        if label_settings(self.workspace, dataset_id).blind:
            raise DataError(
                "You read blind, so suggestions are not shown.",
                "Switch off “Blind” under “What you chose”, Advanced; or press “Next batch” and read without them.",
            )
        mine = standing(self.workspace, dataset_id, str(name)) if name else {}
        waiting = [sample for sample in sorted(imported_suggestions(self.workspace, dataset_id)) if sample not in mine]
        if name and not waiting:
            raise DataError("You have decided all images with a suggestion.", "Nothing is left to confirm.")
        return self.desk.open_list(dataset_id, name, waiting, Occasion.REVIEW, "With a suggestion from a file")

    def _turn(self, kind: str, dataset_id: int, what: str, value: str) -> None:
        newest = newest_job(self.workspace, kind, dataset_id)
        if newest is not None and newest.id == value and what in ("cancel", "retry"):
            (jobs.cancel if what == "cancel" else jobs.retry)(self.workspace, value)

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
        place = PurePosixPath(str(result.get("path", ""))).name
        missing = int(result.get("missing") or 0)
        lost = f" {counted(missing, 'image')} could not be read and were left out." if missing else ""
        what = f"Exported {moment(job.finished_at)}: {counted(int(result.get('labelled') or 0), 'label')}.{lost}"
        where = f"All of it lies in the workspace’s folder “exports”, under “{place}”."
        archive, *files = [
            self.workspace.resolve(str(each)) for each in (result.get("archive") or "", *self._files(job))
        ]
        links = [_link(each) for each in files if each.is_file()]
        if result.get("archive") and archive.is_file():
            links.insert(0, _link(archive, f"Download all of it (ZIP, {size(archive.stat().st_size)})", "primary"))
        gone = "" if links else notice("info", "It has been moved or removed since.", "Export again to download it.")
        return tag("div", notice("good", what, where), gone, tag("p", *links), class_="pl-stack pl-downloads")

    def _files(self, job: Job) -> list[str]:
        return [str(each) for each in job.result.get("files") or []][:LINKED]


def _link(file: Path, words: str = "", style: str = "small") -> Html:
    address = f"gradio_api/file={quote(str(file))}"
    return tag("a", words or f"Download {file.name}", href=address, download=file.name, class_=f"pl-button {style}")


def import_done(job: Job) -> Html:
    """What a file brought, and what of it could not be used."""
    report = LabelImport.model_validate(job.result)
    suggestions = job.payload.get("as_") == SUGGESTIONS
    thing = "suggestion" if suggestions else "label"
    known = f", {number(report.already)} were known already" if report.already else ""
    what = f"Imported {moment(job.finished_at)}: {counted(report.added, thing)}{known}."
    told = [
        (report.created_classes, f"New classes: {', '.join(report.created_classes)}."),
        (report.blank, f"Without a label: {counted(report.blank, 'line')}."),
        (report.unclear, f"With a probability that is no number between 0 and 1: {counted(report.unclear, 'line')}."),
        (report.refused, f"Could not be used: {counted(report.refused, 'line')}."),
    ]
    usable = report.added or report.already
    confirm = action("Look at the suggested ones", "confirm", "", "small primary")
    return tag(
        "div",
        notice("warning" if report.refused else "good", what, " ".join(words for some, words in told if some)),
        tag("p", confirm) if suggestions and usable else "",
        *(_refused(report) if report.refused else ()),
        class_="pl-stack",
    )


def _refused(report: LabelImport) -> Iterator[Html]:
    """Why lines could not be used: reasons with counts, classes with counts, and the lines themselves."""
    yield table(["Why", "Lines>"], [(reason, number(count)) for reason, count in report.reasons.items()])
    if report.unknown_classes:
        shown = list(report.unknown_classes.items())
        yield table(["Class that the data set does not have", "Lines>"], [(n, number(c)) for n, c in shown[:NAMED]])
        more = f"and {number(len(shown) - NAMED)} more. " if len(shown) > NAMED else ""
        yield tag("p", more, "Tick “Add classes that are new” and import again, or correct the names in the file.")
    lines = [(row.where, row.image, row.label, row.reason) for row in report.refused_rows]
    rest = report.refused - len(lines)
    head = f"Show the lines ({number(len(lines))} of {number(report.refused)})" if rest else "Show the lines"
    yield fold(head, table(["Line", "Image", "Label", "Why"], lines))
