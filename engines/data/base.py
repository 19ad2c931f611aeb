"""Readers: what they are given, what they yield, and how they are found.

A reader is one small class in a file of `engines/data/readers/`; putting the file there is all it takes.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from engines.data.depth import Depth
from engines.data.images import MAX_PIXELS
from engines.errors import DataError

Source = Path | bytes | Image.Image
"""A file that stays where it is, the bytes of an image file, or pixels; the last two are copied into the workspace."""


class ImportOptions(BaseModel):
    """What a person may choose about an import. Every option has a default that needs no thought."""

    model_config = ConfigDict(extra="forbid")

    split: Literal["auto", "as-is"] = Field(
        "auto",
        title="Set test images aside",
        description="auto: where the source has no test images, 50% of each class is for training, 20% for validation "
        "and 30% for testing, and groups such as patients are never torn apart. as-is: keep the source's own split.",
    )
    copy_images: bool = Field(
        False, title="Copy the images", description="Copy images into the workspace, so that the source may go away."
    )
    keep_duplicates: bool = Field(
        False, title="Keep duplicates", description="Keep images whose content occurs twice, as published splits do."
    )
    max_pixels: int = Field(
        MAX_PIXELS, ge=1, le=178_000_000, title="Largest image", description="Images with more pixels are left out."
    )
    path_column: str = Field("", title="Column of the file names", description="Guessed where left empty.")
    label_column: str = Field("", title="Column of the classes", description="Guessed where left empty.")
    split_column: str = Field("", title="Column of the split", description="Guessed where left empty.")
    domain_column: str = Field("", title="Column of the domain", description="Site, scanner or stain.")
    group_column: str = Field("", title="Column of the group", description="Patient or slide: never torn apart.")
    images_folder: str = Field(
        "", title="Folder of the images", description="What file names in a table or split file are relative to."
    )
    multi_label: Literal["refuse", "single"] = Field(
        "refuse",
        title="Images with several labels",
        description="single: keep the images with at most one label, leave the others out.",
    )
    window_center: float | None = Field(None, title="Window centre", description="DICOM: in place of the file's own.")
    window_width: float | None = Field(
        None, gt=0, title="Window width", description="DICOM: in place of the file's own."
    )
    frames: Literal["all", "first", "middle"] = Field(
        "all", title="Frames", description="DICOM files with many frames: which of them to import."
    )
    slides: Literal["thumbnail", "tiles"] = Field(
        "thumbnail",
        title="Slides",
        description="Whole-slide images (SVS, NDPI, MRXS, tiled TIFF …): one small picture of each, or tiles.",
    )
    tile_size: int = Field(512, ge=32, le=4096, title="Tile size", description="Width and height of a tile in pixels.")
    tile_level: int = Field(0, ge=0, le=30, title="Tile level", description="Level of the slide; 0: as scanned.")
    tile_mpp: float = Field(
        0.0,
        ge=0,
        le=1000,
        title="Micrometres per pixel",
        description="In place of a level: 0.5 is about a 20× objective, 1 about 10×. 0: by the level.",
    )
    tile_tissue: int = Field(
        25, ge=0, le=100, title="Tissue in a tile (%)", description="Tiles with less are left out. 0: keep all tiles."
    )
    tiles_per_slide: int = Field(
        200, ge=1, le=100_000, title="Tiles per slide", description="Of more, so many are drawn at random."
    )


@dataclass(frozen=True, slots=True)
class Record:
    """One image as a reader found it."""

    name: str
    """What a person sees; readers of medical files keep file names out of it."""
    source: Source
    label: str | None = None
    split: str | None = None
    """`train`, `val`, `test`, or None where the source does not say."""
    domain: str = ""
    group: str = ""
    mask: Path | None = None
    """Picture that marks the defects of the image in white; it stays where it is."""
    depth: Depth | None = None
    """All grey levels of an image whose `source` is its picture of 8 bits."""


MOST_CLASSES = 10_000


def check_class_count(count: int) -> None:
    """
    Raises:
        DataError: there are more than 10,000 classes.
    """
    if count > MOST_CLASSES:
        raise DataError(
            f"The source has more than {MOST_CLASSES:,} classes, so nothing was imported.",
            "Check that the class names are not file names or numbers of single images.",
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One file that was not imported, and why."""

    file: str
    reason: str


@dataclass
class Reading:
    """What a source holds. `records` is walked once, in an order that is the same on every machine."""

    records: Iterable[Record | LeftOut]
    total: int = 0
    """Number of records to expect; 0 where it is not known."""
    classes: list[str] = field(default_factory=list)
    """Class names in label order; names beyond them follow, sorted."""
    descriptions: dict[str, list[str]] = field(default_factory=dict)
    """Sentences that describe a class."""
    warnings: list[str] = field(default_factory=list)
    """For the report; may still grow while `records` is walked."""
    hint: str = ""
    """What to try when none of the images could be read."""
    name: str = ""
    """What to call the data set, where the source's own name must not be used."""
    template: str = ""
    """The sentence with `{}` for the class name that published results of ready-made prompts were made with."""
    keep_duplicates: bool = False
    """The source's split is a published one that results are compared on: keep images that occur twice in it."""
    private: bool = False
    """The source's path may name patients and is not kept."""


class Reader:
    """Reads one way of storing a data set."""

    name: ClassVar[str]
    title: ClassVar[str]
    """What a person would call such a source."""
    rank: ClassVar[int] = 50
    """Readers are asked in this order whether they accept a source."""

    def accepts(self, source: Path) -> bool:
        """Whether this reader is the right one for an existing file or folder. Looks at names and first bytes only."""
        raise NotImplementedError

    def read(self, source: Path, options: ImportOptions) -> Reading:
        """Look at `source` and describe what it holds.

        Raises:
            DataError: the source as a whole cannot be used. A fault of one image is a `LeftOut` instead.
        """
        raise NotImplementedError


@cache
def available_readers() -> dict[str, Reader]:
    """All readers by name, in the order in which they are asked."""
    from engines.data import readers

    for module in pkgutil.iter_modules(readers.__path__):
        importlib.import_module(f"{readers.__name__}.{module.name}")
    found = sorted((cls() for cls in Reader.__subclasses__()), key=lambda reader: (reader.rank, reader.name))
    return {reader.name: reader for reader in found}


def find_reader(source: Path, name: str | None = None) -> Reader:
    """The reader called `name`, or the first that accepts `source`.

    Raises:
        DataError: there is no such reader, or nobody can read the source.
    """
    readers = available_readers()
    if name:
        if name not in readers:
            raise DataError(f"There is no reader called “{name}”.", f"There are: {', '.join(readers)}.")
        return readers[name]
    for reader in readers.values():
        if reader.accepts(source):
            return reader
    suffix = source.suffix.lower()
    if suffix in (".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"):
        raise DataError(f"“{source.name}” is an archive that cannot be read.", "Unpack it, or pack it as a ZIP file.")
    raise DataError(
        f"“{source.name}” is not a kind of file that can be imported.",
        f"Choose one of these: {', '.join(reader.title for reader in readers.values())}.",
    )
