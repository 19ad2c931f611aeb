"""Slides on their way into a data set: each becomes one small picture, or many tiles."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from engines.data.base import ImportOptions, LeftOut, Reading, Record
from engines.data.images import Undecodable
from engines.data.slides import DAMAGED, NEEDS_PACKAGE, REMEDY, SUFFIXES, Slide, available, is_slide, tissue
from engines.errors import DataError

CELLS = 8
"""Places in a tile, along a side, at which tissue is looked for."""
MOST_TILES = 5_000_000
"""In the grid of a slide, tissue or not: a slide of 200,000 × 200,000 pixels has 150,000 tiles of 512 pixels."""
BAND = 4_000_000
"""Pixels of an overview that are looked at at a time."""

IN_ARCHIVE = "a slide inside an archive or table: unpack it, then import the folder"
MASKED = "a slide with a picture of its defects, which tiles do not have"
NO_TISSUE = "a slide without a tile that shows enough tissue"
TOO_SMALL = "a slide that is smaller than a pixel of its tiles"
TOO_MANY = "a slide of too many tiles: choose larger tiles or a coarser level"
NO_LEVEL = "a slide with fewer levels than asked for"
NO_MPP = "a slide that does not say how large its pixels are: choose a level instead"
COARSE = "a slide that was scanned more coarsely than asked for"
NAMED = 3
"""Slides that a warning names."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Column and row of a tile."""

    column: int
    row: int


