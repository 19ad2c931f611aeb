"""A folder of images whose sub-folders are not classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engines.data.base import ImportOptions, LeftOut, Reader, Reading
from engines.data.readers.folder import FolderReader


class UnlabelledReader(Reader):
    """As the folder reader, but sub-folders mean nothing: every image comes without a label, to be labelled later."""

    name = "unlabelled"
    title = "Folder of images without labels"
    rank = 99

    def accepts(self, source: Path) -> bool:
        return False  # only where a person chooses it

    def read(self, source: Path, options: ImportOptions) -> Reading:
        reading = FolderReader().read(source, options)
        reading.records = (
            one if isinstance(one, LeftOut) else replace(one, label=None, split=None) for one in reading.records
        )
        reading.classes, reading.descriptions = [], {}
        return reading
