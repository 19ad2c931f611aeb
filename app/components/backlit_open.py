"""Bringing photos to the Backlit page: dropped files, a dropped folder, or a folder of this computer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from app.components.folders import browse, open_browser
from app.components.live import live_html
from app.context import AppContext
from engines.enhance.choices import PHOTO_SUFFIXES, photos_of
from engines.enhance.groups import new_group
from engines.errors import DataError
from engines.store import Workspace


class OpenPanel:
    """Components that bring photos; `listen` tells what to do with a new group."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        with gr.Row():
            self.files = gr.File(
                label="Drop photos here", file_count="multiple", height=150, elem_id="backlit-files", scale=2
            )
            self.folder = gr.File(
                label="or a folder", file_count="directory", height=150, elem_id="backlit-folder", scale=1
            )
        with gr.Row(equal_height=True):
            self.place = gr.Textbox(
                label="or a folder or photo on this computer, which stays where it is",
                placeholder="Its place, or press Browse",
                max_lines=1,
                scale=4,
                elem_id="backlit-place",
            )
            self.browsing = gr.Button("Browse …", scale=0, min_width=112, elem_classes="pl-beside")
            self.open = gr.Button("Open", scale=0, min_width=96, elem_id="backlit-open", elem_classes="pl-beside")
        self.listing = live_html(elem_id="backlit-browser", visible=False)

    def listen(self, found: gr.State) -> list[Any]:
        """Wire it; `found` gets the id of the new group. Returns the events behind which a page goes on."""
        context, workspace = self.context, self.context.workspace

        def dropped(files: Any) -> Any:
            return opened(workspace, files) if files else gr.skip()

        def named(place: Any) -> Any:
            return opened(workspace, None, str(place or ""))

        context.listen(self.browsing.click, open_browser, self.place, self.listing, every=True)
        context.listen(self.listing.action, browse, None, [self.listing, self.place], every=True)
        return [
            context.listen(self.files.upload, dropped, self.files, found),
            context.listen(self.folder.upload, dropped, self.folder, found),
            context.listen(self.open.click, named, self.place, found),
            context.listen(self.place.submit, named, self.place, found),
        ]


def opened(workspace: Workspace, files: Any, place: str = "") -> str:
    """Id of a new group of dropped files (copied), or of those at a place of this computer.

    Raises:
        DataError: there are none.
    """
    if files is not None:
        paths = [Path(str(each)) for each in (files if isinstance(files, list) else [files])]
        photos = [path for path in paths if len(paths) == 1 or path.suffix.lower() in PHOTO_SUFFIXES]
        if not photos:
            raise DataError("There is no photo among these files.", "Choose others.")
        return new_group(workspace, sorted(photos, key=lambda path: path.name.lower()), copy=True).id
    stripped = place.strip().strip("\"'")
    if not stripped:
        raise DataError("Nothing was chosen yet.", "Name a folder, press Browse, or drop photos.")
    return new_group(workspace, photos_of([stripped])).id
