"""Labels in files from elsewhere: tables, COCO's JSON, folders of classes. What they say, not yet what it is about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines.data.base import ImportOptions
from engines.data.images import DICOM_SUFFIXES, MAX_BYTES, SUFFIXES
from engines.data.names import clean
from engines.data.tables import GUESSES, Row, find_columns, list_columns, read_table, split_name
from engines.data.tables import SUFFIXES as TABLES
from engines.errors import DataError
from engines.store.models import Verdict

HASHES = ("sha256", "sha_256", "sha256sum", "hash", "content_hash", "checksum")
PROBABILITIES = ("probability", "prob", "p", "confidence", "score", "certainty")
"""Columns that say how sure the source of a label is, from 0 to 1 or in percent."""
LOG = {"decision", "reader", "verdict", "occasion", "aids", "chain"}
"""Columns by which the log of an export is known."""
UNLABELLED = "unlabelled"
"""Folder of the images without a label, as data sets are exported."""
Hint = str
"""Why a row cannot be used, in words that fit every such row."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a file says of one image."""

    where: str
    """For people: which row, image or file."""
    label: str
    """Empty where it says nothing."""
    names: tuple[str, ...] = ()
    """What the image may be called."""
    sha256: str = ""
    file: Path | None = None
    """The image itself, if it is there."""
    refused: Hint = ""
    probability: float | None = None
    """0 to 1, where the file says how sure its source is."""
    unclear: bool = False
    """It says something of that, but no number between 0 and 1."""
    source: str = ""
    """Whose word it is, where the file itself says that."""
    suggested: bool = False
    """The log of an export has it as a suggestion."""


def read_label_file(place: Path, label_column: str = "") -> list[Said]:
    """Everything that a table, a COCO file or a folder says of images.

    Raises:
        DataError: it does not exist, is of no known kind, damaged, or says nothing at all.
    """
    try:
        found = list(_read(place, label_column))
    except OSError as error:
        raise DataError(
            f"“{clean(place.name)}” cannot be read.", "Check that it exists and may be opened.", str(error)
        ) from error
    if not found:
        raise DataError(f"“{clean(place.name)}” holds no labels.", "Choose another file.")
    return found


def _read(place: Path, label_column: str) -> Iterator[Said]:
    suffix = place.suffix.lower()
    if place.is_dir():
        yield from _folder(place, label_column)
    elif not place.is_file():
        raise DataError(f"“{clean(place.name)}” does not exist.", "Check the path.")
    elif suffix == ".json":
        yield from _coco(place)
    elif suffix in TABLES or suffix == ".txt":
        yield from _table(place, label_column)
    else:
        raise DataError(
            f"“{clean(place.name)}” is not a kind of file that labels can be read from.",
            "Choose a CSV, TSV, JSON lines or Parquet table, a COCO file (.json), a folder with a folder per class,"
            " or a ZIP file of one.",
        )


def _folder(place: Path, label_column: str) -> Iterator[Said]:
    """What an export of this program, or a folder with a folder per class says."""
    tables = sorted([*place.glob("metadata.csv"), *place.glob("*/metadata.csv")])
    tables = tables or [each for each in (place / "labels.csv",) if each.is_file()]
    if (place / "annotations.json").is_file():
        yield from _coco(place / "annotations.json")
        return
    for table in tables:
        yield from _table(table, label_column)
    if not tables:
        yield from _class_folders(place)
    if (place / "decisions.csv").is_file():
        yield from _table(place / "decisions.csv", "")


def _bytes(file: Path) -> bytes:
    if file.stat().st_size > MAX_BYTES:
        raise DataError(f"“{clean(file.name)}” is larger than 1 GB.", "Split it into several files.")
    return file.read_bytes()


# --- tables -------------------------------------------------------------------


def _table(file: Path, label_column: str) -> Iterator[Said]:
    columns, rows = read_table(_bytes(file), file.suffix.lower(), clean(file.name))
    if set(columns) >= LOG:
        yield from _logged(rows)
        return
    label = _label_column(columns, label_column)
    plain = {column: column.strip().lower().replace(" ", "_").replace("-", "_") for column in columns}
    by_name = sorted(
        (column for column in columns if plain[column] in GUESSES["path"] and column != label),
        key=lambda column: GUESSES["path"].index(plain[column]),
    )
    by_hash = [column for column in columns if plain[column] in HASHES]
    sure = next((c for guess in PROBABILITIES for c in columns if plain[c] == guess and c != label), "")
    if not by_name and not by_hash:
        raise DataError(
            f"The table “{clean(file.name)}” does not say which image a row is about.",
            f"Name a column file_name, name or sha256. It has: {list_columns(columns)}.",
        )
    for number, row in enumerate(rows, start=2):
        said = _row(f"row {number}", row, label, by_name, by_hash, file.parent)
        yield _with_probability(said, row.get(sure, ""))


