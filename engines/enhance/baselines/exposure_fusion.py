"""Exposure fusion (Mertens, Kautz and Van Reeth, 2007) of pseudo-exposures of one photo."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

GAINS = tuple(0.6**power for power in (1, 0, -1, -2, -3))
WELL_EXPOSED = 0.2
"""Sigma of the Gaussian around one half that weighs exposedness."""


def exposure_fusion(pixels: np.ndarray) -> np.ndarray:
    """The best exposed parts of five versions 0.6 to 4.6 times as bright, blended in Laplacian pyramids."""
    weights = np.stack([_weight(np.clip(pixels * np.float32(gain), 0, 1)) for gain in GAINS])
    weights /= weights.sum(axis=0)
    levels = max(1, int(np.log2(max(2, min(pixels.shape[:2])))))
    fused: list[np.ndarray] = []
    for gain, weight in zip(GAINS, weights, strict=True):
        exposure = np.clip(pixels * np.float32(gain), 0, 1)
        bands = _laplacian(exposure, levels)
        shares = _gaussian(weight[..., None], levels)
        parts = [band * share for band, share in zip(bands, shares, strict=True)]
        fused = [old + new for old, new in zip(fused, parts, strict=True)] if fused else parts
    result = fused[-1]
    for band in reversed(fused[:-1]):
        result = _up(result, band.shape[:2]) + band
    return np.clip(result, 0, 1).astype(np.float32)


def _weight(exposure: np.ndarray) -> np.ndarray:
    """[H, W]: contrast x saturation x well-exposedness, never quite 0."""
    from scipy.ndimage import laplace

    contrast = np.abs(laplace(exposure.mean(axis=2), mode="mirror"))
    good = np.exp(-np.square(exposure - 0.5) / (2 * WELL_EXPOSED**2)).prod(axis=2)
    return contrast * exposure.std(axis=2) * good + np.float32(1e-12)


def _filter(image: np.ndarray) -> np.ndarray:
    from scipy.ndimage import correlate1d

    kernel = np.array([1, 4, 6, 4, 1], np.float32) / 16
    return correlate1d(correlate1d(image, kernel, 0, mode="mirror"), kernel, 1, mode="mirror")


def _down(image: np.ndarray) -> np.ndarray:
    return _filter(image)[::2, ::2]


def _up(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    large = np.zeros((*shape, image.shape[2]), np.float32)
    large[::2, ::2] = image
    share = np.zeros((*shape, 1), np.float32)
    share[::2, ::2] = 1
    return _filter(large) / _filter(share)


def _gaussian(image: np.ndarray, levels: int) -> list[np.ndarray]:
    pyramid = [image]
    for _ in range(levels - 1):
        pyramid.append(_down(pyramid[-1]))
    return pyramid


def _laplacian(image: np.ndarray, levels: int) -> list[np.ndarray]:
    pyramid = _gaussian(image, levels)
    bands = [a - _up(b, a.shape[:2]) for a, b in pairwise(pyramid)]
    return [*bands, pyramid[-1]]
