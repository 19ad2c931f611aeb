"""DICOM pixels as RGB images. Nothing but pixels leaves this module: no tag about a patient, no message with one."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from engines.data.images import MAX_PIXELS, TRUNCATED, Undecodable, check_size, stretch
from engines.errors import DataError

NO_PIXELS = "a DICOM file without an image in it"
NOT_DICOM = "not a DICOM file"
DAMAGED = "damaged: the DICOM file cannot be decoded"
NO_SUCH_FRAME = "it has fewer frames than asked for"

Window = tuple[float, float]
"""Centre and width, in the units of the file (Hounsfield units for CT)."""


@cache
def pydicom() -> Any:
    """The pydicom package, kept from logging what it reads.

    Raises:
        DataError: it is not installed.
    """
    try:
        import pydicom as package
    except ImportError as error:
        raise DataError(
            "Reading DICOM files needs the package pydicom, which is not installed.",
            "Install the extra “medical”: pip install 'promptloupe[medical]'.",
            str(error),
        ) from error
    # Its warnings quote the values of tags, among them names of patients.
    package.config.settings.reading_validation_mode = package.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    return package


def parse(data: bytes, forced: bool = False) -> Any:
    """The data set of a DICOM file (`forced`: also of one without the DICOM mark at its beginning).

    Raises:
        Undecodable: not DICOM, or damaged.
    """
    package = pydicom()
    marked = data[128:132] == b"DICM"
    if not marked and not forced:
        raise Undecodable(NOT_DICOM)
    try:
        found = package.dcmread(io.BytesIO(data), force=True)
        known = any(tag in found for tag in ("SOPClassUID", "Rows", "PixelData"))
    except Exception as error:  # damaged files raise any kind of error, some with a value in the message
        raise Undecodable(DAMAGED, type(error).__name__) from error
    if not marked and not known:
        raise Undecodable(NOT_DICOM)
    return found


def frame_count(found: Any, max_pixels: int = MAX_PIXELS) -> int:
    """Number of frames of a data set.

    Raises:
        Undecodable: it holds no image, or frames of more than `max_pixels`.
    """
    if not any(name in found for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Undecodable(NO_PIXELS)
    try:
        check_size(int(found.Columns), int(found.Rows), max_pixels)
        return max(1, int(found.get("NumberOfFrames") or 1))
    except (AttributeError, TypeError, ValueError) as error:
        raise Undecodable(DAMAGED, type(error).__name__) from error


def render(found: Any, frames: Sequence[int], window: Window | None = None) -> Iterator[Image.Image]:
    """Frames (counted from 0) of a data set as 8-bit greyscale or RGB.

    Stored values become real ones (rescale slope or lookup table), then brightness: by `window`, else the file's own
    window or lookup table, else stretched between percentiles. MONOCHROME1 is inverted; palettes and YBR become RGB.

    Raises:
        Undecodable: the pixels are cut off, damaged or compressed in a way that this installation cannot decode.
    """
    package = pydicom()
    try:
        for pixels in package.pixels.iter_pixels(found, indices=list(frames)):
            yield Image.fromarray(_to_bytes(package, pixels, found, window))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise any kind of error
        raise Undecodable(_failure(found, error), type(error).__name__) from error


def _failure(found: Any, error: Exception) -> str:
    words = str(error).lower()
    if "plugin" in words or "unable to decompress" in words or isinstance(error, NotImplementedError):
        syntax = getattr(getattr(found, "file_meta", None), "TransferSyntaxUID", None)
        return f"compressed as {getattr(syntax, 'name', 'unknown')}, which cannot be decoded here"
    cut = "less than" in words or "truncated" in words or "insufficient" in words or isinstance(error, EOFError)
    return TRUNCATED if cut else DAMAGED


def _to_bytes(package: Any, pixels: np.ndarray, found: Any, window: Window | None) -> np.ndarray:
    """One frame [H, W] or [H, W, 3] as uint8."""
    if found.get("PhotometricInterpretation") == "PALETTE COLOR":
        pixels = package.pixels.apply_color_lut(pixels, found)[..., :3]
    if pixels.ndim == 3:
        return _colours(pixels)
    real = package.pixels.apply_modality_lut(pixels, found).astype(np.float32)
    bright = _windowed(package, pixels, real, found, window)
    return 255 - bright if found.get("PhotometricInterpretation") == "MONOCHROME1" else bright


def _colours(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    highest = int(pixels.max(initial=0))
    return np.clip(pixels >> max(0, highest.bit_length() - 8), 0, 255).astype(np.uint8)


def _windowed(package: Any, pixels: np.ndarray, real: np.ndarray, found: Any, window: Window | None) -> np.ndarray:
    if window:
        centre, width = window
        return np.clip((real - (centre - width / 2)) * (255 / width), 0, 255).astype(np.uint8)
    if "VOILUTSequence" in found or ("WindowCenter" in found and "WindowWidth" in found):
        shown = package.pixels.apply_voi_lut(package.pixels.apply_modality_lut(pixels, found), found).astype(np.float32)
        low, high = _range(package, found, real)
        if high > low:
            return np.clip((shown - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    padding = found.get("PixelPaddingValue")
    if isinstance(padding, int) and not np.all(pixels == padding):
        real = np.where(pixels == padding, real[pixels != padding].min(), real)
    return stretch(real)


def _range(package: Any, found: Any, real: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value that a window or lookup table maps to."""
    if "VOILUTSequence" in found:
        _, _, bits = found.VOILUTSequence[0].LUTDescriptor
        return 0.0, float(2 ** int(bits) - 1)
    stored = int(found.BitsStored)
    signed = int(found.get("PixelRepresentation", 0))
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    if "ModalityLUTSequence" in found:
        return float(real.min()), float(real.max())
    slope, intercept = float(found.get("RescaleSlope", 1) or 1), float(found.get("RescaleIntercept", 0) or 0)
    ends = (low * slope + intercept, high * slope + intercept)
    return min(ends), max(ends)


def load_frame(data: bytes, frame: int = 0, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """One frame of a DICOM file as RGB.

    Raises:
        Undecodable: as `parse`, `frame_count` and `render`; or there is no such frame.
        DataError: pydicom is not installed.
    """
    found = parse(data, forced=True)
    if not 0 <= frame < frame_count(found, max_pixels):
        raise Undecodable(NO_SUCH_FRAME)
    return next(render(found, [frame])).convert("RGB")
