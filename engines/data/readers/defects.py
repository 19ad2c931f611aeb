"""Images with marked defects: folders as MVTec AD and VisA have them, a `meta.json`, or images beside masks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from engines.data.base import ImportOptions, LeftOut, Reader, Reading, Record
from engines.data.listing import Entry, list_files
from engines.data.trees import is_candidate
from engines.errors import DataError

NORMAL, ANOMALOUS = "normal", "anomalous"
CLASSES = [NORMAL, ANOMALOUS]
GOOD = {"good", "normal", "ok", "clean"}
MASK_ENDINGS = ("_mask", "-mask", "")


class DefectReader(Reader):
    """Whole and damaged things, with a mask for each image whose defects are marked (white on black).

    `<object>/train/good`, `<object>/test/<defect or good>`, `<object>/ground_truth/<defect>/*_mask.png` (MVTec AD), one
    such object or a folder of many; a `meta.json` in the layout of AnomalyCLIP; or `images` beside `masks`, where an
    image with a mask that is not all black is damaged. Objects become domains.
    """

    name = "defects"
    title = "Images with marked defects (masks)"
    rank = 35

    def accepts(self, source: Path) -> bool:
        return source.is_dir() and (
            _meta(source) is not None
            or bool(_objects(source))
            or ((source / "masks").is_dir() and _images(source) != "")
        )

    def read(self, source: Path, options: ImportOptions) -> Reading:
        if _meta(source) is not None:
            found, warnings = _from_meta(source), list[str]()
        elif objects := _objects(source):
            found, warnings = _from_objects(source, objects)
        elif (source / "masks").is_dir() and _images(source):
            found, warnings = _from_masks(source)
        else:
            raise DataError(
                f"“{source.name}” holds no images with marked defects.",
                "It needs folders train/good, test and ground_truth, a meta.json, or the folders images and masks.",
            )
        return Reading(found, len(found), CLASSES, warnings=warnings)


# --- meta.json ------------------------------------------------------------------


def _meta(source: Path) -> dict[str, Any] | None:
    """The content of `meta.json`: splits, objects, images; None where it is none of that kind."""
    try:
        found = json.loads((source / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    splits = [found.get(split) for split in ("train", "test")] if isinstance(found, dict) else []
    known = any(isinstance(split, dict) for split in splits)
    return found if known else None


def _from_meta(source: Path) -> list[Record | LeftOut]:
    meta = _meta(source) or {}
    found: list[Record | LeftOut] = []
    for split in ("train", "test"):
        for thing, images in (meta.get(split) or {}).items():
            for row in images if isinstance(images, list) else []:
                found.append(_meta_row(source, split, str(thing), row))
    return found


def _meta_row(source: Path, split: str, thing: str, row: Any) -> Record | LeftOut:
    name = str(row.get("img_path", "")) if isinstance(row, dict) else ""
    if not name:
        return LeftOut(f"meta.json, {thing}", "a line without img_path")
    image, mask = _inside(source, name), _inside(source, str(row.get("mask_path") or ""))
    if image is None:
        return LeftOut(name, "not in the folder")
    if row.get("mask_path") and mask is None:
        return LeftOut(name, f"its mask “{row['mask_path']}” is not in the folder")
    damaged = str(row.get("anomaly", 0)) not in ("0", "0.0", "False")
    return Record(name, image, ANOMALOUS if damaged else NORMAL, split, thing, mask=mask if damaged else None)


def _inside(source: Path, name: str) -> Path | None:
    """A file below `source`; None where it is not there or leads out."""
    place = (source / name).resolve()
    return place if name and place.is_file() and place.is_relative_to(source.resolve()) else None


# --- MVTec AD -------------------------------------------------------------------


def _objects(source: Path) -> list[str]:
    """Sub-folders that are objects (“.” for the folder itself): with test images and a ground truth or good ones."""

    def is_object(place: Path) -> bool:
        test = place / "test"
        return test.is_dir() and ((place / "ground_truth").is_dir() or any((test / name).is_dir() for name in GOOD))

    if is_object(source):
        return ["."]
    try:
        return sorted(place.name for place in source.iterdir() if place.is_dir() and is_object(place))
    except OSError:
        return []


def _from_objects(source: Path, objects: list[str]) -> tuple[list[Record | LeftOut], list[str]]:
    found: list[Record | LeftOut] = []
    missing = 0
    for thing in objects:
        for one in _from_object((source / thing).resolve(), (source if thing == "." else source / thing).name):
            found.append(one)
            missing += isinstance(one, Record) and one.label == ANOMALOUS and one.mask is None
    note = f"Damaged images without a mask, which can be judged as a whole only: {missing:,}."
    return found, [note] if missing else []


def _from_object(place: Path, name: str) -> Iterator[Record | LeftOut]:
    entries, left_out = list_files(place)
    yield from left_out
    marks = [entry for entry in entries if entry.parts[0] == "ground_truth"]
    masks = {(*entry.parts[1:-1], _stem(entry)): entry.handle for entry in marks}
    for entry in filter(is_candidate, entries):
        split = entry.parts[0]
        if split not in ("train", "val", "test") or len(entry.parts) < 3:
            if split != "ground_truth":
                yield LeftOut(f"{name}/{entry.name}", "not in a folder of train or test")
            continue
        kind = entry.parts[1]
        label = NORMAL if kind.lower() in GOOD else ANOMALOUS
        mask = next((m for end in MASK_ENDINGS if (m := masks.get((*entry.parts[1:-1], _stem(entry) + end)))), None)
        yield Record(
            f"{name}/{entry.name}", entry.handle, label, split, name, mask=mask if label == ANOMALOUS else None
        )


def _stem(entry: Entry) -> str:
    return Path(entry.parts[-1]).stem


# --- images beside masks --------------------------------------------------------


def _images(source: Path) -> str:
    return next((name for name in ("images", "image", "imgs") if (source / name).is_dir()), "")


def _from_masks(source: Path) -> tuple[list[Record | LeftOut], list[str]]:
    images, left_out = list_files(source / _images(source))
    marks, _ = list_files(source / "masks")
    masks = {(*entry.parts[:-1], _stem(entry)): entry.handle for entry in filter(is_candidate, marks)}
    found: list[Record | LeftOut] = [*left_out]
    used: set[Any] = set()
    for entry in filter(is_candidate, images):
        mask = next((m for end in MASK_ENDINGS if (m := masks.get((*entry.parts[:-1], _stem(entry) + end)))), None)
        used.add(mask)
        mask = None if mask and _is_black(mask) else mask
        found.append(Record(entry.name, entry.handle, ANOMALOUS if mask else NORMAL, mask=mask))
    lost = sum(handle not in used for handle in masks.values())
    return found, [f"Masks without an image of the same name: {lost:,}."] if lost else []


def _is_black(mask: Path) -> bool:
    """Whether nothing is marked: many data sets have a mask for sound images, too. One that cannot be read is not."""
    try:
        with Image.open(mask) as picture:
            return picture.convert("L").getextrema()[1] == 0
    except (OSError, ValueError, Image.DecompressionBombError):
        return False
