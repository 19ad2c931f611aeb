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
from engines.labelling.archives import pack
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
    archive: str = ""
    """ZIP file of the folder; empty where none was asked for."""


def export_labels(
    workspace: Workspace,
    dataset_id: int,
    format: LabelFormat = "csv",
    audit: bool = False,
    progress: Callable[[float, str], object] = lambda fraction, message: None,
    check_cancelled: Callable[[], object] = lambda: None,
    archive: bool = False,
) -> LabelExport:
    """Write the labels of a data set into a new folder of the workspace's exports.

    `csv` is a table of all images with the label by consensus and what each reader says; the images stay where they
    are. The others hold the labelled images: `folder` as split/class/image, `coco` with annotations.json, `hf` as
    Hugging Face's `load_dataset("imagefolder", data_dir=…)` reads it, `croissant` with metadata in Croissant 1.0.
    With `audit` every decision is written too: who, when, what, in which round, with which model, after how many
    seconds. With `archive` the folder is packed into a ZIP file beside it, too. Nothing is overwritten, and nothing is
    left of an export that fails. Cells that look like formulas get an apostrophe.

    Raises:
        DataError: there is no such data set, nothing is labelled, or the disk is full.
        ConfigError: there is no such format.
    """
    if format not in FORMATS:
        raise ConfigError(f"There is no export format “{format}”.", f"Choose one of {', '.join(FORMATS)}.")
    content = gather(workspace, dataset_id, audit)
    first = 0.5 if archive else 1.0  # share of the work
    content.progress = lambda fraction, message: progress(first * fraction, message)
    content.check_cancelled = check_cancelled
    writer = importlib.import_module(f"engines.labelling.formats.{format}")
    exports = workspace.folder("exports")
    part = exports / f".part-{new_id()}"
    packed = part.with_name(f"{part.name}.zip")
    stem = f"{file_name(content.name)}-labels-{format}"
    try:
        part.mkdir()
        files: list[str] = writer.write(part, content)
        if archive:
            pack(part, packed, stem, lambda f, message: progress(first * (1 + f), message), check_cancelled)
        final = _finish(part, packed if archive else None, exports, stem)
    except OSError as error:
        raise DataError(
            "The export could not be written: the disk is full, or the workspace’s folder is closed for writing.",
            "Free some space, then export again.",
            str(error),
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        packed.unlink(missing_ok=True)
    return _report(content, final, files, format, archive)


def _finish(part: Path, packed: Path | None, exports: Path, stem: str) -> Path:
    """Give the finished folder and its ZIP file their name; another export may take the same name at the same time."""
    for _ in range(20):
        final = exports / free_name(stem, {each.name.removesuffix(".zip") for each in exports.iterdir()})
        try:
            part.rename(final)
        except OSError:
            if not final.exists():
                raise
            continue
        try:
            if packed is not None:
                packed.rename(_archive(final))
        except OSError:
            shutil.rmtree(final, ignore_errors=True)
            raise
        return final
    raise OSError("no free name")


def _archive(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.zip")


def _report(content: Content, final: Path, files: list[str], format: str, archive: bool) -> LabelExport:
    labelled = sum(picture.label is not None for picture in content.pictures)
    return LabelExport(
        path=f"exports/{final.name}",
        files=[f"exports/{final.name}/{name}" for name in files],
        images=len(content.pictures) if format == "csv" else labelled - len(content.missing),
        labelled=labelled,
        missing=len(content.missing),
        decisions=None if content.decisions is None else len(content.decisions),
        archive=f"exports/{_archive(final).name}" if archive else "",
    )
