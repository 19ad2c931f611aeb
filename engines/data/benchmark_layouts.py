"""How published data sets tell images and classes where no split file lies beside them: folders, lists, tables.

Each class here is one way of telling; `engines.data.benchmarks` says which data set uses which, with what names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from engines.data.base import LeftOut
from engines.data.images import Undecodable, read_file
from engines.data.listing import Entry, list_files
from engines.data.names import class_order, clean, free_name
from engines.data.trees import is_beside, is_candidate, reason_against
from engines.errors import DataError

NO_FOLDER = "not in a folder of a class"
NOT_PUBLISHED = "its folder is not a class of the published data set"
TRAINVAL = "trainval"
"""Images that the publisher calls training images, and of which some are to be set aside for validation."""


class Item(NamedTuple):
    """One image that a data set names."""

    path: str
    """Below the folder of the images."""
    name: str
    """Of its class."""
    split: str = ""
    """`train`, `val`, `test`, `trainval`, or empty where the publisher does not say."""
    place: Path | None = None
    """Where it lies, if that was looked up already."""


@dataclass(slots=True)
class Listing:
    """What a data set holds, before anything was divided."""

    items: list[Item] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    """In label order; the others follow, sorted."""
    left_out: list[LeftOut] = field(default_factory=list)


class Layout(Protocol):
    """One way of telling images and classes."""

    def read(self, root: Path, images: Path) -> Listing:
        """
        Args:
            root: the folder of the data set.
            images: the folder in it that paths are relative to.

        Raises:
            DataError: a file that tells the classes is missing or damaged.
        """
        ...


def distinct(names: Iterable[str]) -> list[str]:
    """`names`, a repeated one as `name (2)`: two labels may share a name (ImageNet's missiles and sunglasses do)."""
    found: dict[str, None] = {}
    for name in names:
        found[free_name(name, found) if name in found else name] = None
    return list(found)


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """One folder per class; labels count them in the order of their names, or as `classes` does."""

    rename: Mapping[str, str] = field(default_factory=dict)
    """Folder to class name, where they differ."""
    ignored: tuple[str, ...] = ()
    """Folders that are no class."""
    classes: tuple[str, ...] = ()
    """Names in label order; their folders have underscores for blanks."""

    def read(self, root: Path, images: Path) -> Listing:
        listing = Listing()
        names = {name.replace(" ", "_").casefold(): name for name in self.classes} | dict(self.rename)
        found: dict[str, str] = {}
        for entry in _images(images, listing):
            folder = entry.parts[0]
            if len(entry.parts) == 1 or folder in self.ignored:
                listing.left_out.append(LeftOut(entry.name, NO_FOLDER if len(entry.parts) == 1 else NOT_PUBLISHED))
                continue
            plain = folder.replace("_", " ") if self.classes else folder
            found[folder] = names.get(folder) or names.get(folder.casefold()) or plain
            listing.items.append(Item(entry.name, found[folder], place=entry.handle))
        listing.classes = [*self.classes, *(found[folder] for folder in class_order(found))]
        return listing


@dataclass(frozen=True, slots=True)
class WordNetFolders:
    """Folders named by WordNet numbers, or by places in `classnames.txt`, which gives the names: `n01440764 tench`."""

    parts: Mapping[str, str]
    """Folder inside the images to split."""
    by_place: bool = False

    def read(self, root: Path, images: Path) -> Listing:
        pairs = [line.partition(" ")[::2] for line in read_lines(root / "classnames.txt", root)]
        if not pairs or not all(name.strip() for _, name in pairs):
            raise damaged("classnames.txt", "each line must be a WordNet number and a name")
        folders = [str(place) if self.by_place else number for place, (number, _) in enumerate(pairs)]
        # Of all names, so that a class is called alike in ImageNet and in the sets that hold a part of its classes.
        names = dict(zip(folders, distinct(clean(name) for _, name in pairs), strict=True))
        listing = Listing()
        found: set[str] = set()
        for part, split in self.parts.items():
            for entry in _images(_existing(images / part, root), listing):
                if len(entry.parts) == 1 or entry.parts[0] not in names:
                    listing.left_out.append(LeftOut(entry.name, NO_FOLDER))
                    continue
                found.add(entry.parts[0])
                path = "/".join(filter(None, (part, entry.name)))
                listing.items.append(Item(path, names[entry.parts[0]], split, entry.handle))
        listing.classes = [names[folder] for folder in class_order(found)]
        return listing


@dataclass(frozen=True, slots=True)
class TextLists:
    """Text files with one image a line, and perhaps one that names the classes in label order."""

    files: Mapping[str, str]
    """Split to file."""
    line: str
    """Pattern of a line, with groups `file` and `name`."""
    path: str
    """Where the image lies: `{file}` as in the line, `{name}` as edited."""
    edit: Callable[[str], str]
    """What becomes of a class name."""
    order: str = ""
    """File of the classes in label order; by name where empty."""
    order_line: str = "(?P<name>.+)"

    def read(self, root: Path, images: Path) -> Listing:
        classes = [self.edit(found["name"]) for found in _matches(root, self.order, self.order_line)]
        listing = Listing(classes=classes)
        for split, file in self.files.items():
            for found in _matches(root, file, self.line):
                name = self.edit(found["name"])
                listing.items.append(Item(self.path.format(file=found["file"], name=name), name, split))
        return listing


@dataclass(frozen=True, slots=True)
class CarsTables:
    """Stanford Cars: MATLAB tables of file names and class numbers, and one of class names."""

    def read(self, root: Path, images: Path) -> Listing:
        names = [year_first(str(n)) for n in _vector(read_mat(root / "devkit/cars_meta.mat", root), "class_names")]
        listing = Listing(classes=distinct(names))
        tables = {
            TRAINVAL: ("cars_train", "devkit/cars_train_annos.mat"),
            "test": ("cars_test", "cars_test_annos_withlabels.mat"),
        }
        for split, (folder, file) in tables.items():
            for row in _vector(read_mat(root / file, root), "annotations"):
                try:
                    listing.items.append(Item(f"{folder}/{row['fname']}", _pick(listing.classes, row["class"]), split))
                except (ValueError, IndexError, TypeError) as error:
                    raise damaged(file, "each row must hold “fname” and “class”", repr(error)) from error
        return listing


@dataclass(frozen=True, slots=True)
class FlowersTables:
    """Oxford Flowers: a MATLAB list with the class number of image 1, 2, …, and a JSON file of class names."""

    def read(self, root: Path, images: Path) -> Listing:
        file = "cat_to_name.json"
        try:
            numbered = {int(number): str(name) for number, name in json.loads(_read(root / file, root)).items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise damaged(file, "it must hold class numbers with their names", repr(error)) from error
        classes = distinct(numbered[number] for number in sorted(numbered))
        names = dict(zip(sorted(numbered), classes, strict=True))
        listing = Listing(classes=classes)
        for place, number in enumerate(_vector(read_mat(root / "imagelabels.mat", root), "labels"), 1):
            if int(number) not in names:
                raise damaged(file, f"it does not name class {int(number)}")
            listing.items.append(Item(f"image_{place:05d}.jpg", names[int(number)]))
        return listing


# --- what becomes of class names -----------------------------------------------------------------


def year_first(name: str) -> str:
    """`Audi TT RS Coupe 2012` as `2012 Audi TT RS Coupe`."""
    *words, year = name.split()
    return " ".join((year, *words))


def words_of(name: str) -> str:
    """`ApplyEyeMakeup` as `Apply_Eye_Makeup`."""
    return "_".join(re.findall("[A-Z][^A-Z]*", name)) or name


def scene(path: str) -> str:
    """`a/apartment_building/outdoor` as `outdoor apartment_building`."""
    return " ".join(reversed(path.split("/")[1:])) or path


# --- files ---------------------------------------------------------------------------------------


def damaged(file: str, should: str, detail: str = "") -> DataError:
    return DataError(f"“{file}” is damaged: {should}.", "Download it again.", detail)


def _existing(place: Path, root: Path) -> Path:
    if not place.exists():
        raise DataError(
            f"“{place.relative_to(root).as_posix()}” is missing in “{root.name}”.",
            "Add it, or the data set’s split file, and import again.",
        )
    return place


def _read(file: Path, root: Path) -> bytes:
    try:
        return read_file(_existing(file, root))
    except Undecodable as error:
        raise DataError(f"“{file.name}” cannot be read: {error.reason}.", "Download it again.") from error


def read_lines(file: Path, root: Path) -> list[str]:
    """The lines of a text file of the data set in `root`, without empty ones and comments."""
    lines = _read(file, root).decode("utf-8-sig", "replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_mat(file: Path, root: Path) -> Mapping[str, Any]:
    """The variables of a MATLAB file."""
    from io import BytesIO

    from scipy.io import loadmat

    try:
        found: Mapping[str, Any] = loadmat(BytesIO(_read(file, root)), squeeze_me=True)
    except DataError:
        raise
    except Exception as error:  # damaged files are answered with many kinds of error
        raise damaged(file.name, "it is not a MATLAB file", repr(error)) from error
    return found


def _vector(table: Mapping[str, Any], name: str) -> list[Any]:
    import numpy as np

    if name not in table:
        raise damaged("the MATLAB file", f"it has no variable “{name}”")
    return list(np.atleast_1d(table[name]))


def _pick(names: list[str], number: Any) -> str:
    if not 1 <= int(number) <= len(names):
        raise IndexError(number)
    return names[int(number) - 1]


def _matches(root: Path, file: str, pattern: str) -> list[re.Match[str]]:
    """What each line of a list says; nothing where no file is named."""
    found = []
    for number, line in enumerate(read_lines(root / file, root) if file else [], 1):
        match = re.fullmatch(pattern, line)
        if match is None:
            raise damaged(file, f"line {number} is not as expected", line[:200])
        found.append(match)
    return found


def _images(folder: Path, listing: Listing) -> list[Entry]:
    """The image files below a folder; what else lies there is noted as left out."""
    entries, left_out = list_files(folder)
    listing.left_out += left_out
    others = [entry for entry in entries if not is_candidate(entry) and not is_beside(entry)]
    listing.left_out += [LeftOut(entry.name, reason_against(entry)) for entry in others]
    return [entry for entry in entries if is_candidate(entry)]
