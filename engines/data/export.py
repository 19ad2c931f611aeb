"""Writing a data set out of the workspace: as class folders, as a ZIP file, or as a table."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import select

from engines.data.importer import Progress
from engines.data.names import file_name, free_name, spreadsheet_safe
from engines.data.sampling import effective_labels
from engines.errors import DataError
from engines.store import Dataset, Sample, Workspace, new_id

ExportFormat = Literal["folder", "csv", "zip"]
UNLABELLED = "unlabelled"


class ExportReport(BaseModel):
    """What was written: `path` is relative to the workspace."""

    path: str
    images: int
    missing: int
    """Images whose file is gone from its source; they are in the table, not among the images."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One image on its way out."""

    source: Path
    target: str
    row: dict[str, str]


def export_dataset(
    workspace: Workspace,
    dataset_id: int,
    format: ExportFormat = "zip",
    progress: Progress = lambda fraction, message: None,
    check_cancelled: Callable[[], object] = lambda: None,
) -> ExportReport:
    """Write a data set into the workspace's exports, with the newest labels; nothing is left of an export that fails.

    `folder` and `zip` hold `split/class/image`, a `metadata.csv` that Hugging Face's imagefolder reads too, and
    `classes.json`; they can be imported again. `csv` is a table of labels that points at the images where they are.
    Names become safe for every file system, cells that look like formulas get an apostrophe.

    Raises:
        DataError: there is no such data set, or the disk is full.
    """
    name, items, classes = _gather(workspace, dataset_id)
    exports = workspace.folder("exports")
    suffix = {"folder": "", "csv": ".csv", "zip": ".zip"}[format]
    part = exports / f".part-{new_id()}"
    try:
        if format == "csv":
            part.write_text(_table(items, "file", lambda item: str(item.source)), "utf-8")
            missing = 0
        else:
            missing = _write_images(part, format, items, classes, progress, check_cancelled)
        stem = free_name(file_name(name), {p.name.removesuffix(suffix) for p in exports.iterdir()})
        final = exports / f"{stem}{suffix}"
        part.rename(final)
    except OSError as error:
        raise DataError(
            "The export could not be written: the disk is full, or the workspace’s folder is closed for writing.",
            "Free some space, then export again.",
            str(error),
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
    return ExportReport(path=f"exports/{final.name}", images=len(items) - missing, missing=missing)


def _gather(workspace: Workspace, dataset_id: int) -> tuple[str, list[_Item], dict[str, list[Any]]]:
    """Name, images and class descriptions of a data set."""
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        names = {c.id: c.name for c in dataset.classes}
        folders: dict[int, str] = {}
        for class_id, name in names.items():
            folders[class_id] = free_name(file_name(name), folders.values())
        labels = effective_labels(session, dataset_id)
        samples = session.scalars(select(Sample).where(Sample.dataset_id == dataset_id).order_by(Sample.position))
        items = [_item(workspace, sample, labels.get(sample.id), names, folders) for sample in samples]
        return dataset.name, items, {c.name: list(c.descriptions) for c in dataset.classes}


def _item(
    workspace: Workspace, sample: Sample, class_id: int | None, names: dict[int, str], folders: dict[int, str]
) -> _Item:
    source = workspace.resolve(sample.file)
    stem = file_name(Path(sample.name).stem)
    target = f"{sample.split}/{UNLABELLED if class_id is None else folders[class_id]}"
    row = {
        "label": "" if class_id is None else names[class_id],
        "split": sample.split,
        "domain": sample.domain,
        "group": sample.group,
        "name": sample.name,
        "sha256": sample.sha256,
    }
    return _Item(source, f"{target}/{sample.position:06d}-{stem}{source.suffix.lower()}", row)


def _table(items: list[_Item], column: str, place: Callable[[_Item], str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column, *(items[0].row if items else ("label", "split", "domain", "group", "name", "sha256"))])
    for item in items:
        writer.writerow([spreadsheet_safe(cell) for cell in (place(item), *item.row.values())])
    return text.getvalue()


def _write_images(
    part: Path,
    format: ExportFormat,
    items: list[_Item],
    classes: dict[str, list[Any]],
    progress: Progress,
    check_cancelled: Callable[[], object],
) -> int:
    """Write images, table and descriptions to the folder or ZIP file `part`; returns how many images are gone."""

    def present() -> Iterator[_Item]:
        for number, item in enumerate(items):
            check_cancelled()
            progress(number / len(items), f"{number:,} of {len(items):,} images")
            if item.source.is_file():
                yield item

    texts = {
        "metadata.csv": _table(items, "file_name", lambda item: item.target),
        "classes.json": json.dumps(classes, indent=2, ensure_ascii=False) + "\n",
    }
    written = 0
    if format == "zip":
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for item in present():
                archive.write(item.source, item.target)
                written += 1
            for name, text in texts.items():
                archive.writestr(name, text)
        return len(items) - written
    part.mkdir()
    for item in present():
        place = part / item.target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(item.source, place)
        written += 1
    for name, text in texts.items():
        (part / name).write_text(text, "utf-8")
    return len(items) - written
