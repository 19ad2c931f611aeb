"""Arrow and Parquet tables that hold the images themselves, as Hugging Face `datasets` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.data.base import ImportOptions, LeftOut, Reading, Record, Source
from engines.data.images import EMPTY, MISSING
from engines.data.listing import LINK_OUT
from engines.data.tables import cell_text, find_columns, list_columns
from engines.errors import DataError

ROWS = 64
"""Rows held in memory at a time."""
NO_CLASS = "its label is not a class number"


@dataclass
class Features:
    """What the columns of a table are, by the description that `datasets` stores with it."""

    names: list[str]
    image: str
    label: str
    class_names: list[str] = field(default_factory=list)
    domain: str = ""
    group: str = ""


def describe(schema: Any, features: dict[str, Any], options: ImportOptions) -> Features | None:
    """The image and label columns of an Arrow schema; None where no column holds images.

    Raises:
        DataError: there are several image columns, or none that may be the label, and the options name none.
    """
    names = list(schema.names)
    images = [name for name in names if _holds_images(schema.field(name).type, features.get(name))]
    if not images:
        return None
    image = options.path_column or (images[0] if len(images) == 1 else "")
    if image not in images:
        raise DataError(
            f"{'The column “' + image + '” holds no images' if image else 'Several columns hold images'}:"
            f" choose among {list_columns(images)}.",
            "Name the column in the options (path_column).",
        )
    found = find_columns(names, options.model_copy(update={"path_column": ""}))
    class_labels = [name for name in names if _type(features.get(name)) == "ClassLabel"]
    label = options.label_column or (class_labels[0] if len(class_labels) == 1 else found.label)
    if not label and len(class_labels) > 1:
        raise DataError(
            f"Several columns hold classes: {list_columns(class_labels)}.",
            "Name the right one in the options (label_column).",
        )
    described = features.get(label)
    classes = described.get("names") or [] if isinstance(described, dict) else []
    return Features(names, image, label, [str(one) for one in classes], found.domain, found.group)


def _type(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _holds_images(kind: Any, feature: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)} and _type(feature) != "Audio"
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def features_of(schema: Any) -> dict[str, Any]:
    """The description that `datasets` keeps in an Arrow schema's metadata; empty where there is none."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def rows_to_records(
    batches: Iterable[Any], about: Features, split: str | None, root: Path, prefix: str
) -> Iterator[Record | LeftOut]:
    """Records of Arrow batches; `root` is the folder that images stored as paths must lie in."""
    wanted = [c for c in (about.image, about.label, about.domain, about.group) if c]
    number = 0
    for batch in batches:
        for row in batch.select(wanted).to_pylist():
            name = f"{prefix} {number}"
            number += 1
            source = _source(row[about.image], root)
            label = _label(row[about.label], about.class_names) if about.label else None
            if isinstance(source, str) or isinstance(label, LeftOut):
                yield LeftOut(name, source if isinstance(source, str) else NO_CLASS)
                continue
            yield Record(name, source, label, split, cell_text(row.get(about.domain)), cell_text(row.get(about.group)))


def _source(cell: Any, root: Path) -> Source | str:
    """The image of a cell, or why there is none."""
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data:
        return bytes(data)
    path = cell.get("path") if isinstance(cell, dict) else None
    if not path or "\0" in path:
        return EMPTY
    place = (root / path).resolve()
    if not place.is_relative_to(root):
        return LINK_OUT
    return place if place.is_file() else MISSING


def _label(cell: Any, class_names: Sequence[str]) -> str | LeftOut | None:
    if cell is None or (class_names and cell == -1):  # -1: how `datasets` marks a missing label
        return None
    if class_names and isinstance(cell, int):
        return class_names[cell] if 0 <= cell < len(class_names) else LeftOut("", NO_CLASS)
    return cell_text(cell) or None


def embedded_parquet(files: Sequence[Path], options: ImportOptions) -> Reading | None:
    """A reading of a Parquet file that holds images; None where it holds none.

    Raises:
        DataError: the file is damaged.
    """
    from pyarrow import ArrowException, parquet

    try:
        tables = [parquet.ParquetFile(file) for file in files]
    except (ArrowException, OSError) as error:
        raise DataError(
            f"The table “{files[0].name}” cannot be read: it is damaged or no Parquet file.",
            "Download it again.",
            str(error),
        ) from error
    schema = tables[0].schema_arrow
    about = describe(schema, features_of(schema), options)
    if about is None:
        return None
    batches = _guarded(files[0].name, lambda: (b for table in tables for b in table.iter_batches(ROWS)))
    records = rows_to_records(batches, about, None, files[0].parent.resolve(), "row")
    return Reading(records, sum(t.metadata.num_rows for t in tables), classes=about.class_names)


def _guarded(name: str, batches: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    from pyarrow import ArrowException

    try:
        yield from batches()
    except (ArrowException, OSError) as error:
        raise DataError(f"“{name}” is damaged: its rows cannot be read.", "Download it again.", str(error)) from error


def arrow_batches(files: Sequence[Path]) -> Iterator[Any]:
    """The rows of Arrow stream files, a few at a time, mapped into memory.

    Raises:
        DataError: a file is missing or damaged.
    """
    import pyarrow as pa

    for file in files:

        def read(file: Path = file) -> Iterator[Any]:
            with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as stream:
                for batch in stream:
                    for start in range(0, batch.num_rows, ROWS):
                        yield batch.slice(start, ROWS)

        yield from _guarded(file.name, read)


def arrow_schema(file: Path) -> Any:
    """
    Raises:
        DataError: the file is missing or damaged.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as stream:
            return stream.schema
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"“{file.name}” is missing or damaged.", "Save the data set again with save_to_disk.", str(error)
        ) from error
