"""Tables of images: CSV, TSV, JSON lines and Parquet as rows of text, and which column means what."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.data.base import ImportOptions
from engines.data.names import clean, plain_cell
from engines.errors import DataError

TEXT_TABLES = {".csv", ".tsv", ".txt"}
SUFFIXES = {".csv", ".tsv", ".jsonl", ".parquet"}
LONGEST_CELL = 1 << 20

Row = dict[str, str]

GUESSES: dict[str, tuple[str, ...]] = {
    "path": (
        *("file_name", "filename", "file", "path", "file_path", "filepath", "image_path", "image_file", "image", "img"),
        *("image_name", "image_id", "images", "name"),
    ),
    "label": ("label", "class", "class_name", "label_name", "labels", "category", "target", "diagnosis", "dx", "y"),
    "split": ("split", "subset", "set", "partition", "fold"),
    "domain": ("domain", "site", "scanner", "stain", "centre", "center", "hospital", "style"),
    "group": ("group", "patient", "patient_id", "slide", "slide_id", "case_id", "subject", "subject_id", "session"),
}
SPLITS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}


def split_name(text: str) -> str | None:
    """`train`, `val` or `test` for the ways people spell them; None for anything else."""
    return SPLITS.get(text.strip().lower())


@dataclass(frozen=True, slots=True)
class Columns:
    """The column of a table that holds each thing; empty where there is none."""

    path: str
    label: str
    split: str
    domain: str
    group: str


def find_columns(names: Sequence[str], options: ImportOptions) -> Columns:
    """Which of `names` holds what: as `options` say, otherwise guessed.

    Raises:
        DataError: a column that `options` name does not exist.
    """
    by_guess = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in reversed(names)}

    def pick(what: str) -> str:
        wanted = getattr(options, f"{what}_column")
        if wanted and wanted not in names:
            raise DataError(f"The table has no column “{wanted}”.", f"It has: {list_columns(names)}.")
        return wanted or next((by_guess[guess] for guess in GUESSES[what] if guess in by_guess), "")

    return Columns(**{what: pick(what) for what in GUESSES})


def list_columns(names: Sequence[str]) -> str:
    shown = ", ".join(f"“{clean(name)[:40]}”" for name in names[:30])
    return shown + (f" and {len(names) - 30} more" if len(names) > 30 else "")


def read_table(data: bytes, suffix: str, name: str) -> tuple[list[str], list[Row]]:
    """Column names and rows of a table; every cell as text, missing ones empty.

    Args:
        data: the file's content.
        suffix: `.csv`, `.tsv`, `.txt`, `.jsonl` or `.parquet`.
        name: what to call the table in an error.

    Raises:
        DataError: it cannot be read as a table.
    """
    try:
        if suffix == ".parquet":
            return _parquet(data)
        if suffix == ".jsonl":
            return _json_lines(decode_text(data))
        return _separated(decode_text(data), "\t" if suffix == ".tsv" else None)
    except DataError:
        raise
    except Exception as error:  # table parsers answer damaged files with many kinds of error
        raise DataError(
            f"The table “{name}” cannot be read: it is damaged or not what its ending says.",
            "Open it in a spreadsheet program and save it again as CSV (UTF-8).",
            repr(error),
        ) from error


def decode_text(data: bytes) -> str:
    """A text file as UTF-8, UTF-16 where it begins so, or what spreadsheet programs on Windows write."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _separated(text: str, delimiter: str | None) -> tuple[list[str], list[Row]]:
    if "\0" in text:
        raise ValueError("NUL characters in a text table")
    head = text[: text.find("\n") if "\n" in text else len(text)]
    mark = delimiter or max(",;\t|", key=head.count)
    csv.field_size_limit(LONGEST_CELL)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    names = [cell.strip() for cell in next(lines, [])]

    filled = (cells for cells in lines if any(cells))
    return names, [dict(zip(names, (plain_cell(cell.strip()) for cell in cells), strict=False)) for cells in filled]


def _json_lines(text: str) -> tuple[list[str], list[Row]]:
    found: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(row, dict) for row in found):
        raise ValueError("a line is not an object")
    names = list(dict.fromkeys(key for row in found for key in row))
    return names, [_as_text(row) for row in found]


def _parquet(data: bytes) -> tuple[list[str], list[Row]]:
    import pyarrow.parquet as parquet

    file = parquet.ParquetFile(io.BytesIO(data))
    rows = [_as_text(row) for batch in file.iter_batches(4096) for row in batch.to_pylist()]
    return list(file.schema_arrow.names), rows


def _as_text(row: dict[str, Any]) -> Row:
    return {key: cell_text(value) for key, value in row.items()}


def cell_text(value: Any) -> str:
    """A value as a person would write it: nothing for a missing one, no `.0` behind whole numbers."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
