"""DICOM pixels and what they mean. Nothing else leaves this module: no tag about a patient, no message with one."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import zip_longest
from typing import Any

import numpy as np
from PIL import Image

from engines.data.depth import Depth, Window, deep
from engines.data.images import MAX_PIXELS, TRUNCATED, Undecodable, check_size, stretch
from engines.errors import DataError

NO_PIXELS = "a DICOM file without an image in it"
NOT_DICOM = "not a DICOM file"
DAMAGED = "damaged: the DICOM file cannot be decoded"
NO_SUCH_FRAME = "it has fewer frames than asked for"

USUAL_FOR_CT = [
    Window(name="Soft tissue", centre=50, width=400),
    Window(name="Lung", centre=-600, width=1500),
    Window(name="Bone", centre=400, width=1800),
    Window(name="Brain", centre=40, width=80),
]
"""Windows in Hounsfield units that radiologists learn."""
_KNOWN_NAMES = {
    name.upper(): name
    for name in (
        "Normal",
        "Harder",
        "Softer",
        "Brain",
        "Bone",
        "Lung",
        "Abdomen",
        "Liver",
        "Mediastinum",
        "Soft tissue",
    )
}
"""Names that files give their windows."""
_MEANING = [
    *("BitsStored", "PixelRepresentation", "PhotometricInterpretation", "PixelPaddingValue", "Modality"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation"),
]
"""Tags that say what the numbers of a picture mean."""


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


class Frame:
    """One decoded frame, with the tags that say what its numbers mean."""

    def __init__(self, pixels: np.ndarray, tags: Any) -> None:
        if tags.get("PhotometricInterpretation") == "PALETTE COLOR":
            pixels = pydicom().pixels.apply_color_lut(pixels, tags)[..., :3]
        self.pixels = pixels
        self.tags = tags

    def picture(self, window: Window | None = None) -> Image.Image:
        """8-bit greyscale or RGB.

        Stored values become real ones (rescale slope or lookup table), then brightness: by `window`, else by the
        file's first window or lookup table, else stretched between percentiles. MONOCHROME1 is inverted.

        Raises:
            Undecodable: a tag is damaged.
        """
        with _told(self.tags):
            if self.pixels.ndim == 3:
                return Image.fromarray(_colours(self.pixels))
            bright = _windowed(self.pixels, self._real(), self.tags, window)
            return Image.fromarray(255 - bright if self._inverted else bright)

    def depth(self, window: Window | None = None) -> Depth | None:
        """The values of greyscale that 8 bits do not hold, or that a window cuts; None for everything else.

        Raises:
            Undecodable: a tag is damaged.
        """
        with _told(self.tags):
            if self.pixels.ndim == 3 or self.pixels.dtype == bool:
                return None
            windows = _windows(self.tags, window)
            shallow = self.pixels.dtype.itemsize == 1 or int(self.tags.get("BitsStored") or 16) <= 8
            if shallow and not windows:
                return None
            step = None if "ModalityLUTSequence" in self.tags else abs(float(self.tags.get("RescaleSlope") or 1))
            whole = self.pixels.dtype.kind in "iu"
            real = _without_padding(self.pixels, self._real(), self.tags)
            return deep(real, windows, self._inverted, step if whole else None)

    @property
    def _inverted(self) -> bool:
        return bool(self.tags.get("PhotometricInterpretation") == "MONOCHROME1")

    def _real(self) -> np.ndarray:
        return np.asarray(pydicom().pixels.apply_modality_lut(self.pixels, self.tags), np.float64)


def frames(found: Any, chosen: Sequence[int]) -> Iterator[Frame]:
    """Frames (counted from 0) of a data set, decoded one at a time; palettes and YBR become RGB.

    Raises:
        Undecodable: the pixels are cut off, damaged or compressed in a way that this installation cannot decode.
    """
    with _told(found):
        decoded = pydicom().pixels.iter_pixels(found, indices=list(chosen))
        for index, pixels in zip(chosen, decoded, strict=False):
            yield Frame(pixels, _tags_of(found, index))


@contextmanager
def _told(found: Any) -> Iterator[None]:
    try:
        yield
    except (MemoryError, Undecodable, GeneratorExit):
        raise
    except Exception as error:  # decoders raise any kind of error
        raise Undecodable(_failure(found, error), type(error).__name__) from error


def _tags_of(found: Any, index: int) -> Any:
    """The tags of a frame: enhanced CT and MR files keep rescale and windows in groups of their own."""
    groups = [
        *list(found.get("SharedFunctionalGroupsSequence") or [])[:1],
        *list(found.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1],
    ]
    if not groups:
        return found
    tags = pydicom().Dataset()
    tags.update({found[name].tag: found[name] for name in _MEANING if name in found})
    for group in groups:
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in list(group.get(name) or [])[:1]:
                tags.update(item)
    tags.file_meta = getattr(found, "file_meta", None)
    return tags


def _failure(found: Any, error: Exception) -> str:
    words = str(error).lower()
    if "plugin" in words or "unable to decompress" in words or isinstance(error, NotImplementedError):
        syntax = getattr(getattr(found, "file_meta", None), "TransferSyntaxUID", None)
        return f"compressed as {getattr(syntax, 'name', 'unknown')}, which cannot be decoded here"
    cut = "less than" in words or "truncated" in words or "insufficient" in words or isinstance(error, EOFError)
    return TRUNCATED if cut else DAMAGED


def _colours(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    highest = int(pixels.max(initial=0))
    return np.clip(pixels >> max(0, highest.bit_length() - 8), 0, 255).astype(np.uint8)


def _windowed(pixels: np.ndarray, real: np.ndarray, tags: Any, window: Window | None) -> np.ndarray:
    if window:
        return np.clip((real - (window.centre - window.width / 2)) * (255 / window.width), 0, 255).astype(np.uint8)
    if "VOILUTSequence" in tags or _names_window(tags):
        processing = pydicom().pixels
        shown = processing.apply_voi_lut(processing.apply_modality_lut(pixels, tags), tags).astype(np.float32)
        low, high = _range(tags, real)
        if high > low:
            return np.clip((shown - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    return stretch(_without_padding(pixels, real, tags))


def _names_window(tags: Any) -> bool:
    try:
        return min(map(float, _several(tags.get("WindowWidth"))[:1]), default=0) >= 1 and "WindowCenter" in tags
    except (TypeError, ValueError):
        return False


def _without_padding(pixels: np.ndarray, real: np.ndarray, tags: Any) -> np.ndarray:
    """`real` with the filling around the picture as dark as its darkest value."""
    padding = tags.get("PixelPaddingValue")
    if isinstance(padding, int) and np.any(pixels == padding) and not np.all(pixels == padding):
        return np.where(pixels == padding, real[pixels != padding].min(), real)
    return real


def _range(tags: Any, real: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value that a window or lookup table maps to."""
    if "VOILUTSequence" in tags:
        _, _, bits = tags.VOILUTSequence[0].LUTDescriptor
        return 0.0, float(2 ** int(bits) - 1)
    stored = int(tags.BitsStored)
    signed = int(tags.get("PixelRepresentation", 0))
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    if "ModalityLUTSequence" in tags:
        return float(real.min()), float(real.max())
    slope, intercept = float(tags.get("RescaleSlope", 1) or 1), float(tags.get("RescaleIntercept", 0) or 0)
    ends = (low * slope + intercept, high * slope + intercept)
    return min(ends), max(ends)


