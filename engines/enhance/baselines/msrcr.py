"""MSRCR: multi-scale retinex with colour restoration (Jobson, Rahman and Woodell, TIP 1997)."""

from __future__ import annotations

import numpy as np

SIGMAS = (15.0, 80.0, 250.0)
ALPHA, BETA = 125.0, 46.0


def msrcr(pixels: np.ndarray) -> np.ndarray:
    """beta [ln(alpha I_c) - ln sum I] * mean over sigma of [ln I - ln(G_sigma * I)], on 1..256.

    Each channel is then stretched from its 1st to its 99th percentile; a channel without contrast stays as it was.
    """
    from scipy.ndimage import gaussian_filter

    image = pixels * np.float32(255) + 1
    log = np.log(image)
    retinex = np.zeros_like(image)
    for sigma in SIGMAS:
        retinex += log - np.log(gaussian_filter(image, (sigma, sigma, 0), truncate=3.0))
    restored = BETA * (np.log(ALPHA * image) - np.log(image.sum(axis=2, keepdims=True))) * retinex / len(SIGMAS)
    low, high = np.percentile(restored, (1, 99), axis=(0, 1))
    flat = high - low < 1e-6
    stretched = (restored - low) / np.where(flat, 1, high - low)
    return np.where(flat, pixels, np.clip(stretched, 0, 1)).astype(np.float32)
