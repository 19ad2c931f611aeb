"""Class folders, with or without train, val and test folders around them; a plain folder of images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engines.data.base import ImportOptions, Reader, Reading
from engines.data.listing import Entry, list_files
from engines.data.tables import split_name
from engines.data.trees import is_candidate, read_tree
from engines.errors import DataError


def shared_folders(entries: Iterable[Entry]) -> list[str]:
    """The sub-folders of the class folders where all have the same ones, two at least, and no images beside them."""
    inside: dict[str, set[str]] = {}
    for entry in filter(is_candidate, entries):
        if len(entry.parts) < 3 or split_name(entry.parts[0]):
            return []
        inside.setdefault(entry.parts[0], set()).add(entry.parts[1])
    same = len(inside) > 1 and len({frozenset(names) for names in inside.values()}) == 1
    found = sorted(next(iter(inside.values()))) if same else []
    return found if len(found) > 1 else []


class FolderReader(Reader):
    """A folder with one sub-folder per class.

    `train`, `val` and `test` folders may lie around the class folders, and a `metadata.csv` (`.jsonl`, `.parquet`)
    with a `file_name` column may name label, split, domain and group. Images outside of any class folder come
    without a label. Images stay where they are.
    """

    name = "folder"
    title = "Folder with one sub-folder per class"
    rank = 90

    def accepts(self, source: Path) -> bool:
        return source.is_dir()

    def read(self, source: Path, options: ImportOptions) -> Reading:
        if not source.is_dir():
            raise DataError(f"“{source.name}” is not a folder.", "Choose the folder that holds the images.")
        entries, left_out = list_files(source)
        reading = read_tree(entries, left_out, lambda entry: entry.handle, options)
        if shared := shared_folders(entries):
            reading.warnings.append(
                f"All class folders hold the same sub-folders ({', '.join(shared[:5])}). If those are the classes, and"
                " the outer folders sites, scanners or styles, import the folder again as one of domains."
            )
        return reading
