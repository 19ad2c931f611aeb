"""A folder of photos enhanced one after the other, each beside a note of how it was made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engines.enhance.checkpoint import save_whole
from engines.enhance.metrics import appearance, lightness_order_error, psnr, ssim
from engines.enhance.photo import Photo, read_photo, save_photo
from engines.enhance.reading import read_confirmed
from engines.errors import ConfigError, DataError

Method = Callable[[np.ndarray], np.ndarray]
Kind = Literal["png", "tif"]


@dataclass(frozen=True, slots=True)
class Enhanced:
    """What became of one photo: `output`, or `problem` in words. `notes` tell what could not be kept."""

    source: Path
    output: Path | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()


def enhance_photos(
    sources: Sequence[Path],
    folder: Path,
    method: Method,
    recipe: Mapping[str, Any],
    deep_allowed: bool = False,
    kind: Kind = "png",
    references: Path | None = None,
) -> Iterator[Enhanced]:
    """Enhance photos into a folder, as PNG or (16 bits) TIFF with a JSON side-car; a bad photo does not stop the rest.

    Photos that were done before are not done again where the side-car tells the same recipe, so a run that was stopped
    goes on; other files of the name are left alone and told.

    Args:
        method: [H, W, 3] float32, RGB in 0..1 -> the same.
        recipe: method, checkpoint, strength and the like, for the side-car.
        deep_allowed: whether somebody confirmed that 16-bit and DICOM images, often measurements, may be changed.
        kind: of the files; photos of 16 bits always become TIFF.
        references: folder with well-lit photos of the same names and sizes: PSNR and SSIM against them are noted.
    Raises:
        ConfigError: a photo lies in `folder` itself.
        DataError: the disk is full or the folder cannot be written; photos done so far stay.
    """
    if any(source.parent.resolve() == folder.resolve() for source in sources):
        raise ConfigError("Enhanced photos cannot go where the originals are.", "Choose another folder.")
    taken: set[str] = set()
    for source in sources:
        name = source.stem
        while name in taken:  # a.jpg and a.png, or photos of the same name in two folders
            name = f"{name}_"
        taken.add(name)
        yield _enhance(source, folder / name, method, recipe, deep_allowed, kind, references)


def _enhance(
    source: Path,
    target: Path,
    method: Method,
    recipe: Mapping[str, Any],
    deep_allowed: bool,
    kind: Kind,
    references: Path | None,
) -> Enhanced:
    card = target.with_name(f"{target.name}.json")
    made = {"source": source.name, "recipe": dict(recipe)}
    before = _earlier(card, made)
    if before is not None:
        return Enhanced(source, before)
    try:
        photo = read_confirmed(source, deep_allowed)
        result = photo.with_pixels(method(photo.pixels))
    except (DataError, ConfigError) as error:
        return Enhanced(source, problem=str(error))
    output = target.with_name(f"{target.name}{'.tif' if photo.bits == 16 else f'.{kind}'}")
    if output.exists():
        return Enhanced(source, problem=f"There is a file “{output.name}” already, and no file is overwritten.")
    numbers: dict[str, Any] = {
        "before": appearance(photo.pixels).as_dict(),
        "after": appearance(result.pixels).as_dict(),
        "lightness_order_error": lightness_order_error(photo.pixels, result.pixels),
    }
    if references is not None:
        numbers["reference"] = against_reference(photo, result, source, references)
    content = json.dumps(made | {"output": output.name, "notes": photo.notes, **numbers}, indent=1, ensure_ascii=False)
    save_whole(card, content)
    save_photo(result, output)  # behind its card, so that a run killed here does it again
    return Enhanced(source, output, notes=photo.notes)


def against_reference(photo: Photo, result: Photo, source: Path, folder: Path) -> dict[str, Any]:
    """PSNR (dB) and SSIM of a photo and of its result against the photo of the same name in `folder`.

    Returns:
        `{"before": {"psnr", "ssim"}, "after": {…}}` (psnr is None for equal photos), or `{"problem": why not}`.
    """
    try:
        truth = read_photo(reference_of(source, folder)).pixels
        sides = {"before": photo.pixels, "after": result.pixels}
        decibels = {name: psnr(side, truth) for name, side in sides.items()}
        return {
            name: {"psnr": value if np.isfinite(value) else None, "ssim": ssim(sides[name], truth)}
            for name, value in decibels.items()
        }
    except (DataError, ConfigError) as error:
        return {"problem": str(error)}


def reference_of(source: Path, folder: Path) -> Path:
    """The file in `folder` that is called as a photo is, whatever its kind.

    Raises:
        DataError: there is none.
    """
    found = next((each for each in sorted(folder.glob("*")) if each.stem == source.stem), None)
    if found is None:
        raise DataError(f"There is no reference called “{source.stem}”.", "Check the folder with the references.")
    return found


def _earlier(card: Path, made: Mapping[str, Any]) -> Path | None:
    """The output of an earlier run with the same recipe."""
    try:
        known = json.loads(card.read_text(encoding="utf-8"))
        same = all(known[key] == json.loads(json.dumps(value)) for key, value in made.items())
        output = card.with_name(Path(known["output"]).name)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return output if same and output.is_file() else None
