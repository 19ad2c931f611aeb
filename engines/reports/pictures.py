"""Images inside a report: small, drawn anew from their pixels alone, so that nothing of the file travels with them."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence

from PIL import Image

from engines.data.images import load_image
from engines.data.thumbnails import ensure_thumbnail
from engines.errors import PromptloupeError
from engines.reports.markup import Html, tag
from engines.store import Sample, Workspace

SMALL, LARGE = 160, 360
"""Longest side in pixels, in a report and on a slide."""


def picture(workspace: Workspace, sample: Sample, side: int = SMALL) -> str:
    """An image as a data address (JPEG, at most `side` pixels); empty where it cannot be read any more."""
    try:
        image = _read(workspace, sample, side)
    except (PromptloupeError, OSError):
        return ""
    # A new image of the pixels: comments, EXIF and other text of the file stay behind.
    bare = Image.new("RGB", image.size)
    bare.paste(image.convert("RGB"))
    written = io.BytesIO()
    bare.save(written, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{b64encode(written.getvalue()).decode()}"


def _read(workspace: Workspace, sample: Sample, side: int) -> Image.Image:
    if side > SMALL:
        try:
            image = load_image(workspace.resolve(sample.file))
            image.thumbnail((side, side))
            return image
        except (PromptloupeError, OSError):
            pass  # the file is gone from its source: its thumbnail is still here
    with Image.open(ensure_thumbnail(workspace, sample)) as image:
        image.load()
        return image


def grid(cells: Sequence[tuple[str, Html]]) -> Html:
    """Images on neutral grey, each with words below; those without a picture are left out."""
    shown = [
        tag("figure", tag("span", tag("img", src=image, alt=""), class_="frame"), tag("figcaption", words))
        for image, words in cells
        if image
    ]
    return tag("div", *shown, class_="images") if shown else Html("")
