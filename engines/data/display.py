"""Pictures for the screen: what a browser can draw, without loss of depth where it matters to the eye.

A reader of 12- or 16-bit images moves a window over the values, so these go to the browser with all their bits: the
high byte in the red channel of a PNG, the low byte in the green one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps
from pydantic import BaseModel, ValidationError

from engines.data.images import Undecodable, load_image, open_image, read_file
from engines.errors import DataError
from engines.store import Sample, Workspace, new_id

LONGEST_SIDE = 2048
LOSSLESS_SIDE = 1024
"""Up to this size what must be saved anew is saved as PNG; larger pictures as JPEG of high quality."""
CODES = 65535
DICOM = b"DICM"
"""Stands in a DICOM file after 128 bytes."""
REMEDY = "You can still call it not gradable, or skip it."


class Picture(BaseModel):
    """A picture for the screen."""

    file: str
    """Name of its file in the folder of pictures."""
    width: int
    height: int
    """Size of the file in pixels, after EXIF rotation."""
    full_width: int
    full_height: int
    """Size of the image itself, which may be larger."""
    kind: Literal["colour", "grey", "deep"]
    """`grey` is greyscale of 8 bits in any file; `deep` has a 16-bit code in its red (high) and green (low) channel."""
    low: float = 0.0
    step: float = 1.0
    """A code stands for the value `low + step × code`; 8-bit pictures have their values as they are."""
    centre: float = 127.5
    span: float = 255.0
    """The window at first, in values: from `centre - span / 2` (black) to `centre + span / 2` (white)."""
    inverted: bool = False
    """Whether high values are dark."""


@dataclass(frozen=True)
class _Values:
    """Greyscale of more than 8 bits: values [H, W], and the window where the file names one."""

    numbers: np.ndarray
    window: tuple[float, float] | None = None
    inverted: bool = False


def display_folder(workspace: Workspace) -> Path:
    """Where the pictures lie: the one folder of them that the page may read."""
    folder = workspace.folder("media") / "display"
    folder.mkdir(exist_ok=True)
    return folder


def display_picture(workspace: Workspace, sample: Sample) -> Picture:
    """The picture of a sample, made once for each content and never enlarged; at most 2048 pixels long.

    Raises:
        DataError: the image is missing, damaged or of an unknown format. The message does not name the file, since
            readers may be blind to it.
    """
    folder = display_folder(workspace)
    record = folder / sample.sha256[:2] / f"{sample.sha256}.json"
    try:
        found = Picture.model_validate_json(record.read_bytes())
        if (folder / found.file).exists():
            return found
    except (OSError, ValidationError):
        pass  # not made yet, or by an older program
    try:
        data = read_file(workspace.resolve(sample.file))
        values = _deep_values(data)
        picture, content = _deep(values) if values else _shallow(data)
    except (Undecodable, DataError) as error:
        cause = error if isinstance(error, Undecodable) else error.__cause__
        if not isinstance(cause, Undecodable):
            raise  # not the image's fault: the package that reads DICOM is not installed
        raise DataError(f"This image cannot be shown: {cause.reason}.", REMEDY, cause.detail) from error
    picture = picture.model_copy(update={"file": f"{sample.sha256[:2]}/{sample.sha256}{picture.file}"})
    record.parent.mkdir(exist_ok=True)
    _write(folder / picture.file, content)
    _write(record, picture.model_dump_json().encode())  # last: it says that the picture is whole
    return picture


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{new_id()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# --- 8 bits -------------------------------------------------------------------------


def _shallow(data: bytes) -> tuple[Picture, bytes]:
    image = load_image(data)  # also of a file that is passed on: only so is a damaged one noticed
    full = image.size
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    red, green, blue = np.moveaxis(np.asarray(image), -1, 0)
    grey = np.array_equal(red, green) and np.array_equal(green, blue)
    kind: Literal["grey", "colour"] = "grey" if grey else "colour"
    suffix = _fit_as_it_is(data)
    if suffix:
        return _picture(suffix, image.size, full, kind), data
    small = max(image.size) <= LOSSLESS_SIDE
    shown = image.getchannel(0) if grey else image
    stream = io.BytesIO()
    if small:
        shown.save(stream, "PNG", compress_level=1)
    else:
        shown.save(stream, "JPEG", quality=95, subsampling=0)
    return _picture(".png" if small else ".jpg", image.size, full, kind), stream.getvalue()


def _fit_as_it_is(data: bytes) -> str:
    """The suffix of a file that a browser draws as `load_image` reads it, so that nothing is lost by saving it again;
    empty for every other file."""
    if data[128:132] == DICOM:
        return ""
    with open_image(data) as image:
        suffix = {"JPEG": ".jpg", "PNG": ".png"}.get(image.format or "", "")
        plain = image.mode in ("RGB", "L") and not image.has_transparency_data and getattr(image, "n_frames", 1) == 1
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return suffix if plain and upright and max(image.size) <= LONGEST_SIDE else ""


def _picture(suffix: str, size: tuple[int, int], full: tuple[int, int], kind: Any, **more: Any) -> Picture:
    (width, height), (full_width, full_height) = size, full
    return Picture(
        file=suffix, width=width, height=height, full_width=full_width, full_height=full_height, kind=kind, **more
    )


# --- more than 8 bits ---------------------------------------------------------------


def _deep_values(data: bytes) -> _Values | None:
    """The values of greyscale of more than 8 bits; nothing for everything else."""
    if data[128:132] == DICOM:
        return _dicom_values(data)
    with open_image(data) as image:
        if not (image.mode in ("I", "F") or image.mode.startswith("I;16")):
            return None
        try:
            image.load()
            numbers = np.asarray(ImageOps.exif_transpose(image))
        except Exception:  # `load_image` says what is wrong with it
            return None
    return _Values(numbers)


def _dicom_values(data: bytes) -> _Values | None:
    from engines.data import dicom

    found = dicom.parse(data)
    dicom.frame_count(found)
    if int(found.get("SamplesPerPixel") or 1) > 1 or int(found.get("BitsStored") or 8) <= 8:
        return None
    photometric = found.get("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return None
    package = dicom.pydicom()
    try:
        pixels = next(package.pixels.iter_pixels(found, indices=[0]))
        numbers = package.pixels.apply_modality_lut(pixels, found).astype(np.float32)
    except Exception:  # decoders raise any kind of error; `load_image` says what is wrong with it
        return None
    return _Values(numbers, _dicom_window(found), photometric == "MONOCHROME1")


def _dicom_window(found: Any) -> tuple[float, float] | None:
    """The first window that the file names, as (centre, width)."""
    both = [found.get("WindowCenter"), found.get("WindowWidth")]
    first = [each[0] if isinstance(each, list | tuple) or hasattr(each, "append") else each for each in both]
    try:
        centre, width = (float(each) for each in first)
    except (TypeError, ValueError):
        return None
    return (centre, width) if width >= 1 else None


def _deep(values: _Values) -> tuple[Picture, bytes]:
    numbers = values.numbers.astype(np.float32)
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    centre, span = values.window or _spread(finite, low, high)
    full = (numbers.shape[1], numbers.shape[0])
    numbers = _reduced(np.nan_to_num(numbers, nan=low, posinf=high, neginf=low))
    whole = high - low <= CODES and bool(np.all(finite == np.rint(finite)))
    step = 1.0 if whole or high <= low else (high - low) / CODES
    codes = np.clip(np.rint((numbers - low) / step), 0, CODES).astype(np.uint16)
    packed = np.dstack([codes >> 8, codes & 255, np.zeros_like(codes)]).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(packed).save(stream, "PNG", compress_level=1)
    size = (numbers.shape[1], numbers.shape[0])
    window = {"low": low, "step": step, "centre": centre, "span": span, "inverted": values.inverted}
    return _picture(".png", size, full, "deep", **window), stream.getvalue()


def _spread(finite: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """A window from the 0.1th to the 99.9th percentile, as for the model (see `images.stretch`)."""
    few = finite[:: max(1, finite.size // 1_000_000)]
    first, last = np.percentile(few, (0.1, 99.9)) if few.size else (0.0, 0.0)
    if last <= first:
        first, last = low, high
    if last <= first:
        first, last = low - 0.5, low + 0.5
    return float(first + last) / 2, float(last - first)


def _reduced(numbers: np.ndarray) -> np.ndarray:
    """Values [H, W] made smaller where they are longer than the screen needs."""
    height, width = numbers.shape
    share = LONGEST_SIDE / max(height, width)
    if share >= 1:
        return numbers
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(Image.fromarray(numbers).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
