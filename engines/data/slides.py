"""Whole-slide images: pyramids of many levels, read piece by piece and never as a whole.

Only the scan itself is read. The photograph of the slide's label, which often bears a patient's name, stays where it
is, and so do all notes of the scanner except the size of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from engines.data.images import EMPTY, MISSING, NOT_A_FILE, UNREADABLE, Undecodable

SUFFIXES = {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".czi"}
"""Endings that only slides have."""
TIFF = {".tif", ".tiff"}
"""Endings of slides and of ordinary images."""
THUMBNAIL_SIDE = 2048
BLOCK = 1024
"""Longest side of what is decoded at a time where a picture is made smaller than its level."""
MOST_READ = 4_000_000_000
"""Pixels that are decoded at most for an overview: half a minute on one core."""

REMEDY = "Install the extra “medical”: pip install 'promptloupe[medical]'."
NEEDS_PACKAGE = "a slide, and slides need the packages openslide-python and openslide-bin"
NOT_A_SLIDE = "not a slide that can be read (SVS, NDPI, MRXS, SCN, BIF, CZI or tiled TIFF)"
DAMAGED = "damaged: the slide cannot be decoded"
TOO_LARGE = "too large for a slide without smaller levels: save it as a pyramid"


@cache
def openslide() -> Any:
    """The OpenSlide package.

    Raises:
        Undecodable: it is not installed.
    """
    try:
        import openslide as package
    except (ImportError, OSError) as error:  # the Python part may be there without the library itself
        raise Undecodable(NEEDS_PACKAGE, str(error)) from error
    return package


def available() -> bool:
    """Whether slides can be read on this machine."""
    try:
        openslide()
    except Undecodable:
        return False
    return True


def is_slide(path: Path, max_pixels: int) -> bool:
    """Whether to read a file piece by piece: by its ending, or because it is a TIFF from a scanner, one with several
    levels (and at most 8 bits), or a tiled one of more than `max_pixels`."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix.lower() not in TIFF or not available() or not path.is_file():
        return False
    try:
        vendor = openslide().OpenSlide.detect_format(path)
        if vendor != "generic-tiff":
            return vendor is not None
        with openslide().OpenSlide(path) as found:
            levels, pixels = found.level_count, math.prod(found.dimensions)
        if pixels > max_pixels:
            return True
        with Image.open(path, formats=("TIFF",)) as image:
            deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
        return levels > 1 and not deep  # OpenSlide would keep eight of the bits
    except Exception:  # whatever it is, it is no slide
        return False


class Slide:
    """An open slide.

    Args:
        check_cancelled: called between pieces; may raise to end the reading.

    Raises:
        Undecodable: missing, empty, no slide, damaged, or OpenSlide is not installed.
    """

    def __init__(self, path: Path, check_cancelled: Callable[[], object] = lambda: None) -> None:
        package = openslide()
        if not path.is_file():
            raise Undecodable(NOT_A_FILE if path.exists() else MISSING)
        try:
            if path.stat().st_size == 0:
                raise Undecodable(EMPTY)
            with path.open("rb"):
                pass  # OpenSlide does not say why it cannot open a file
            self._slide = package.OpenSlide(path)
        except package.OpenSlideUnsupportedFormatError as error:
            raise Undecodable(NOT_A_SLIDE) from error
        except package.OpenSlideError as error:
            raise Undecodable(DAMAGED, type(error).__name__) from error
        except OSError as error:
            raise Undecodable(UNREADABLE, type(error).__name__) from error
        self.check_cancelled = check_cancelled
        self.width, self.height = self._slide.dimensions
        """Size at full resolution, in pixels."""
        self.downsamples: tuple[float, ...] = self._slide.level_downsamples
        """How many times smaller than full resolution each level is; the first is 1."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; what was read stays."""
        self._slide.close()

    @property
    def mpp(self) -> float | None:
        """Micrometres per pixel at full resolution; None where the slide does not say."""
        try:
            found = float(self._slide.properties.get("openslide.mpp-x") or 0)
        except ValueError:
            return None
        return found if found > 0 and math.isfinite(found) else None

    def thumbnail(self, side: int = THUMBNAIL_SIDE) -> Image.Image:
        """The whole slide as RGB, at most `side` pixels long and never enlarged.

        Raises:
            Undecodable: damaged, or so large without smaller levels that it would take minutes.
        """
        ratio = max(1.0, max(self.width, self.height) / side)
        self.check_overview(ratio)
        width, height = (max(1, int(each / ratio + 1e-6)) for each in (self.width, self.height))
        return self.region(0, 0, ratio, width, height)

    def check_overview(self, ratio: float) -> None:
        """
        Raises:
            Undecodable: seeing all of the slide at 1/`ratio` of its resolution would take minutes.
        """
        if self.width * self.height / self.downsamples[self._level(ratio)] ** 2 > MOST_READ:
            raise Undecodable(TOO_LARGE)

    def region(self, left: float, top: float, ratio: float, width: int, height: int) -> Image.Image:
        """A part of the slide as RGB of `width` x `height` pixels, of which each is `ratio` pixels of full resolution
        wide; `left` and `top` are in pixels of full resolution. What the slide does not cover is white.

        Raises:
            Undecodable: damaged. The slide cannot be read any further then.
        """
        level = self._level(ratio)
        scale = ratio / self.downsamples[level]
        if abs(scale - 1) < 0.01:
            return self._read(left, top, level, width, height)
        if scale > BLOCK // 4:  # a pixel of it would need more than is decoded at a time
            finer = math.ceil(scale / (BLOCK // 4))
            larger = self.region(left, top, ratio / finer, width * finer, height * finer)
            return larger.resize((width, height), Image.Resampling.BOX)
        block = int(BLOCK / scale)
        picture = Image.new("RGB", (width, height))
        for y in range(0, height, block):
            for x in range(0, width, block):
                self.check_cancelled()
                w, h = min(block, width - x), min(block, height - y)
                part = self._read(left + x * ratio, top + y * ratio, level, math.ceil(w * scale), math.ceil(h * scale))
                box = (0, 0, min(part.width, w * scale), min(part.height, h * scale))
                picture.paste(part.resize((w, h), Image.Resampling.BOX, box), (x, y))
        return picture

    def _level(self, ratio: float) -> int:
        """The smallest level that is not coarser than `ratio` (levels are seldom exact powers)."""
        return max(level for level, each in enumerate(self.downsamples) if level == 0 or each <= ratio * 1.01)

    def _read(self, left: float, top: float, level: int, width: int, height: int) -> Image.Image:
        try:
            found = self._slide.read_region((round(left), round(top)), level, (width, height))
        except openslide().OpenSlideError as error:
            raise Undecodable(DAMAGED, type(error).__name__) from error
        white = Image.new("RGBA", found.size, "white")
        return Image.alpha_composite(white, found).convert("RGB")


def tissue(pixels: np.ndarray) -> np.ndarray:
    """Which pixels [H, W] of RGB pixels [H, W, 3] show tissue: stained or dark, but not black.

    Glass is nearly white, and the colour of what the scanner did not cover is black or white. Stained: the largest and
    the smallest of the three colours are at least 16 of 255 apart. Dark: the mean of the three is at most 200.
    """
    colours = pixels.astype(np.int16)
    mean = colours.mean(axis=-1)
    stained = colours.max(axis=-1) - colours.min(axis=-1) >= 16
    return np.asarray((stained | (mean <= 200)) & (mean >= 25))
