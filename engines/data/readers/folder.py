"""Class folders, with or without train, val and test folders around them; a plain folder of images."""

from __future__ import annotations

from pathlib import Path

from engines.data.base import ImportOptions, Reader, Reading
from engines.data.listing import list_files
from engines.data.trees import read_tree
from engines.errors import DataError


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
        return read_tree(entries, left_out, lambda entry: entry.handle, options)