def _label_column(columns: Sequence[str], wanted: str) -> str:
    if wanted:
        named = [column for column in columns if column.strip().casefold() == wanted.strip().casefold()]
        return find_columns(columns, ImportOptions(label_column=named[0] if named else wanted)).label
    found = find_columns(columns, ImportOptions()).label
    if not found:
        raise DataError(
            "The table has no column of classes.",
            f"Name one of its columns “label”, or say which one it is. It has: {list_columns(columns)}.",
        )
    return found


def _row(where: str, row: Row, label: str, by_name: list[str], by_hash: list[str], folder: Path) -> Said:
    names = tuple(row[column] for column in by_name if row.get(column))
    digest = next((row[column] for column in by_hash if row.get(column)), "")
    file = _inside(folder, names[0]) if names else None
    return Said(where, clean(row.get(label, "")), names, digest.lower(), file)


def _with_probability(said: Said, text: str) -> Said:
    """`said` with how sure its source is: "0.83", "0,83" or "83 %"."""
    if not text.strip():
        return said
    plain = text.strip().replace(",", ".")
    try:
        share = float(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        return replace(said, unclear=True)
    return replace(said, probability=share) if 0 <= share <= 1 else replace(said, unclear=True)


def _logged(rows: Iterable[Mapping[str, Any]], first: int = 2) -> Iterator[Said]:
    """The suggestions in the log of an export: of each source the newest on each image."""
    newest: dict[tuple[str, str], Said] = {}
    for number, row in enumerate(rows, start=first):
        if str(row.get("verdict")) != Verdict.SUGGESTION:
            continue
        image, sha256, source = (str(row.get(key) or "") for key in ("image", "sha256", "reader"))
        said = Said(f"decision {row.get('decision') or number}", clean(str(row.get("label") or "")))
        said = replace(said, names=(image,) if image else (), sha256=sha256.lower(), source=source, suggested=True)
        newest[sha256 or image, source] = _with_probability(said, _logged_probability(row))
    yield from newest.values()


def _logged_probability(row: Mapping[str, Any]) -> str:
    try:
        aids = json.loads(str(row.get("aids") or "{}"))
    except ValueError:
        return ""
    kept = aids.get("probability") if isinstance(aids, dict) else None
    return "" if kept is None else repr(kept)


def _inside(folder: Path, name: str) -> Path | None:
    """The file called `name`, as seen from `folder`, if there is one that can be read."""
    try:
        file = folder / name.replace("\\", "/")
        return file if file.is_file() and file.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError):  # a name that no file can have
        return None


# --- COCO ---------------------------------------------------------------------


def _coco(file: Path) -> Iterator[Said]:
    name = clean(file.name)
    try:
        document = json.loads(_bytes(file).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"“{name}” is not valid JSON.", "Export it again.", str(error)) from error
    parts = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(isinstance(document.get(part), list) for part in parts):
        raise DataError(f"“{name}” is not a COCO file: it lacks images, annotations or categories.", "Choose another.")
    images = _by_id(document["images"])
    categories = {key: clean(str(each.get("name", ""))) for key, each in _by_id(document["categories"]).items()}
    for number, each in enumerate(document["annotations"], start=1):
        said = _annotation(f"annotation {number}", each, images, categories, file.parent)
        yield _with_probability(said, str(each["score"]) if isinstance(each, dict) and "score" in each else "")
    decisions = document.get("decisions")
    yield from _logged(each for each in (decisions if isinstance(decisions, list) else []) if isinstance(each, dict))


def _by_id(items: list[Any]) -> dict[str, dict[str, Any]]:
    return {str(item["id"]): item for item in items if isinstance(item, dict) and "id" in item}


def _annotation(
    where: str, each: Any, images: dict[str, dict[str, Any]], categories: dict[str, str], folder: Path
) -> Said:
    image = images.get(str(each.get("image_id"))) if isinstance(each, dict) else None
    if image is None:
        return Said(where, "", refused="it is about an image that the file does not list")
    label = categories.get(str(each.get("category_id")), "")
    if not label:
        return Said(where, "", refused="its category is not listed, or has no name")
    names = tuple(str(image[key]) for key in ("file_name", "name") if image.get(key))
    file = None
    for place in (folder, folder / "images") if names else ():
        file = file or _inside(place, names[0])
    return Said(where, label, names, str(image.get("sha256") or "").lower(), file)


# --- folders ------------------------------------------------------------------


def _class_folders(root: Path) -> Iterator[Said]:
    """root/class/image or root/split/class/image."""
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() not in SUFFIXES | DICOM_SUFFIXES or not file.is_file():
            continue
        inside = file.relative_to(root)
        folder = inside.parent.name
        where = clean(str(inside))
        if not folder or (len(inside.parts) == 2 and split_name(folder)):
            yield Said(where, "", refused="it lies in no class’s folder")
        else:
            label = "" if folder == UNLABELLED else clean(folder)
            yield Said(where, label, (str(inside), file.name), "", file)
