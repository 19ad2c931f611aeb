"""MedMNIST `.npz` files: the twelve 2D sets in 28 to 224 pixels, and others of the same shape."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from engines.data.base import MOST_CLASSES, ImportOptions, LeftOut, Reader, Reading, Record
from engines.data.images import MAX_PIXELS
from engines.data.readers.zip_file import open_zip
from engines.errors import DataError

SPLITS = ("train", "val", "test")
SEVERAL = "several labels at once"
NO_CLASS = "its label is not a class number"
NO_FINDING = "no finding"


class MedMnistReader(Reader):
    """`<flag>.npz` (28 pixels) or `<flag>_64.npz`, `_128`, `_224` with `train_images`, `train_labels` and so on.

    Images are uint8 [N, S, S] or [N, S, S, 3], labels whole numbers [N] or [N, 1]. They are read one at a time, so
    a file may be larger than the memory. Class names are those of the set that the file's name begins with.
    """

    name = "medmnist"
    title = "MedMNIST file (.npz)"
    rank = 15

    def accepts(self, source: Path) -> bool:
        return source.is_file() and source.suffix.lower() == ".npz"

    def read(self, source: Path, options: ImportOptions) -> Reading:
        with open_zip(source) as archive:
            keys = {member.removesuffix(".npy") for member in archive.namelist()}
            splits = [split for split in SPLITS if f"{split}_images" in keys]
            if not splits:
                raise DataError(
                    f"“{source.name}” is not a MedMNIST file: it holds no train_images, val_images or test_images.",
                    "Choose a file of MedMNIST’s 2D sets.",
                )
            labels = {split: _labels(archive, source, split) for split in splits}
            total = sum(_image_count(archive, source, split, len(labels[split])) for split in splits)
        several = max(found.shape[1] for found in labels.values()) > 1
        if several and options.multi_label == "refuse":
            raise DataError(
                f"The images of “{source.name}” carry several labels at once, and a prompt learns one label an image.",
                "Set multi_label to “single” in the options to keep the images with at most one label.",
            )
        names = class_names(source.name)
        if not names:
            ends = [found.shape[1] - 1 if several else int(found.max(initial=0)) for found in labels.values()]
            names = [f"class {number}" for number in range(min(max(ends), MOST_CLASSES) + 1)]
        classes = [*names, NO_FINDING] if several else names
        return Reading(_records(source, labels, names), total, classes=classes)


@cache
def _known_names() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(Path(__file__).with_name("medmnist_names.json").read_text("utf-8"))
    return found


def class_names(file_name: str) -> list[str]:
    """Class names, in label order, of the MedMNIST set that a file's name begins with; empty for another file."""
    flag = re.match(r"[a-z]+mnist", file_name.lower())
    return _known_names().get(flag.group(), []) if flag else []


def _open_array(archive: zipfile.ZipFile, source: Path, key: str) -> tuple[IO[bytes], tuple[int, ...], np.dtype]:
    """The open data of an array behind its header, its shape and its type, nothing else read."""
    try:
        file = archive.open(f"{key}.npy")
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except KeyError as error:
        raise DataError(f"“{source.name}” holds no {key}.", "Download it again.") from error
    except Exception as error:  # damaged ZIP members and headers raise many kinds of error
        raise DataError(
            f"“{source.name}” is damaged: {key} cannot be read.", "Download it again.", repr(error)
        ) from error
    if fortran or dtype.hasobject or dtype.kind not in "uib":
        raise DataError(
            f"“{source.name}” is not a MedMNIST file: {key} holds {'objects' if dtype.hasobject else dtype.name}"
            f"{' in column order' if fortran else ''}, not whole numbers.",
            "Save it again with numpy.savez_compressed and whole numbers.",
        )
    return file, shape, dtype


def _labels(archive: zipfile.ZipFile, source: Path, split: str) -> np.ndarray:
    """Labels [N, L] of a split."""
    key = f"{split}_labels"
    file, shape, dtype = _open_array(archive, source, key)
    count, width = (*shape, 1)[:2] if shape else (0, 0)
    if len(shape) not in (1, 2) or not 1 <= width <= MOST_CLASSES or count > 100_000_000:
        raise DataError(f"“{source.name}” is not a MedMNIST file: {key} has the shape {shape}.", "Choose another file.")
    with file:
        data = _exactly(file, count * width * dtype.itemsize, source, key)
    return np.frombuffer(data, dtype).reshape(count, width).astype(np.int64)


def _image_count(archive: zipfile.ZipFile, source: Path, split: str, labels: int) -> int:
    """Number of images of a split, after checking their shape and type."""
    key = f"{split}_images"
    file, shape, dtype = _open_array(archive, source, key)
    file.close()
    if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise DataError(
            f"“{source.name}” is not a MedMNIST file: {key} is {dtype.name} {list(shape)}, not uint8 [N, S, S] or"
            " [N, S, S, 3].",
            "The 3D sets cannot be imported; save other arrays as 8-bit images.",
        )
    if shape[0] != labels:
        raise DataError(
            f"“{source.name}” is damaged: {key} holds {shape[0]:,} images but {labels:,} labels.", "Download it again."
        )
    if shape[0] and (shape[1] < 1 or shape[2] < 1 or shape[1] * shape[2] > MAX_PIXELS):
        raise DataError(f"The images of “{source.name}” are {shape[2]} × {shape[1]} pixels.", "Choose another file.")
    return int(shape[0])


def _exactly(file: IO[bytes], size: int, source: Path, key: str) -> bytes:
    try:
        data = file.read(size)
    except Exception as error:  # zlib and zipfile each have errors of their own
        raise DataError(f"“{source.name}” is damaged inside {key}.", "Download it again.", repr(error)) from error
    if len(data) != size:
        raise DataError(f"“{source.name}” is cut off: the end of {key} is missing.", "Download it again.")
    return data


def _records(source: Path, labels: dict[str, np.ndarray], names: list[str]) -> Iterator[Record | LeftOut]:
    with open_zip(source) as archive:
        for split, marks in labels.items():
            file, shape, _ = _open_array(archive, source, f"{split}_images")
            with file:
                for number, mark in enumerate(marks):
                    name = f"{split} {number}"
                    pixels = _exactly(file, int(np.prod(shape[1:])), source, f"{split}_images")
                    label = _label(mark, names)
                    if isinstance(label, LeftOut):
                        yield LeftOut(name, label.reason)
                        continue
                    side = shape[1:] if shape[-1] == 3 and len(shape) == 4 else shape[1:3]
                    yield Record(name, Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(side)), label, split)


def _label(mark: np.ndarray, names: list[str]) -> str | LeftOut:
    """The class of one row of labels: a number, or one mark per class (multi-hot)."""
    if len(mark) > 1:
        found = np.flatnonzero(mark)
        if len(found) > 1:
            return LeftOut("", SEVERAL)
        if not len(found):
            return NO_FINDING
        return names[found[0]] if found[0] < len(names) else LeftOut("", NO_CLASS)
    number = int(mark[0])
    return names[number] if 0 <= number < len(names) else LeftOut("", NO_CLASS)
