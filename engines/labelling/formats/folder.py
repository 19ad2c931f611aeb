"""split/class/image, as torchvision's ImageFolder and many other tools read it."""

from __future__ import annotations

from pathlib import Path

from engines.labelling.content import Content, Picture
from engines.labelling.formats.tables import ABOUT, FOR_SPREADSHEETS, about, write_decisions, write_table


def write(folder: Path, content: Content) -> list[str]:
    folders = content.class_folders()

    def place(picture: Picture) -> str:
        return f"{picture.purpose}/{folders[picture.label or '']}/{picture.file_name}"

    kept = content.written(content.labelled, lambda picture: folder / place(picture))
    write_table(folder / "metadata.csv", ["file_name", *ABOUT], ([place(p), *about(p)] for p in kept))
    return ["metadata.csv", *write_decisions(folder, content, FOR_SPREADSHEETS)]
