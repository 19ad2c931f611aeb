"""Tables that several formats share."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from engines.data.names import spreadsheet_safe
from engines.labelling.content import DECISION_FIELDS, Content, Picture

FOR_SPREADSHEETS = "utf-8-sig"
"""With the mark that tells Excel that a table is not in the local code page."""


def write_table(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], encoding: str = "utf-8") -> None:
    """Write a CSV file; texts that look like formulas get an apostrophe, None is an empty cell."""
    with file.open("w", newline="", encoding=encoding) as opened:
        writer = csv.writer(opened)  # lines end in CR LF (RFC 4180): only then does this module quote a lone CR
        writer.writerow([spreadsheet_safe(column) for column in columns])
        for row in rows:
            writer.writerow([spreadsheet_safe(cell) if isinstance(cell, str) else cell for cell in row])


def write_decisions(folder: Path, content: Content, encoding: str = "utf-8") -> list[str]:
    """The audit trail as `decisions.csv`; nothing without it. Returns the file names."""
    if content.decisions is None:
        return []
    rows = ([decision[name] for name in DECISION_FIELDS] for decision in content.decisions)
    write_table(folder / "decisions.csv", DECISION_FIELDS, rows, encoding)
    return ["decisions.csv"]


ABOUT = ("label", "decided_by", "split", "domain", "group", "name", "sha256")


def about(picture: Picture) -> list[str]:
    """The cells of `ABOUT`."""
    return [
        picture.label or "",
        picture.decided_by,
        picture.split,
        picture.domain,
        picture.group,
        picture.name,
        picture.sha256,
    ]
