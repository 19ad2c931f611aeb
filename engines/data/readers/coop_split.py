"""Split files of CoOp (`split_zhou_*.json`) and of the methods that followed it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from engines.data.base import ImportOptions, LeftOut, Reader, Reading, Record
from engines.data.benchmark_layouts import distinct
from engines.data.images import Undecodable, read_file
from engines.data.names import clean
from engines.data.readers.table import images_folder, locate
from engines.errors import DataError

Item = tuple[str, int, str]
SPLITS = ("train", "val", "test")


class CoOpSplitReader(Reader):
    """A JSON file `{"train": [[path, label, class name], …], "val": …, "test": …}`, or a folder that holds just one.

    Label order, image order and splits are the file's, and images that occur twice are kept, so that few-shot draws
    are those of the published results.
    """

    name = "coop-split"
    title = "CoOp split file (split_….json) beside its images"
    rank = 10

    def accepts(self, source: Path) -> bool:
        if source.is_dir():
            try:
                return len(list(islice(source.glob("split_*.json"), 2))) == 1
            except OSError:
                return False
        return source.is_file() and source.suffix.lower() == ".json"

    def read(self, source: Path, options: ImportOptions) -> Reading:
        file = next(source.glob("split_*.json"), source) if source.is_dir() else source
        items = parse_split(file)
        names = label_names(file, items)
        root = images_folder(options, file.parent) if options.images_folder else _find_images(file.parent, items)
        return Reading(
            split_records(items, names, root),
            sum(map(len, items.values())),
            classes=list(names.values()),
            keep_duplicates=True,
            hint="Name the folder that the split file’s paths are relative to in the options (images_folder).",
        )


def parse_split(file: Path) -> dict[str, list[Item]]:
    """The items of each split.

    Raises:
        DataError: it cannot be read, or is no split file.
    """
    try:
        found: Any = json.loads(read_file(file))
        parsed: dict[str, list[Item]] = {}
        for split in SPLITS:
            parsed[split] = [(path, label, name) for path, label, name in found.get(split, [])]
            for path, label, name in parsed[split]:
                if type(path) is not str or type(label) is not int or type(name) is not str:
                    raise TypeError(f"{path!r}, {label!r}, {name!r}")
        if not any(split in found for split in SPLITS):
            raise KeyError("train")
    except Undecodable as error:
        raise DataError(f"The split file “{file.name}” cannot be read: {error.reason}.", "Choose another.") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"“{file.name}” is not a split file: it must hold lists train, val and test of [path, label, class name].",
            "Choose the file split_….json of the data set.",
            repr(error),
        ) from error
    return parsed


def label_names(file: Path, items: dict[str, list[Item]]) -> dict[int, str]:
    """Label to class name, in label order; where labels share a name, the later ones are told apart by a number.

    Raises:
        DataError: a label has two names.
    """
    names: dict[int, str] = {}
    for split in SPLITS:
        for _, label, name in items[split]:
            if names.setdefault(label, name) != name:
                raise DataError(
                    f"The split file “{file.name}” contradicts itself: label {label} is both “{names[label]}” and"
                    f" “{name}”.",
                    "Correct the file, or download it again.",
                )
    return dict(zip(sorted(names), distinct(clean(names[label]) for label in sorted(names)), strict=True))


def _find_images(folder: Path, items: dict[str, list[Item]]) -> Path:
    """The folder, at most two levels below the split file, in which the most of the first images lie."""
    first = [path for split in SPLITS for path, _, _ in items[split][:5]]
    candidates = [folder, *sorted(p for p in folder.glob("*") if p.is_dir()), *sorted(_second_level(folder))]
    best = max(candidates, key=lambda place: sum(not isinstance(locate(p, place.resolve()), LeftOut) for p in first))
    return best.resolve()


def _second_level(folder: Path) -> Iterator[Path]:
    return (p for p in islice(folder.glob("*/*"), 2000) if p.is_dir())


def split_records(items: dict[str, list[Item]], names: dict[int, str], root: Path) -> Iterator[Record | LeftOut]:
    """The images of a split file below `root`, in its order."""
    for split in SPLITS:
        for path, label, _ in items[split]:
            place = locate(path, root)
            yield place if isinstance(place, LeftOut) else Record(path, place, names[label], split)
