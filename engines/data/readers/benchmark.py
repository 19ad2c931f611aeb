"""Published data sets in the folders that CoOp and BiomedCoOp ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engines.data.base import ImportOptions, LeftOut, Reader, Reading, Record
from engines.data.benchmark_layouts import TRAINVAL, Listing
from engines.data.benchmarks import BENCHMARKS, Benchmark
from engines.data.readers.coop_split import label_names, parse_split, split_records
from engines.data.readers.table import images_folder, locate
from engines.data.splitting import assign_splits
from engines.errors import DataError

BY_FOLDER = {benchmark.folder.lower(): benchmark for benchmark in BENCHMARKS}
SET_ASIDE = {"train": 0.8, "val": 0.2}
"""CoOp's shares of the publisher's training images."""


class BenchmarkReader(Reader):
    """A data set of the literature, such as Caltech101, ImageNet or BTMRI, in its official folder.

    The folder is the one that holds the images and the split file (`split_zhou_….json`, `split_….json`), or the one
    above it. The published split, label order and class names are used. Without the split file the publisher's own
    lists are, and what they leave open is divided as CoOp does, the same way on every machine.
    """

    name = "benchmark"
    title = "Benchmark of the literature (the data sets of CoOp and BiomedCoOp)"
    rank = 8

    def accepts(self, source: Path) -> bool:
        if not source.is_dir():
            return False
        return bool(identify(source) or _inside(source) or too_low(source))

    def read(self, source: Path, options: ImportOptions) -> Reading:
        root, benchmark = _find(source)
        file = root / benchmark.split
        images = images_folder(options, root / benchmark.images)
        if not images.is_dir():
            raise DataError(
                f"The images of {benchmark.title} are missing: there is no folder “{benchmark.images}” in"
                f" “{root.name}”.",
                "Unpack them there, or name the folder that holds them in the options (images_folder).",
            )
        reading = (
            _published(file, images)
            if benchmark.split and file.is_file()
            else _listed(root, images, benchmark, options)
        )
        if benchmark.split and not file.is_file():
            reading.warnings.append(
                f"“{benchmark.split}” is missing, so the images were divided anew. Results cannot be compared with"
                " published ones, which use that file."
            )
        reading.name, reading.template = benchmark.title, benchmark.template
        reading.hint = (
            f"Unpack the images of {benchmark.title} into “{root.name}”"
            + (f", folder “{benchmark.images}”" if benchmark.images else "")
            + ", under the names that they were published with."
        )
        return reading


def identify(folder: Path) -> Benchmark | None:
    """The data set whose folder this is: by its split file, its other files, or its name with the images in it."""
    for benchmark in BENCHMARKS:
        if benchmark.split and (folder / benchmark.split).is_file():
            return benchmark
        if benchmark.marks and all((folder / mark).exists() for mark in benchmark.marks):
            return benchmark
    named = BY_FOLDER.get(folder.name.lower())
    return named if named and named.images and (folder / named.images).is_dir() else None


def _inside(folder: Path) -> dict[Path, Benchmark]:
    """The data sets in the sub-folders of a folder, known by their official names."""
    try:
        with os.scandir(folder) as found:
            named = sorted(Path(item.path) for item in found if item.name.lower() in BY_FOLDER and item.is_dir())
    except OSError:
        return {}
    return {path: benchmark for path in named if (benchmark := identify(path)) is BY_FOLDER[path.name.lower()]}


def too_low(folder: Path) -> Benchmark | None:
    """The data set of which this is not the folder, but one inside it."""
    above = identify(folder.parent)
    parts = {Path(place).parts[0] for place in (above.images, *above.marks) if place} if above else set()
    return above if folder.name in parts else None


def _find(source: Path) -> tuple[Path, Benchmark]:
    """
    Raises:
        DataError: `source` is a level too low, holds several data sets, or none.
    """
    if benchmark := identify(source):
        return source, benchmark
    if benchmark := too_low(source):
        raise DataError(
            f"“{source.name}” is a part of {benchmark.title}; what tells its classes and its split lies beside it.",
            f"Choose the folder above, “{source.parent.name}”. To import the images alone, say under “How to read it”"
            " that this is a folder with one sub-folder per class.",
        )
    inside = _inside(source)
    if len(inside) == 1:
        return next(iter(inside.items()))
    if inside:
        listed = ", ".join(f"“{path.name}”" for path in inside)
        raise DataError(f"“{source.name}” holds several data sets: {listed}.", "Choose the folder of one of them.")
    known = ", ".join(benchmark.folder for benchmark in BENCHMARKS)
    raise DataError(
        f"“{source.name}” is not the folder of a known benchmark.",
        f"Choose the folder that holds the images and the split file. Known are: {known}.",
    )


def _published(file: Path, images: Path) -> Reading:
    items = parse_split(file)
    names = label_names(file, items)
    total = sum(map(len, items.values()))
    return Reading(split_records(items, names, images), total, list(names.values()), keep_duplicates=True)


def _listed(root: Path, images: Path, benchmark: Benchmark, options: ImportOptions) -> Reading:
    listing = benchmark.layout.read(root, images)
    return Reading(
        _records(listing, images, options.split == "auto"),
        len(listing.items) + len(listing.left_out),
        listing.classes,
        # Copies may only be torn apart where the publisher did so himself.
        keep_duplicates=all(item.split not in ("", TRAINVAL) for item in listing.items),
    )


def _records(listing: Listing, images: Path, set_aside: bool) -> Iterator[Record | LeftOut]:
    yield from listing.left_out
    undivided = {item.path: item.name for item in listing.items if item.split == TRAINVAL}
    chosen = dict.fromkeys(undivided, "train")
    if set_aside:
        chosen = dict(zip(undivided, assign_splits([*undivided.values()], [*undivided], SET_ASIDE), strict=True))
    for path, name, split, known in listing.items:
        place = known or locate(path, images)
        part = chosen[path] if split == TRAINVAL else split or None
        yield place if isinstance(place, LeftOut) else Record(path, place, name, part)