@dataclass(frozen=True, slots=True)
class Grid:
    """How a slide is cut: complete tiles from the top left corner; narrower strips at the other edges are left out."""

    columns: int
    rows: int
    ratio: float
    """Pixels of full resolution along a pixel of a tile."""
    step: int
    """Distance of neighbouring tiles, in their own pixels."""
    width: int
    height: int
    """Size of a tile: `step`, or less where the slide is smaller than that."""

    @classmethod
    def of(cls, slide: Slide, options: ImportOptions) -> Grid:
        """
        Raises:
            Undecodable: the slide lacks the level or the resolution.
        """
        ratio = _ratio(slide, options)
        across, down = int(slide.width / ratio + 0.01), int(slide.height / ratio + 0.01)
        if across < 1 or down < 1:
            raise Undecodable(TOO_SMALL)
        size = options.tile_size
        if (across // size) * (down // size) > MOST_TILES:
            raise Undecodable(TOO_MANY)
        return cls(max(1, across // size), max(1, down // size), ratio, size, min(size, across), min(size, down))

    def corner(self, tile: Tile) -> tuple[int, int]:
        """x and y of a tile's upper left corner, in pixels of full resolution."""
        return round(tile.column * self.step * self.ratio), round(tile.row * self.step * self.ratio)


def _ratio(slide: Slide, options: ImportOptions) -> float:
    if not options.tile_mpp:
        if options.tile_level >= len(slide.downsamples):
            raise Undecodable(NO_LEVEL)
        return slide.downsamples[options.tile_level]
    if slide.mpp is None:
        raise Undecodable(NO_MPP)
    ratio = options.tile_mpp / slide.mpp
    if ratio < 0.99:
        raise Undecodable(COARSE)
    return max(1.0, ratio)


def tissue_shares(slide: Slide, grid: Grid) -> np.ndarray:
    """Share [rows, columns] of each tile that shows tissue, seen at a low resolution.

    Raises:
        Undecodable: damaged, or so large without smaller levels that it would take minutes.
    """
    cells = max(1, min(CELLS, grid.width, grid.height, 4096 // max(grid.columns, grid.rows)))
    ratio = min(grid.width, grid.height) * grid.ratio / cells
    slide.check_overview(ratio)
    across = max(1, round(grid.width * grid.ratio / ratio)), max(1, round(grid.height * grid.ratio / ratio))
    band = max(1, BAND // (grid.columns * across[0] * across[1]))
    shares = []
    for first in range(0, grid.rows, band):
        rows = min(band, grid.rows - first)
        top = first * grid.step * grid.ratio
        seen = np.asarray(slide.region(0, top, ratio, grid.columns * across[0], rows * across[1]))
        shares.append(tissue(seen).reshape(rows, across[1], grid.columns, across[0]).mean(axis=(1, 3)))
    return np.concatenate(shares)


T = TypeVar("T")


def drawn(items: list[T], most: int) -> list[T]:
    """At most so many of `items`, drawn at random but alike on every machine, in their order."""
    if len(items) <= most:
        return items
    return [items[place] for place in sorted(random.Random(0).sample(range(len(items)), most))]


class Slides:
    """The records of a reading with tiles or small pictures in place of slides.

    Args:
        check_cancelled: called while a slide is looked at; may raise to end the import.

    Raises:
        DataError: the options contradict each other, or tiles are asked for where slides cannot be read.
    """

    def __init__(self, reading: Reading, options: ImportOptions, check_cancelled: Callable[[], object]) -> None:
        if options.tile_mpp and options.tile_level:
            raise DataError("Tiles have a level or micrometres per pixel, not both.", "Set one of them to 0.")
        if options.slides == "tiles" and not available():
            raise DataError("Slides cannot be cut into tiles: the package openslide-python is not installed.", REMEDY)
        self.reading = reading
        self.options = options
        self.check_cancelled = check_cancelled
        self.done = 0.0
        """Records of the reading that are behind us; a part of one while a slide is cut."""
        self.slides = self.pictures = 0
        self._cut: list[tuple[str, int]] = []
        """Slides with more tiles than wanted: name and number of tiles."""

    def fraction(self, images: int) -> float:
        """How much of the reading is done, after so many images."""
        if not self.slides:
            return images / max(self.reading.total, images, 1)
        return min(1.0, self.done / max(self.reading.total, self.done, 1))

    def records(self) -> Iterator[Record | LeftOut]:
        """Walks the reading once; what there is to say of its slides is among its warnings then."""
        for number, one in enumerate(self.reading.records):
            self.done = number
            if isinstance(one, LeftOut) or not self._is_slide(one):
                yield one
            else:
                yield from self._of_slide(one)
        self.reading.warnings += self._notices()

    def _is_slide(self, record: Record) -> bool:
        if isinstance(record.source, Path):
            return is_slide(record.source, self.options.max_pixels)
        return isinstance(record.source, bytes) and PurePosixPath(record.name).suffix.lower() in SUFFIXES

    def _of_slide(self, record: Record) -> Iterator[Record | LeftOut]:
        try:
            if not isinstance(record.source, Path):
                raise Undecodable(IN_ARCHIVE)
            if record.mask:
                raise Undecodable(MASKED)
            if self.options.slides == "tiles":
                yield from self._tiles(record, record.source)
            else:
                with Slide(record.source, self.check_cancelled) as slide:
                    picture = slide.thumbnail()
                self.slides += 1
                yield replace(record, source=picture)
        except Undecodable as error:
            if error.reason == NEEDS_PACKAGE:
                self.reading.hint = REMEDY
            yield LeftOut(record.name, error.reason)

    def _tiles(self, record: Record, path: Path) -> Iterator[Record | LeftOut]:
        with Slide(path, self.check_cancelled) as slide:
            grid = Grid.of(slide, self.options)
            tiles = self._chosen(slide, grid, record.name)
        self.slides += 1
        base, name = self.done, PurePosixPath(record.name)
        opened: Slide | None = None
        try:
            for number, tile in enumerate(tiles):
                self.check_cancelled()
                self.done = base + number / len(tiles)
                x, y = grid.corner(tile)
                called = str(name.with_name(f"{name.stem}_x{x}_y{y}.png"))
                try:
                    opened = opened or Slide(path, self.check_cancelled)
                    picture = opened.region(x, y, grid.ratio, grid.width, grid.height)
                except Undecodable as error:
                    if opened:
                        opened.close()
                    opened = None  # after an error OpenSlide reads nothing more
                    yield LeftOut(called, error.reason if error.reason != DAMAGED else "a damaged tile of a slide")
                    continue
                self.pictures += 1
                yield replace(record, name=called, source=picture, group=record.group or record.name)
        finally:
            if opened:
                opened.close()

    def _chosen(self, slide: Slide, grid: Grid, name: str) -> list[Tile]:
        """
        Raises:
            Undecodable: damaged, or no tile shows enough tissue.
        """
        if self.options.tile_tissue:
            wanted = np.argwhere(tissue_shares(slide, grid) >= self.options.tile_tissue / 100)
            tiles = [Tile(int(column), int(row)) for row, column in wanted]
        else:
            tiles = [Tile(place % grid.columns, place // grid.columns) for place in range(grid.columns * grid.rows)]
        if not tiles:
            raise Undecodable(NO_TISSUE)
        if len(tiles) > self.options.tiles_per_slide:
            self._cut.append((name, len(tiles)))
        return drawn(tiles, self.options.tiles_per_slide)

    def _notices(self) -> list[str]:
        if not self.slides:
            return []
        if self.options.slides == "thumbnail":
            return [
                f"Slides: {self.slides:,}, each imported as one small picture. To see and learn from cells, import them"
                " as tiles."
            ]
        found = [
            f"Slides: {self.slides:,}, cut into {self.pictures:,} tiles. The tiles of a slide stay together when images"
            " are set aside for testing."
        ]
        if self._cut:
            named = ", ".join(f"“{name}” {tiles:,}" for name, tiles in self._cut[:NAMED])
            more = f" and {len(self._cut) - NAMED:,} more" if len(self._cut) > NAMED else ""
            found.append(
                f"Slides with more than {self.options.tiles_per_slide:,} tiles, of which so many were drawn at random:"
                f" {len(self._cut):,} ({named}{more}). Raise “Tiles per slide” to take more."
            )
        return found
