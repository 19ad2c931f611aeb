"""Pictures for the screen: what a browser can draw, without loss of depth where it matters to the eye.

A reader of 12- or 16-bit images moves a window over the values, so these go to the browser with all their bits: the
high byte in the red channel of a PNG, the low byte in the green one.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps
from pydantic import BaseModel, ValidationError

from engines.data.depth import Depth, Window, decode, deep, depth_file
from engines.data.images import Undecodable, load_image, open_image, read_file
from engines.errors import DataError
from engines.files import write_whole
from engines.store import Sample, Workspace

LONGEST_SIDE = 2048
LOSSLESS_SIDE = 1024
"""Up to this size what must be saved anew is saved as PNG; larger pictures as JPEG of high quality."""
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
    presets: list[Window] = []
    """Windows to choose from; where there are any, the first is the one at first."""


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
        depth = _kept_depth(workspace, sample)
        data = b"" if depth else read_file(workspace.resolve(sample.file))
        depth = depth or _depth_of(data)
        picture, content = _deep(depth) if depth else _shallow(data)
    except (Undecodable, DataError) as error:
        cause = error if isinstance(error, Undecodable) else error.__cause__
        if not isinstance(cause, Undecodable):
            raise  # not the image's fault: the package that reads DICOM is not installed
        raise DataError(f"This image cannot be shown: {cause.reason}.", REMEDY, cause.detail) from error
    picture = picture.model_copy(update={"file": f"{sample.sha256[:2]}/{sample.sha256}{picture.file}"})
    write_whole(folder / picture.file, content, durable=False)
    write_whole(record, picture.model_dump_json(), durable=False)  # last: it says that the picture is whole
    return picture


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


def _kept_depth(workspace: Workspace, sample: Sample) -> Depth | None:
    """The grey levels that the import kept beside the picture; nothing where there are none, or they are damaged."""
    file = depth_file(sample.file)
    try:
        return decode(read_file(workspace.resolve(file))) if file else None
    except Undecodable:
        return None


def _depth_of(data: bytes) -> Depth | None:
    """The values of greyscale of more than 8 bits; nothing for everything else."""
    if data[128:132] == DICOM:
        from engines.data import dicom

        found = dicom.parse(data)
        dicom.frame_count(found)
        return next(dicom.frames(found, [0])).depth()
    with open_image(data) as image:
        if not (image.mode in ("I", "F") or image.mode.startswith("I;16")):
            return None
        try:
            image.load()
            numbers = np.asarray(ImageOps.exif_transpose(image))
        except Exception:  # `load_image` says what is wrong with it
            return None
    return deep(numbers)


def _deep(depth: Depth) -> tuple[Picture, bytes]:
    meaning, windows = depth.meaning, depth.meaning.windows
    centre, span = (windows[0].centre, windows[0].width) if windows else _spread(depth)
    codes = _reduced(depth.codes)
    packed = np.dstack([codes >> 8, codes & 255, np.zeros_like(codes)]).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(packed).save(stream, "PNG", compress_level=1)
    full, size = (depth.codes.shape[1], depth.codes.shape[0]), (codes.shape[1], codes.shape[0])
    how = {"low": meaning.low, "step": meaning.step, "inverted": meaning.inverted, "presets": list(windows)}
    return _picture(".png", size, full, "deep", centre=centre, span=span, **how), stream.getvalue()


def _spread(depth: Depth) -> tuple[float, float]:
    """A window from the 0.1th to the 99.9th percentile, as for the model (see `images.stretch`)."""
    few = depth.codes.ravel()[:: max(1, depth.codes.size // 1_000_000)]
    first, last = (float(each) for each in np.percentile(few, (0.1, 99.9)))
    if last <= first:
        first, last = float(depth.codes.min()), float(depth.codes.max())
    if last <= first:
        first, last = first - 0.5, first + 0.5
    low, step = depth.meaning.low, depth.meaning.step
    return low + step * (first + last) / 2, step * (last - first)


def _reduced(codes: np.ndarray) -> np.ndarray:
    """Codes [H, W] made smaller where they are longer than the screen needs."""
    height, width = codes.shape
    share = LONGEST_SIDE / max(height, width)
    if share >= 1:
        return codes
    size = (max(1, round(width * share)), max(1, round(height * share)))
    values = Image.fromarray(codes.astype(np.float32))
    smaller = np.asarray(values.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
    return np.clip(np.rint(smaller), 0, 65535).astype(np.uint16)
