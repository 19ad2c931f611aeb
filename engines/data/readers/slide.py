"""A single slide, or a single TIFF image."""

from __future__ import annotations

from pathlib import Path

from engines.data.base import ImportOptions, Reader, Reading, Record
from engines.data.slides import SUFFIXES, TIFF


class SlideReader(Reader):
    """One slide without a label, cut into tiles or as one small picture. Folders of slides are read as other folders.

    The photograph of the slide's label and the scanner's notes are not read.
    """

    name = "slide"
    title = "Slide (SVS, NDPI, MRXS, tiled TIFF …)"
    rank = 45

    def accepts(self, source: Path) -> bool:
        return source.is_file() and source.suffix.lower() in SUFFIXES | TIFF

    def read(self, source: Path, options: ImportOptions) -> Reading:
        return Reading([Record(source.name, source)], 1)
