"""What can be measured of an enhanced photo, with a reference and without one.

All take [H, W, 3] float32, RGB in 0..1. No number without a reference says alone which photo is better: several prefer
the dark original. Show them side by side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from engines.enhance.photo import LUMA
from engines.errors import ConfigError

_LAPLACE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
LOE_SIDE = 50
SSIM_SIDE = 11
"""Least side in pixels of photos that have a structural similarity."""


@dataclass(frozen=True)
class Appearance:
    """Of one photo, no reference needed.

    Attributes:
        luminance: mean, 0..1.
        contrast: RMS, the standard deviation of luminance.
        dark: share of pixels of a luminance below 0.1.
        clipped: share of pixels with a channel at its upper end (254.5 of 255 or more).
        noise: standard deviation, by Immerkaer's kernel (CVIU 1996); texture counts as noise too.
    """

    luminance: float
    contrast: float
    dark: float
    clipped: float
    noise: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def appearance(pixels: np.ndarray) -> Appearance:
    """See `Appearance`."""
    grey = pixels @ LUMA
    return Appearance(
        luminance=float(grey.mean()),
        contrast=float(grey.std()),
        dark=float((grey < 0.1).mean()),
        clipped=float((pixels.max(axis=2) >= 254.5 / 255).mean()),
        noise=noise_sigma(grey),
    )


def noise_sigma(grey: np.ndarray) -> float:
    """Noise of [H, W] in units of 0..1; 0 where there are fewer than 3 x 3 pixels."""
    height, width = grey.shape
    if height < 3 or width < 3:
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(grey, (3, 3))
    response = np.abs(np.einsum("ijkl,kl->ij", windows, _LAPLACE))
    return float(np.sqrt(np.pi / 2) * response.mean() / 6)


def lightness_order_error(pixels: np.ndarray, enhanced: np.ndarray, side: int = LOE_SIDE) -> float:
    """LOE (Wang et al., TIP 2013): of how many of the side x side pixels the order in lightness turned, on average.

    Lightness is the largest channel, taken at the middle of side x side fields.
    Returns:
        0 (order kept everywhere) to side^2.
    """
    _same_size(pixels, enhanced)
    before, after = (_sampled(image.max(axis=2), side).ravel() for image in (pixels, enhanced))
    turned = (before[:, None] >= before[None, :]) != (after[:, None] >= after[None, :])
    return float(turned.sum(axis=1).mean())


def psnr(pixels: np.ndarray, reference: np.ndarray) -> float:
    """Over all three channels, peak 1, in dB; infinite for equal photos."""
    _same_size(pixels, reference)
    error = float(np.square(pixels.astype(np.float64) - reference).mean())
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def ssim(pixels: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity (Wang et al., TIP 2004) in RGB: Gaussian windows, sigma 1.5, range 1, mean of channels."""
    from skimage.metrics import structural_similarity

    _same_size(pixels, reference)
    if min(pixels.shape[:2]) < SSIM_SIDE:
        raise ConfigError("SSIM needs photos of at least 11 x 11 pixels.", "Compare larger photos.")
    return float(
        structural_similarity(
            pixels,
            reference,
            channel_axis=2,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def _sampled(lightness: np.ndarray, side: int) -> np.ndarray:
    rows, columns = (((np.arange(side) + 0.5) * size / side).astype(int) for size in lightness.shape)
    return lightness[rows[:, None], columns[None, :]]


def _same_size(pixels: np.ndarray, other: np.ndarray) -> None:
    if pixels.shape != other.shape:
        raise ConfigError(
            f"Photos of {pixels.shape[1]} x {pixels.shape[0]} and {other.shape[1]} x {other.shape[0]} pixels cannot be "
            "compared.",
            "Give the reference the photo’s size.",
        )
