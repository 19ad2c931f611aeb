"""CLAHE: contrast-limited adaptive histogram equalisation (Zuiderveld, 1994), scikit-image's."""

from __future__ import annotations

import numpy as np


def clahe(pixels: np.ndarray, clip_limit: float = 0.01) -> np.ndarray:
    """Of the HSV value in 8 x 8 fields, blended; hue and saturation stay."""
    from skimage.exposure import equalize_adapthist

    if float(np.ptp(pixels)) == 0:
        return pixels  # nothing to equalise, and scikit-image would divide by zero
    return np.clip(equalize_adapthist(pixels, clip_limit=clip_limit), 0, 1).astype(np.float32)
