"""Reading photos whose values may be measurements: only where somebody confirmed that they may be changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engines.data.images import DICOM_SUFFIXES, load_image
from engines.enhance.photo import Photo, read_photo
from engines.errors import DataError


class ConsentError(DataError):
    """The values may be measurements, and nobody has confirmed that they may be changed."""


def read_confirmed(path: Path, measurements: bool = False) -> Photo:
    """`read_photo`, and DICOM images as they are shown (with their window, 8 bits).

    Args:
        measurements: whether somebody confirmed that 16-bit and DICOM images may be changed.
    Raises:
        ConsentError: it is one of these, and nobody did.
        DataError: see `read_photo`.
    """
    if _is_dicom(path):
        if not measurements:
            raise ConsentError(
                f"“{path.name}” is a DICOM image: its intensities are measurements.", "Confirm to change them."
            )
        pixels = np.asarray(load_image(path), np.float32) / 255
        grey = bool((pixels == pixels[..., :1]).all())
        return Photo(pixels, grey=grey, notes=("Read as a picture with its own window, 8 bits: no measurement now.",))
    photo = read_photo(path)
    if photo.bits == 16 and not measurements:
        raise ConsentError(f"“{path.name}” has 16 bits: its values may be measurements.", "Confirm to change them.")
    return photo


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
