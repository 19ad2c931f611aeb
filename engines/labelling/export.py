"""Writing labels out of the workspace: as tables, class folders, COCO, a Hugging Face data set, or with Croissant."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel

from engines.data.names import file_name, free_name
from engines.errors import ConfigError, DataError
from engines.labelling.content import Content, gather
from engines.store.models import new_id
from engines.store.workspace import Workspace

LabelFormat = Literal["csv", "folder", "coco", "hf", "croissant"]
FORMATS: tuple[str, ...] = get_args(LabelFormat)


class LabelExport(BaseModel):
    """What was written; paths are relative to the workspace."""

    path: str
    """A folder."""
    files: list[str]
    """The tables and documents in it, the most important one first."""
    images: int
    """Images in the table (csv) or written as files (others)."""
    labelled: int
    """Images of the data set with a label."""
    missing: int
    """Labelled images that were left out, because their file is gone or cannot be read."""
    decisions: int | None
    """Rows of the audit trail; None without."""


def export_labels(
    workspace: Workspace,
    dataset_id: int,
    format: LabelFormat = "csv",
    audit: bool = False,
    progress: Callable[[float, str], object] = lambda fraction, message: None,
    check_cancelled: Callable[[], object] = lambda: None,
) -> LabelExport:
    """Write the labels of a data set into a new folder of the workspace's exports.

    `csv` is a table of all images with the label by consensus and what each reader says; the images stay where they
    are. The others hold the labelled images: `folder` as split/class/image, `coco` with annotations.json, `hf` as
    Hugging Face's `load_dataset("imagefolder", data_dir=…)` reads it, `croissant` with metadata in Croissant 1.0.
    With `audit` every decision is written too: who, when, what, in which round, with which model, after how many
    seconds. Nothing is overwritten, and nothing is left of an export that fails. Cells that look like formulas get an
    apostrophe.

    Raises:
        DataError: there is no such data set, nothing is labelled, or the disk is full.
        ConfigError: there is no such format.
    """
    if format not in FORMATS:
        raise ConfigError(f"There is no export format “{format}”.", f"Choose one of {', '.join(FORMATS)}.")
    content = gather(workspace, dataset_id, audit)
    content.progress, content.check_cancelled = progress, check_cancelled
    writer = importlib.import_module(f"engines.labelling.formats.{format}")
    exports = workspace.folder("exports")
    part = exports / f".part-{new_id()}"
    try:
        part.mkdir()
        files: list[str] = writer.write(part, content)
        final = _finish(part, exports, f"{file_name(content.name)}-labels-{format}")
    except OSError as error:
        raise DataError(
            "The export could not be written: the disk is full, or the workspace’s folder is closed for writing.",
            "Free some space, then export again.",
            str(error),
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _report(content, final, files, format)


def _finish(part: Path, exports: Path, stem: str) -> Path:
    """Give the finished folder its name; another export may take the same name at the same time."""
    for _ in range(20):
        final = exports / free_name(stem, {each.name for each in exports.iterdir()})
        try:
            return part.rename(final)
        except OSError:
            if not final.exists():
                raise
    raise OSError("no free name")


def _report(content: Content, final: Path, files: list[str], format: str) -> LabelExport:
    labelled = sum(picture.label is not None for picture in content.pictures)
    return LabelExport(
        path=f"exports/{final.name}",
        files=[f"exports/{final.name}/{name}" for name in files],
        images=len(content.pictures) if format == "csv" else labelled - len(content.missing),
        labelled=labelled,
        missing=len(content.missing),
        decisions=None if content.decisions is None else len(content.decisions),
    )
