"""A table of all images for a spreadsheet; with the audit trail a second one of all decisions."""

from __future__ import annotations

from pathlib import Path

from engines.labelling.content import Content
from engines.labelling.formats.tables import ABOUT, FOR_SPREADSHEETS, about, write_decisions, write_table


def write(folder: Path, content: Content) -> list[str]:
    columns = ["file", *ABOUT, "disputed", *(f"reader: {reader}" for reader in content.readers)]
    rows = (
        [
            str(picture.source),
            *about(picture),
            "yes" if picture.disputed else "",
            *(picture.said.get(reader, "") for reader in content.readers),
        ]
        for picture in content.pictures
    )
    write_table(folder / "labels.csv", columns, rows, FOR_SPREADSHEETS)
    return ["labels.csv", *write_decisions(folder, content, FOR_SPREADSHEETS)]
