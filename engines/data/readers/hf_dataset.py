"""Folders that Hugging Face `datasets` saved with `save_to_disk`, read without that package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.data.base import ImportOptions, LeftOut, Reader, Reading, Record
from engines.data.embedded import Features, arrow_batches, arrow_schema, describe, features_of, rows_to_records
from engines.data.tables import list_columns, split_name
from engines.errors import DataError


class HuggingFaceReader(Reader):
    """A saved `Dataset` or `DatasetDict`: Arrow files with a column of images and a column of classes.

    Images are copied into the workspace as the bytes that were saved.
    """

    name = "hf-dataset"
    title = "Hugging Face data set saved on disk"
    rank = 12

    def accepts(self, source: Path) -> bool:
        return source.is_dir() and any((source / name).is_file() for name in ("dataset_dict.json", "state.json"))

    def read(self, source: Path, options: ImportOptions) -> Reading:
        parts = _parts(source)
        about: Features | None = None
        for folder in parts:
            files = _arrow_files(folder)
            schema = arrow_schema(files[0])
            about = about or describe(schema, features_of(schema) or _info(folder), options)
            if about is None:
                raise DataError(
                    f"The data set “{source.name}” has no column with images; its columns are:"
                    f" {list_columns(schema.names)}.",
                    "Cast the column with datasets.Image() and save the data set again.",
                )
        assert about is not None  # there is at least one part
        return Reading(_records(parts, about), _count(parts), classes=about.class_names)


def _parts(source: Path) -> dict[Path, str | None]:
    """Folders of the splits, each with its split (None for a data set without splits)."""
    if not (source / "dataset_dict.json").is_file():
        return {source: None}
    names = _json(source / "dataset_dict.json").get("splits")
    if not isinstance(names, list) or not names or not all(_plain(name) for name in names):
        raise DataError(f"The data set “{source.name}” names no splits.", "Save it again with save_to_disk.")
    order = {"train": 0, "val": 1, "test": 2}
    ranked = sorted(names, key=lambda name: order.get(split_name(name) or "", 3))
    return {source / name: split_name(name) for name in ranked}


def _plain(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _arrow_files(folder: Path) -> list[Path]:
    state = _json(folder / "state.json")
    names = [str(one.get("filename", "")) for one in state.get("_data_files") or [] if isinstance(one, dict)]
    if not names or not all(_plain(name) for name in names):
        raise DataError(f"The data set “{folder.name}” names no data files.", "Save it again with save_to_disk.")
    if state.get("_indices_data_files"):
        raise DataError(
            f"The data set “{folder.name}” was saved by an old version of datasets as a selection of rows.",
            "Save it again with flatten_indices() and save_to_disk.",
        )
    return [folder / name for name in names]


def _info(folder: Path) -> dict[str, Any]:
    file = folder / "dataset_info.json"
    found = _json(file).get("features") if file.is_file() else None
    return found if isinstance(found, dict) else {}


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"The data set’s file “{file.name}” is missing or damaged.",
            "Save the data set again with save_to_disk.",
            str(error),
        ) from error
    return found if isinstance(found, dict) else {}


def _count(parts: dict[Path, str | None]) -> int:
    return sum(batch.num_rows for folder in parts for batch in arrow_batches(_arrow_files(folder)))


def _records(parts: dict[Path, str | None], about: Features) -> Iterator[Record | LeftOut]:
    for folder, split in parts.items():
        yield from rows_to_records(arrow_batches(_arrow_files(folder)), about, split, folder.resolve(), folder.name)
