"""Files of sentences that describe classes: JSON and tables."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from engines.data.images import Undecodable, read_file
from engines.data.names import clean, plain_cell
from engines.data.tables import decode_text, list_columns
from engines.errors import DataError

LARGEST_FILE = 50 << 20
SUFFIXES = (".json", ".csv", ".tsv")
COLUMNS = {
    "class": ("class", "class_name", "classname", "label", "category", "name"),
    "description": ("description", "descriptions", "sentence", "sentences", "text", "prompt", "caption"),
}
"""What the columns of a table may be called."""
FORM = 'It must read {"class": ["sentence", …], …}.'

Named = list[tuple[str, list[str]]]
"""Class names as a file writes them, each with its sentences; a name may come more than once."""


def read_descriptions(file: Path) -> Named:
    """The sentences of a JSON file (`{"class": ["sentence", …], …}`) or a table with columns class and description.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"“{file.name}” is neither a JSON nor a CSV file.",
            'Write {"class": ["sentence", …], …} as JSON, or a table with the columns class and description.',
        )
    try:
        data = read_file(file)
        if len(data) > LARGEST_FILE:
            raise Undecodable("larger than 50 MB")
        text = decode_text(data)
    except Undecodable as error:
        raise DataError(f"“{file.name}” cannot be read: {error.reason}.", "Choose another file.") from error
    except ValueError as error:
        raise DataError(f"“{file.name}” is not valid text.", "Save it as UTF-8.", str(error)) from error
    named = _from_json(text, file.name) if suffix == ".json" else _from_table(text, suffix, file.name)
    if not any(map(any, (sentences for _, sentences in named))):
        raise DataError(f"“{file.name}” holds no sentences.", "Choose another file.")
    return named


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its entries: a name that comes twice would otherwise hide its first sentences."""


def _from_json(text: str, file: str) -> Named:
    try:
        found = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"“{file}” is not valid JSON.", "Correct it, or save the sentences as a table (CSV).", str(error)
        ) from error
    if not isinstance(found, _Pairs):
        raise DataError(f"“{file}” does not name classes.", FORM)
    named = [(name, [value] if isinstance(value, str) else value) for name, value in found]
    for name, sentences in named:
        fits = isinstance(sentences, list) and not isinstance(sentences, _Pairs)
        if not fits or not all(isinstance(each, str) for each in sentences):
            raise DataError(
                f"“{file}” does not hold a list of sentences for “{clean(name)[:100]}”.",
                FORM,
            )
    return named


def _from_table(text: str, suffix: str, file: str) -> Named:
    head = text.partition("\n")[0]
    mark = "\t" if suffix == ".tsv" else max(",;\t|", key=head.count)
    try:
        if "\0" in text:
            raise csv.Error("NUL characters in a text table")
        rows = [cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=mark) if any(cells)]
    except csv.Error as error:
        raise DataError(
            f"The table “{file}” is damaged.", "Save it again as CSV (UTF-8) in a spreadsheet program.", str(error)
        ) from error
    names = [cell.strip() for cell in rows[0]] if rows else []
    plain = [name.lower().replace(" ", "_") for name in names]
    place = {what: next((plain.index(name) for name in known if name in plain), -1) for what, known in COLUMNS.items()}
    for what, column in place.items():
        if column < 0:
            raise DataError(
                f"The table “{file}” has no column “{what}”; its columns are: {list_columns(names) or 'none'}.",
                "Its first row must name the columns class and description, and each further row hold one sentence.",
            )
    found: dict[str, list[str]] = {}
    for number, cells in enumerate(rows[1:], 2):
        name, sentence = _row(cells, number, place, len(names), mark, file)
        found.setdefault(name, []).append(sentence)
    return list(found.items())


def _row(cells: list[str], number: int, place: dict[str, int], width: int, mark: str, file: str) -> tuple[str, str]:
    if len(cells) > width and place["description"] == width - 1:
        # A sentence with commas that nobody put in quotes.
        cells = [*cells[: width - 1], mark.join(cells[width - 1 :])]
    if len(cells) > width:
        raise DataError(
            f"Row {number} of “{file}” has more cells than the table has columns.",
            "Put sentences with commas in quotes, or make description the last column.",
        )
    name, sentence = (plain_cell(cells[column].strip()) if column < len(cells) else "" for column in place.values())
    if sentence and not name:
        raise DataError(f"Row {number} of “{file}” names no class.", "Fill in the class, or take the row out.")
    return name, sentence
