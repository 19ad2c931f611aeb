"""What can be done with a data set as a whole: rename, export, move to the bin and back; and the jobs it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import gradio as gr

from app.components.html import Html, action, join, notice, tag
from app.components.jobs import progress
from app.components.live import pressed
from app.components.words import counted
from app.context import AppContext
from engines import jobs
from engines.data import remove_dataset, restore_dataset
from engines.errors import DataError
from engines.store import Job, JobState, Workspace
from engines.store.browse import dataset_summaries, get_jobs
from engines.store.edit import rename_dataset

KINDS = ("import", "sample", "export-data")
MOST_FOLLOWED = 8


@dataclass(frozen=True)
class Manage:
    """The buttons beside the chooser."""

    dataset: gr.BrowserState
    changed: gr.State
    """Counts up whenever the page has to be drawn anew."""
    exported: gr.State
    removed: gr.State

    def follow(
        self,
        context: AppContext,
        started: gr.State,
        place: gr.HTML,
        page: Sequence[Any],
        show: Callable[[Any], list[Any]],
    ) -> None:
        """Show in `place` how the page's jobs are doing, and what they brought when they are done.

        Args:
            started: id of the import that was started last.
            page: the components that `show` fills for the id of a data set that has arrived.
        """
        followed = context.remembered("data-jobs", [])
        unchanged = [gr.skip()] * len(page)

        def look(known: Any, removed: Any) -> Sequence[Any]:
            active = [job.id for job in jobs.active(context.workspace) if job.kind in KINDS]
            ids = _ids(known)
            if not active and not ids and not removed:
                return gr.HTML("", visible=False), gr.skip(), *unchanged
            ids = list(dict.fromkeys([*ids, *active]))[-MOST_FOLLOWED:]
            found = get_jobs(context.workspace, ids)
            arrived = [
                j for j in found if j.state is JobState.DONE and j.kind != "export-data" and j.id in _open(known)
            ]
            shown = join([_undo(context.workspace, removed), *(_said(context.workspace, job) for job in found)])
            still = [{"id": job.id, "open": not job.state.ended} for job in found]
            remembered = gr.skip() if still == known else still
            return (
                gr.HTML(shown, visible=True),
                remembered,
                *(show(arrived[-1].result.get("dataset_id")) if arrived else unchanged),
            )

        def note(job: str, known: Any) -> list[Any]:
            return [*_entries(known), {"id": str(job), "open": True}] if job else gr.skip()

        def act(event: gr.EventData, known: Any, removed: Any, changed: int) -> Sequence[Any]:
            name, value = pressed(event)
            left = [each for each in _entries(known) if each["id"] != value]
            if name == "undo":
                restored = restore_dataset(context.workspace, int(removed))
                return left, None, restored.id, changed + 1
            if name == "keep":
                return left, None, gr.skip(), gr.skip()
            if name == "cancel":
                jobs.cancel(context.workspace, value)
                return gr.skip(), gr.skip(), gr.skip(), gr.skip()
            if name == "retry":
                left.append({"id": jobs.retry(context.workspace, value), "open": True})
            return left, gr.skip(), gr.skip(), gr.skip()

        for source in (started, self.exported):
            context.listen(source.change, note, [source, followed], followed)
        context.on_load(look, [followed, self.removed], [place, followed, *page])
        context.on_tick(look, [followed, self.removed], [place, followed, *page])
        context.listen(
            place.action,
            act,
            [followed, self.removed, self.changed],
            [followed, self.removed, self.dataset, self.changed],
            every=True,
        )


def build_manage(context: AppContext, dataset: gr.BrowserState, changed: gr.State) -> Manage:
    """Lay out the buttons and wire up all that is done at once."""
    workspace = context.workspace
    exported, removed = gr.State(""), gr.State(None)
    rename = gr.Button("Rename …", scale=0, min_width=112, elem_id="data-rename", elem_classes="pl-beside")
    export = gr.Button("Export", scale=0, min_width=96, elem_id="data-export", elem_classes="pl-beside")
    remove = gr.Button("Move to bin", scale=0, min_width=128, elem_id="data-remove", elem_classes="pl-beside")
    with gr.Row(visible=False, equal_height=True) as form:
        name = gr.Textbox(label="New name", max_lines=1, max_length=200, elem_id="data-new-name", scale=3)
        save = gr.Button("Save", variant="primary", scale=0, min_width=96, elem_classes="pl-beside")
        cancel = gr.Button("Cancel", scale=0, min_width=96, elem_classes="pl-beside")

    def open_form(chosen: Any) -> Sequence[Any]:
        current = next((each.name for each in dataset_summaries(workspace) if each.id == chosen), "")
        return gr.Row(visible=True), current

    def save_name(chosen: Any, wanted: str, count: int) -> Sequence[Any]:
        rename_dataset(workspace, _existing(workspace, chosen), str(wanted))
        return gr.Row(visible=False), count + 1

    def start_export(chosen: Any) -> str:
        return context.submit("export-data", {"dataset_id": _existing(workspace, chosen), "format": "zip"})

    def move_to_bin(chosen: Any, count: int) -> Sequence[Any]:
        remove_dataset(workspace, _existing(workspace, chosen))
        return chosen, None, count + 1

    context.listen(rename.click, open_form, dataset, [form, name], every=True)
    context.listen(cancel.click, lambda: gr.Row(visible=False), None, form, every=True)
    for event in (save.click, name.submit):
        context.listen(event, save_name, [dataset, name, changed], [form, changed], every=True)
    context.listen(export.click, start_export, dataset, exported)
    context.listen(remove.click, move_to_bin, [dataset, changed], [removed, dataset, changed])
    return Manage(dataset, changed, exported, removed)


def _existing(workspace: Workspace, chosen: Any) -> int:
    if chosen not in [each.id for each in dataset_summaries(workspace)]:
        raise DataError("No data set is chosen.", "Choose one first.")
    return int(chosen)


def _entries(known: Any) -> list[dict[str, Any]]:
    """The jobs that the browser remembers, without what is not one."""
    entries = known if isinstance(known, list) else []
    return [each for each in entries if isinstance(each, dict) and isinstance(each.get("id"), str)]


def _ids(known: Any) -> list[str]:
    return [each["id"] for each in _entries(known)]


def _open(known: Any) -> set[str]:
    """Jobs that had not ended when the page last looked."""
    return {each["id"] for each in _entries(known) if each.get("open")}


def _said(workspace: Workspace, job: Job) -> Html:
    """A job of this page: its progress, or what it brought."""
    if job.state is not JobState.DONE:
        dismiss = action("Dismiss", "keep", job.id, "small quiet") if job.state.ended else ""
        return tag("div", progress(job), dismiss, class_="pl-card")
    dismiss = action("Dismiss", "keep", job.id, "small quiet")
    if job.kind == "export-data":
        place = quote(str(workspace.resolve(str(job.result.get("path", "")))))
        offer = tag("a", "Download", href=f"gradio_api/file={place}", download=True, class_="pl-button small primary")
        return _good("The export is ready.", "It is kept in the workspace’s exports.", offer, dismiss)
    images = int(job.result.get("imported") or 0)
    left_out = sum(int(n) for n in (job.result.get("reasons") or {}).values())
    more = f"{counted(left_out, 'file')} left out: see the import report." if left_out else "Nothing was left out."
    return _good(f"“{job.result.get('name', '')}” is here: {counted(images, 'image')}.", more, dismiss)


def _undo(workspace: Workspace, removed: Any) -> Html:
    if not removed:
        return Html("")
    binned = next((each for each in dataset_summaries(workspace, deleted=True) if each.id == removed), None)
    if binned is None:
        return Html("")
    return _good(
        "The data set is in the bin.",
        "It stays there for 30 days; its images were never touched.",
        action("Undo", "undo", "", "small primary"),
        action("Dismiss", "keep", "", "small quiet"),
    )


def _good(what: Any, more: Any, *buttons: Html) -> Html:
    return tag("div", notice("good", what, more), tag("span", *buttons, class_="pl-buttons"), class_="pl-offer")
