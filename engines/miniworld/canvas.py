"""Drawing by signed distances on whole batches at once: grids, anti-aliasing, noise, stamps.

World coordinates: the picture spans [-1, 1] in x (rightwards) and y (downwards), whatever its size in pixels.
A signed distance is negative inside a shape and measured in world units. Numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Masks = NDArray[np.bool_]

Spec = TypeVar("Spec")

CHUNK = 16
"""Pictures drawn together: at 64 pixels the planes of one chunk stay in a core's second-level cache."""


def in_chunks(
    draw: Callable[[Sequence[Spec], int, np.random.Generator], Pixels], specs: Sequence[Spec], size: int, seed: int
) -> Pixels:
    """Draws any number of pictures chunk by chunk, each from its own generator, [N, size, size, 3] uint8."""
    pictures = np.empty((len(specs), size, size, 3), dtype=np.uint8)
    for start, rng in chunks(len(specs), seed):
        pictures[start : start + CHUNK] = draw(specs[start : start + CHUNK], size, rng)
    return pictures


def chunks(count: int, seed: int) -> Iterator[tuple[int, np.random.Generator]]:
    """First picture and generator of each chunk."""
    for start in range(0, count, CHUNK):
        yield start, np.random.default_rng([seed, start])


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[Floats, Floats]:
    """World coordinates of the pixel centres: x [1, 1, size] and y [1, size, 1]."""
    line = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    return line[None, None, :], line[None, :, None]


