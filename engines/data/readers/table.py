"""CSV, TSV, JSON lines or Parquet files with a column of file names and a column of classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engines.data.base import ImportOptions, LeftOut, Reader, Reading, Record, check_class_count
from engines.data.embedded import embedded_parquet
from engines.data.images import MISSING, Undecodable, read_file
from engines.data.images import SUFFIXES as IMAGE_SUFFIXES
from engines.data.names import is_text
from engines.data.tables import SUFFIXES, Columns, Row, find_columns, list_columns, read_table
from engines.data.trees import describe_row
from engines.errors import DataError

LEADS_OUT = "its path leads out of the table’s folder"
NO_PATH = "the row names no file"
BAD_PATH = "the row’s file name is not a valid path"


class TableReader(Reader):
    """A table with one row per image. Columns are guessed from their names unless the options name them.

    File names are relative to the table's folder (or `images_folder`), or absolute; the images stay where they are.
    A Parquet file may hold the images themselves, as files from the Hugging Face hub do.
    """

    name = "table"
    title = "Table (CSV, TSV, JSON lines, Parquet) with a column of file names"
    rank = 30

    def accepts(self, source: Path) -> bool:
        return source.is_file() and source.suffix.lower() in SUFFIXES

    def read(self, source: Path, options: ImportOptions) -> Reading:
        suffix = source.suffix.lower()
        if suffix == ".parquet" and (reading := embedded_parquet([source], options)):
            return reading
        try:
            data = read_file(source)
        except Undecodable as error:
            raise DataError(f"The table “{source.name}” cannot be read: {error.reason}.", "Choose another.") from error
        names, rows = read_table(data, suffix, source.name)
        columns = find_columns(names, options)
        for what, column, option in (("file names", columns.path, "path"), ("classes", columns.label, "label")):
            if not column:
                raise DataError(
                    f"The table “{source.name}” has no column that is known to hold {what};"
                    f" its columns are: {list_columns(names) or 'none'}.",
                    f"Name the column in the options ({option}_column).",
                )
        root = images_folder(options, source.parent)
        check_class_count(len({row.get(columns.label, "") for row in rows}))
        return Reading(
            _records(rows, columns, root),
            len(rows),
            hint="Name the folder that the file names are relative to in the options (images_folder).",
        )


def images_folder(options: ImportOptions, default: Path) -> Path:
    """The folder that file names are relative to.

    Raises:
        DataError: the options name one that does not exist.
    """
    if not options.images_folder:
        return default.resolve()
    folder = default / Path(options.images_folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"The folder of the images, “{folder.name}”, does not exist.", "Check its name.")
    return folder.resolve()


def _records(rows: list[Row], columns: Columns, root: Path) -> Iterator[Record | LeftOut]:
    for number, row in enumerate(rows, 2):
        text = row.get(columns.path, "")
        place = locate(text, root)
        if isinstance(place, LeftOut):
            yield place if text else LeftOut(f"row {number}", NO_PATH)
            continue
        about = describe_row(row, columns.label, columns.split, columns.domain, columns.group)
        yield Record(
            name=text.replace("\\", "/"),
            source=place,
            label=about["label"],
            split=about["split"],
            domain=about["domain"] or "",
            group=about["group"] or "",
        )


def locate(text: str, root: Path) -> Path | LeftOut:
    """The file that a table means by `text`: absolute, or relative to `root` and then inside it."""
    if not text or "\0" in text or not is_text(text) or len(text) > 4096:
        return LeftOut(text[:200], BAD_PATH)
    given = Path(text.replace("\\", "/") if os.sep == "/" else text)
    place = _with_ending(root / given)
    if given.is_absolute():
        return place
    if not Path(os.path.realpath(place)).is_relative_to(root):
        return LeftOut(text, LEADS_OUT)
    return place if place.exists() else LeftOut(text, MISSING)


def _with_ending(place: Path) -> Path:
    """Tables often name images without their ending."""
    if place.suffix.lower() in IMAGE_SUFFIXES or place.exists():
        return place
    tried = (place.with_name(place.name + suffix) for suffix in (".jpg", ".png", ".jpeg", ".tif", ".webp", ".bmp"))
    return next((other for other in tried if other.exists()), place)