def _windows(tags: Any, chosen: Window | None) -> list[Window]:
    """The windows to offer: the one that was chosen, the file's own, and for CT the usual ones."""
    found = [chosen] if chosen else []
    names = _several(tags.get("WindowCenterWidthExplanation"))
    pairs = zip_longest(_several(tags.get("WindowCenter")), _several(tags.get("WindowWidth")))
    for number, (centre, width) in enumerate(pairs):
        try:
            # Free text of the file is never shown as it is: it may be about anybody.
            name = _KNOWN_NAMES.get(str(names[number]).strip().upper(), "") if number < len(names) else ""
            found.append(Window(name=name, centre=float(centre), width=float(width)))
        except (TypeError, ValueError):  # a pair without its other half, or a window of no width
            continue
    if tags.get("Modality") == "CT" and "RescaleIntercept" in tags:
        found += [each for each in USUAL_FOR_CT if each.name not in {window.name for window in found}]
    unique: dict[tuple[float, float], Window] = {}
    for each in found:
        unique.setdefault((each.centre, each.width), each)
    return list(unique.values())


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if hasattr(value, "append") or isinstance(value, tuple) else [value]


def load_frame(data: bytes, frame: int = 0, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """One frame of a DICOM file as RGB.

    Raises:
        Undecodable: as `parse`, `frame_count` and `frames`; or there is no such frame.
        DataError: pydicom is not installed.
    """
    found = parse(data, forced=True)
    if not 0 <= frame < frame_count(found, max_pixels):
        raise Undecodable(NO_SUCH_FRAME)
    return next(frames(found, [frame])).picture().convert("RGB")
