"""Decoding images: every way of storing pixels becomes RGB, and what cannot be decoded gets a reason in words."""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from engines.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF")
"""Pillow's names of the formats that are read (its JPEG covers MPO, which some phones put in a .jpg file).

Its other decoders are kept out: some start programs, most are rarely tried with hostile files.
"""
SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
DICOM_SUFFIXES = {".dcm", ".dicom", ".ima"}
MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
THUMBNAIL_SIDE = 160

MISSING = "the file does not exist"
EMPTY = "empty (0 bytes)"
TRUNCATED = "cut off: the end of the file is missing"
DAMAGED = "damaged: the pixels cannot be decoded"
UNKNOWN_FORMAT = "not a PNG, JPEG, WebP, BMP or TIFF image"
UNKNOWN_TIFF = "a TIFF that is damaged, or whose kind of pixels cannot be read (save it with 8 or 16 bits)"
TOO_MANY_BYTES = "too large: more than 1 GB"
UNREADABLE = "the file cannot be opened (no permission, or the disk has a fault)"
NOT_A_FILE = "not a file"


# Sizes are checked here, by a limit that a person can set; Pillow's own warning would only repeat it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Undecodable(Exception):  # noqa: N818 - a verdict on one file, told in the report
    """One image cannot be used; `reason` says why in words that fit every such file."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the import keeps of an image: its size as shown (after EXIF rotation), format and a small copy."""

    width: int
    height: int
    suffix: str
    thumbnail: Image.Image
    pages: int = 1


def load_image(source: str | Path | bytes, frame: int = 0, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image as 8-bit RGB, rotated as its EXIF data says.

    Transparency is laid over white. Greyscale of more than 8 bits is stretched between its 0.1th and 99.9th
    percentile, since 10-, 12- and 14-bit cameras and scanners store their values in 16 bits. Files with several
    pages give their first one. DICOM files are rendered with their window; `frame` counts from 0.

    Raises:
        DataError: missing, empty, cut off, damaged, of an unknown format, or more than `max_pixels` pixels.
    """
    path = None if isinstance(source, bytes) else Path(source)
    try:
        data = source if isinstance(source, bytes) else read_file(Path(source))
        if data[128:132] == b"DICM" or (path and path.suffix.lower() in DICOM_SUFFIXES):
            from engines.data.dicom import load_frame

            return load_frame(data, frame, max_pixels)
        with open_image(data, max_pixels) as image:
            return _decoded(image)
    except Undecodable as error:
        raise DataError(
            f"{f'“{path.name}”' if path else 'The image'} cannot be used: {error.reason}.",
            "Choose another file, or save it again.",
            error.detail,
        ) from error


def read_file(path: Path) -> bytes:
    """All bytes of an ordinary file.

    Raises:
        Undecodable: it is missing, not a file, empty, larger than 1 GB or cannot be opened.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Undecodable(NOT_A_FILE)
            if status.st_size > MAX_BYTES:
                raise Undecodable(TOO_MANY_BYTES)
            data = file.read()
    except FileNotFoundError as error:
        raise Undecodable(MISSING) from error
    except IsADirectoryError as error:
        raise Undecodable(NOT_A_FILE) from error
    except (OSError, ValueError) as error:
        raise Undecodable(UNREADABLE, str(error)) from error
    if not data:
        raise Undecodable(EMPTY)
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    # A pipe among the images would otherwise be waited for without end.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image without decoding its pixels, and refuse it where they would be too many.

    Raises:
        Undecodable: empty, unknown format, damaged header or too many pixels.
    """
    if not data:
        raise Undecodable(EMPTY)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise Undecodable(_starts_as_image(data), str(error)) from error
    except Image.DecompressionBombError as error:
        raise Undecodable(too_many_pixels(max_pixels), str(error)) from error
    except Exception as error:  # decoders answer damaged headers with any kind of error
        raise Undecodable(_decoding_failure(error), repr(error)) from error
    check_size(image.width, image.height, max_pixels)
    return image


def _starts_as_image(data: bytes) -> str:
    if data.startswith((b"II*\0", b"MM\0*")):
        return UNKNOWN_TIFF
    known = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return DAMAGED if webp or data.startswith(known) else UNKNOWN_FORMAT


def check_size(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """
    Raises:
        Undecodable: the image has no pixels, or too many.
    """
    if width < 1 or height < 1:
        raise Undecodable(EMPTY)
    if width * height > max_pixels:
        raise Undecodable(too_many_pixels(max_pixels), f"{width} × {height}")


def too_many_pixels(max_pixels: int) -> str:
    return f"too large: more than {max_pixels / 1e6:g} million pixels"


def inspect_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Inspection:
    """Decode an image once, to know that it can be decoded, and make its thumbnail.

    Raises:
        Undecodable: as `load_image`.
    """
    with open_image(data, max_pixels) as image:
        pages = int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
        size, suffix = image.size, _suffix(image.format)
        # JPEG decodes straight to a smaller size; its whole stream is read all the same, so a cut is still noticed.
        image.draft(None, (2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE))
        small = _decoded(image)
        thumbnail = shrink(small)
    turned = image.size != small.size and image.size == small.size[::-1]
    width, height = size[::-1] if turned else size
    return Inspection(width, height, suffix, thumbnail, pages)


def shrink(image: Image.Image) -> Image.Image:
    """A copy of at most 160 pixels in width and height."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return small


def _suffix(format: str | None) -> str:
    return {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "DIB": ".bmp"}.get(
        format or "", f".{(format or 'png').lower()}"
    )


def _decoded(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return to_rgb(_upright(image))
    except MemoryError as error:
        raise Undecodable("too large for this machine’s memory") from error
    except Exception as error:  # decoders answer damaged data with any kind of error
        raise Undecodable(_decoding_failure(error), repr(error)) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return image


def _decoding_failure(error: Exception) -> str:
    words = str(error).lower()
    cut = isinstance(error, EOFError) or any(w in words for w in ("truncated", "not enough image data", "end of file"))
    return TRUNCATED if cut else DAMAGED


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` of any mode as RGB; see `load_image` for transparency and for greyscale of more than 8 bits."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(stretch(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    return image.convert("RGB")


def stretch(values: np.ndarray) -> np.ndarray:
    """Values [H, W] as uint8: the 0.1th percentile becomes 0, the 99.9th 255; a constant image becomes mid-grey."""
    numbers = values.astype(np.float32)
    step = max(1, numbers.size // 1_000_000)  # a million values fix a percentile well enough
    finite = numbers.ravel()[::step]
    finite = finite[np.isfinite(finite)]
    low, high = np.percentile(finite, (0.1, 99.9)) if finite.size else (0.0, 0.0)
    if high <= low:
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    scaled = (np.nan_to_num(numbers, nan=low, posinf=high, neginf=low) - low) * (255.0 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
