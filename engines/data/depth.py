"""Greyscale of more than 8 bits, kept beside the 8-bit picture that the model, thumbnails and exports get.

A reader moves a window over the values, so the reading screen needs all of them. They are kept as an ordinary
16-bit PNG, with what its numbers stand for in a text chunk; nothing else of the source goes into it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo
from pydantic import BaseModel, ConfigDict, Field, ValidationError

CODES = 65535
SUFFIX = ".deep.png"
CHUNK = "promptloupe"
"""Name of the text chunk."""
MOST_PIXELS = 178_000_000


class Window(BaseModel):
    """A window that the source names or that is usual for its kind: values from `centre - width / 2` (black) on."""

    model_config = ConfigDict(frozen=True)

    name: str = ""
    centre: float = Field(allow_inf_nan=False)
    width: float = Field(gt=0, allow_inf_nan=False)


class Meaning(BaseModel):
    """What the codes stand for: a code is the value `low + step × code`."""

    low: float = Field(0.0, allow_inf_nan=False)
    step: float = Field(1.0, gt=0, allow_inf_nan=False)
    inverted: bool = False
    """Whether high values are dark (MONOCHROME1)."""
    windows: tuple[Window, ...] = ()
    """The first of them holds at first; none: between the 0.1th and 99.9th percentile."""


@dataclass(frozen=True, slots=True)
class Depth:
    """Codes [H, W] as uint16, and what they stand for."""

    codes: np.ndarray
    meaning: Meaning

    def values(self) -> np.ndarray:
        """Values [H, W] as float64, in the units of the source (Hounsfield units for CT)."""
        return self.meaning.low + self.meaning.step * self.codes.astype(np.float64)

    def content(self) -> bytes:
        """What tells two depths apart, the same on every machine."""
        return self.codes.astype("<u2").tobytes() + self.meaning.model_dump_json().encode()


def deep(
    numbers: np.ndarray, windows: Sequence[Window] = (), inverted: bool = False, step: float | None = None
) -> Depth:
    """Values [H, W] as 16-bit codes: exact where they are whole numbers, or multiples of `step` apart, that fit.

    Values that are no number become the lowest one, endless ones the lowest or highest.
    """
    values = numbers.astype(np.float64)
    numbers_only = np.isfinite(values)
    finite = values.ravel() if numbers_only.all() else values[numbers_only]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if step is None or step <= 0:
        step = 1.0 if np.all(finite == np.rint(finite)) else 0.0
    if not step or high - low > CODES * step:
        step = (high - low) / CODES or 1.0
    filled = values if finite.size == values.size else np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    codes = np.clip(np.rint((filled - low) / step), 0, CODES).astype(np.uint16)
    return Depth(codes, Meaning(low=low, step=step, inverted=inverted, windows=tuple(windows)))


def encode(depth: Depth) -> bytes:
    """The PNG file of a depth."""
    about = PngInfo()
    about.add_text(CHUNK, depth.meaning.model_dump_json())
    stream = io.BytesIO()
    Image.fromarray(depth.codes).save(stream, "PNG", compress_level=1, pnginfo=about)
    return stream.getvalue()


def decode(data: bytes) -> Depth | None:
    """What `encode` wrote; None for everything else, and where it is damaged."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if not isinstance(image, PngImageFile) or image.width * image.height > MOST_PIXELS:
                return None
            image.load()
            meaning = Meaning.model_validate_json(image.text.get(CHUNK, ""))
            codes = np.asarray(image)
    except (ValidationError, OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError):
        return None
    return Depth(codes.astype(np.uint16), meaning) if codes.ndim == 2 else None


def depth_file(file: str) -> str | None:
    """Where the depth of a sample's file lies, if it has one: beside it in the workspace, never in a user's folder."""
    path = Path(file)
    return str(path.with_suffix(SUFFIX)) if path.parts[:1] == ("media",) and path.suffix == ".png" else None