def column(values: Any) -> Floats:
    """One number per picture, [N], shaped [N, 1, 1] for arithmetic with planes."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


def uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Floats:
    """Uniform float32 numbers in [low, high) of the given shape."""
    return rng.random(shape, dtype=np.float32) * np.float32(high - low) + np.float32(low)


def length(x: Floats, y: Floats) -> Floats:
    """Euclidean length (several times faster than ``np.hypot``, whose care about overflow is not needed here)."""
    return np.sqrt(x * x + y * y)


def coverage(distance: Floats, size: int, softness: float = 0.0) -> Floats:
    """Anti-aliased share of each pixel inside a shape: a ramp one pixel wide (or ``softness`` world units)."""
    return np.clip(0.5 - distance * np.float32(1 / max(2 / size, softness)), 0, 1)


def smooth_minimum(a: Floats, b: Floats, k: Floats | float) -> Floats:
    """Union of two shapes with a fillet of about ``k`` world units (polynomial smooth minimum)."""
    h = np.maximum(k - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h / (4 * np.float32(k))


def rotate(x: Floats, y: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """Coordinates in a frame turned by ``angle`` radians, [N, 1, 1]."""
    c, s = np.cos(angle), np.sin(angle)
    return x * c + y * s, y * c - x * s


def segment_distance(x: Floats, y: Floats, ax: Floats, ay: Floats, bx: Floats, by: Floats) -> Floats:
    """Distance to the segment from a to b (end points [N, 1, 1])."""
    dx, dy = bx - ax, by - ay
    along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + np.float32(1e-6)), 0, 1)
    return length(x - ax - along * dx, y - ay - along * dy)


@lru_cache(maxsize=32)
def _noise_tile(size: int, low: float, high: float) -> Floats:
    """Periodic band-limited noise, zero mean and unit variance, twice repeated: the same pattern at every size."""
    side, period = 4 * size, 8.0
    reach = min(int(high * period), 2 * size - 1)
    rng = np.random.default_rng(int(low * 1009 + high * 9176))
    top = int(high * period)
    coefficients = rng.standard_normal((2 * top + 1, top + 1)) + 1j * rng.standard_normal((2 * top + 1, top + 1))
    rows, columns = np.arange(-top, top + 1)[:, None], np.arange(top + 1)[None, :]
    frequency = np.hypot(rows, columns) / period
    coefficients *= (frequency >= low) & (frequency <= high)
    coefficients /= np.maximum(frequency, 1 / period)
    spectrum = np.zeros((side, side // 2 + 1), dtype=complex)
    keep = np.abs(rows[:, 0]) <= reach
    spectrum[rows[keep, 0] % side, : reach + 1] = coefficients[keep, : reach + 1]
    tile = np.fft.irfft2(spectrum, s=(side, side))
    tile = ((tile - tile.mean()) / tile.std()).astype(np.float32)
    return np.tile(tile, (2, 2))


def noise(rng: np.random.Generator, count: int, size: int, low: float, high: float) -> Floats:
    """Smooth random planes [count, size, size] with waves of ``low`` to ``high`` cycles per world unit."""
    tile = _noise_tile(size, low, high)
    side = tile.shape[0] // 2
    starts = (rng.random((count, 2)) * side).astype(int)
    return np.stack([tile[top : top + size, left : left + size] for top, left in starts])


def stamp(
    count: int,
    size: int,
    owner: NDArray[np.intp],
    x: Floats,
    y: Floats,
    reach: float,
    paint: Callable[[Floats, Floats], Floats],
) -> Floats:
    """Adds M small shapes, each drawn only in its own window, into planes [count, size, size].

    Args:
        count: number of planes.
        size: pixels along a side.
        owner: plane of each shape, [M].
        x: centres in world units, [M].
        y: as ``x``.
        reach: largest extent of a shape from its centre, world units.
        paint: from offsets dx [M, 1, W] and dy [M, W, 1] to values [M, W, W].
    """
    half = int(np.ceil(reach * size / 2)) + 1
    pad, padded = 2 * half + 1, size + 4 * half + 2
    left = np.clip(np.floor((x + 1) * (size / 2)), -half, size + half).astype(np.intp)
    top = np.clip(np.floor((y + 1) * (size / 2)), -half, size + half).astype(np.intp)
    window = np.arange(-half, half + 1)
    columns, rows = left[:, None] + window, top[:, None] + window
    dx = ((columns + 0.5) * (2 / size) - 1).astype(np.float32) - x[:, None]
    dy = ((rows + 0.5) * (2 / size) - 1).astype(np.float32) - y[:, None]
    values = paint(dx[:, None, :], dy[:, :, None])
    index = (owner[:, None, None] * padded + rows[:, :, None] + pad) * padded + columns[:, None, :] + pad
    total = np.bincount(index.ravel(), values.ravel(), count * padded * padded)
    inner = total.reshape(count, padded, padded)[:, pad : pad + size, pad : pad + size]
    return inner.astype(np.float32)


def soften(planes: Floats, amount: Floats, size: int) -> Floats:
    """Blurs colour planes [N, 3, H, W] in place, by ``amount`` in [0, 1], [N, 1, 1, 1], over 1/64 of the width."""
    step = max(1, round(size / 64))
    for view in (planes, planes.swapaxes(2, 3)):
        middle = view[:, :, step:-step]
        middle += (view[:, :, 2 * step :] + view[:, :, : -2 * step] - 2 * middle) * (amount * np.float32(1 / 3))
    return planes


def develop(planes: Floats, rng: np.random.Generator, grain: float = 2.0) -> Pixels:
    """Colour planes [N, 3, H, W] in 0..255 to pictures [N, H, W, 3] uint8, with a little sensor noise."""
    tile = _grain_tile(planes.size)
    start = int(rng.integers(_GRAIN_STARTS))
    speckle = tile[start : start + planes.size].reshape(planes.shape)
    levels = np.clip(planes + speckle * np.float32(grain), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))


_GRAIN_STARTS = 1 << 16


@lru_cache(maxsize=4)
def _grain_tile(length: int) -> Floats:
    return np.random.default_rng(77).standard_normal(length + _GRAIN_STARTS, dtype=np.float32)


def where(names: Sequence[str], name: str) -> NDArray[np.intp]:
    """Indices at which ``name`` stands in ``names``."""
    return np.array([i for i, other in enumerate(names) if other == name], dtype=np.intp)
