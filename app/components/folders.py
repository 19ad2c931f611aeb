"""Choosing a folder or file of this computer by clicking, because a browser does not tell a program where files lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app.components.html import Html, action, notice, tag
from app.components.icons import icon
from app.components.live import pressed
from app.components.words import counted
from engines.errors import DataError

FILES = {".zip", ".csv", ".tsv", ".jsonl", ".parquet", ".json", ".npz"}
IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".dcm", ".gif"}
MOST_ENTRIES = 500


def start_folder() -> Path:
    return Path.home()


def chosen_place(where: Any, uploaded: Any) -> Path:
    """The folder or file that was typed, or the file that was dropped.

    Raises:
        DataError: there is neither, or both, or nothing lies there.
    """
    place = str(where or "").strip().strip("\"'")
    if place and uploaded:
        raise DataError("There is both a place on this computer and an upload.", "Take one of them away.")
    if not place and not uploaded:
        raise DataError("Nothing was chosen yet.", "Name a folder or file, press Browse, or drop a file.")
    path = Path(str(uploaded)) if uploaded else Path(place).expanduser()
    if not path.exists():
        raise DataError(
            f"There is no folder or file “{path.name or place}” at that place.",
            "Check the spelling, or choose it with Browse. The place is meant on the computer that runs Promptloupe.",
            str(path),
        )
    return path.resolve()


def open_browser(where: Any) -> Any:
    """Show the folder that stands in the field; a listener of the button beside it."""
    place = Path(str(where or "").strip() or start_folder()).expanduser()
    return gr.HTML(browser(str(place if place.is_dir() else start_folder())), visible=True)


def browse(event: gr.EventData) -> Sequence[Any]:
    """(the browser's next content, the field's): a listener of the browser's actions."""
    name, value = pressed(event)
    if name == "open":
        return browser(value), gr.skip()
    return gr.HTML(visible=False), value if name == "choose" else gr.skip()


def browser(folder: str) -> Html:
    """The contents of a folder: actions `open` (a folder), `choose` (this folder or a file) and `close`."""
    place = Path(folder).expanduser() if folder else start_folder()
    try:
        folders, files, images = _look(place)
    except OSError as error:
        parent = place.parent if place.parent != place else start_folder()
        return tag(
            "div",
            notice("error", "This folder cannot be opened.", "Choose another one.", str(error)),
            action("Back", "open", parent, "small"),
            class_="pl-card",
        )
    count = counted(images, "image") if images else "no images directly in it"
    rows = [action(tag("span", icon("folder", 16), path.name), "open", path, "quiet pl-entry") for path in folders]
    rows += [action(tag("span", icon("page", 16), path.name), "choose", path, "quiet pl-entry") for path in files]
    return tag(
        "div",
        tag(
            "div",
            tag("span", tag("strong", place.name or str(place)), f" · {count}", class_="pl-place"),
            tag(
                "span",
                action(
                    tag("span", icon("up", 16), "Up"), "open", place.parent, "small", disabled=place.parent == place
                ),
                action("Take this folder", "choose", place, "small primary"),
                action("Close", "close", "", "small quiet"),
                class_="pl-buttons",
            ),
            class_="pl-row",
        ),
        tag("div", *rows, class_="pl-entries")
        if rows
        else tag("p", "Nothing here that can be opened.", class_="pl-quiet"),
        class_="pl-card",
    )


def _look(place: Path) -> tuple[list[Path], list[Path], int]:
    """(folders, files that can be imported, number of images), by name; hidden ones are not shown."""
    folders, files, images = [], [], 0
    with os.scandir(place) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(Path(entry.path))
            elif suffix in FILES:
                files.append(Path(entry.path))
            elif suffix in IMAGES:
                images += 1
    return sorted(folders, key=_by_name)[:MOST_ENTRIES], sorted(files, key=_by_name)[:MOST_ENTRIES], images


def _by_name(path: Path) -> str:
    return path.name.lower()
