"""Galleries: grids of cached thumbnails, a page at a time, that mouse and keyboard can walk."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from PIL import Image

from app.components.figures import SPLIT_WORDS
from app.components.html import Html, action, join, tag
from app.components.words import number
from engines.data import load_image, thumbnail_path
from engines.errors import PromptloupeError
from engines.store import Sample, Workspace

PAGE_SIZE = 60
VIEW_SIDE = 640
"""Longest side in pixels of the image that is shown large."""


@dataclass(frozen=True)
class Cell:
    """One image of a grid."""

    value: Any
    """What the `select` action brings back."""
    image: str
    """Address of its thumbnail."""
    alt: str
    caption: Any = ""
    selected: bool = False


def thumbnail_url(workspace: Workspace, sample: Sample) -> str:
    """Address of a sample's thumbnail, relative so that it works below any address."""
    return f"gradio_api/file={quote(str(thumbnail_path(workspace, sample)))}"


def sample_cells(
    workspace: Workspace, samples: Iterable[Sample], names: Mapping[int, str], selected: int | None = None
) -> list[Cell]:
    """Cells for samples, captioned with their class; `names` are class names by id."""
    cells = []
    for sample in samples:
        label = names.get(sample.class_id or 0, "no label")
        alt = f"{label}, {SPLIT_WORDS.get(sample.split, sample.split)}: {sample.name}"
        cells.append(Cell(sample.id, thumbnail_url(workspace, sample), alt, label, sample.id == selected))
    return cells


def grid(cells: Sequence[Cell]) -> Html:
    """The grid. A press brings the action `select` with the cell's value."""
    return tag("div", *map(_cell, cells), class_="pl-gallery", role="group", aria_label="Images")


def _cell(cell: Cell) -> Html:
    return tag(
        "button",
        tag("span", tag("img", src=cell.image, alt=cell.alt, loading="lazy"), class_="pl-frame"),
        tag("span", cell.caption, class_="pl-caption"),
        type="button",
        data_action="select",
        data_value=cell.value,
        aria_pressed=str(cell.selected).lower(),
        title=cell.alt,
    )


def pager(first: int, shown: int, total: int, size: int = PAGE_SIZE, keys: bool = True) -> Html:
    """ "1–60 of 1,260" with buttons; a press brings the action `page` with the place of the first image.

    Without `keys`, arrows, Home and End are left to something else on the page.
    """
    last = max(0, (total - 1) // size * size)

    def button(label: str, place: int, words: str, key: str = "") -> Html:
        off = not 0 <= place <= last or place == first
        named = (keys and key) or None
        return action(label, "page", place, "small", disabled=off, title=words, aria_label=words, data_key=named)

    return tag(
        "div",
        tag("span", f"{number(first + 1)}–{number(first + shown)} of {number(total)}", class_="pl-quiet"),
        tag(
            "span",
            button("«", 0, "First page", "Home"),
            button("‹ Back", first - size, "Page before (left arrow)", "ArrowLeft"),
            button("Next ›", first + size, "Next page (right arrow)", "ArrowRight"),
            button("»", last, "Last page", "End"),
            class_="pl-buttons",
        ),
        class_="pl-row pl-pager",
    )


def viewer(workspace: Workspace, sample: Sample, label: str) -> Html:
    """One image large, with what is known of it; its action `close` has no value."""
    facts = [
        ("Class", label),
        ("Used", SPLIT_WORDS.get(sample.split, sample.split)),
        ("Name", sample.name),
        ("Size", f"{sample.width} × {sample.height} pixels"),
        ("Domain", sample.domain),
        ("Group", sample.group),
    ]
    return tag(
        "aside",
        tag("div", tag("strong", label), action("Close", "close", "", "small quiet", data_key="c"), class_="pl-row"),
        tag("div", _large(workspace, sample, label), class_="pl-frame"),
        tag("dl", *(join([tag("dt", name), tag("dd", value)]) for name, value in facts if value)),
        class_="pl-viewer",
        aria_label="The chosen image",
    )


def _large(workspace: Workspace, sample: Sample, label: str) -> Html:
    try:
        image = load_image(workspace.resolve(sample.file))
    except PromptloupeError as error:
        return tag("p", str(error), class_="pl-problem")
    return tag("img", src=picture_url(image), alt=f"{label}: {sample.name}")


def picture_url(image: Image.Image) -> str:
    """An RGB image as an address that carries it, at most `VIEW_SIDE` pixels long; lossless where it is small."""
    small = max(image.size) <= VIEW_SIDE
    if not small:
        image = image.copy()
        image.thumbnail((VIEW_SIDE, VIEW_SIDE))
    stream = io.BytesIO()
    image.save(stream, "PNG" if small else "JPEG", **({} if small else {"quality": 90}))
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(stream.getvalue()).decode()}"
