"""What a picture of the scenes' world shows, told by rules alone: the colour and the shape of every thing in it.

Generated pictures are judged with it. It knows how scenes are drawn, so that no learned model has to be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from engines.miniworld import scenes
from engines.miniworld.canvas import Floats, Masks, Pixels

SMALLEST = 24
"""Pixels of a thing, at 64 x 64; smaller spots are noise."""
DIFFERENT = 24.0
"""Distance in colour from the background at any light, of 255."""
DARKER = 110.0
"""Distance in lightness alone that no shadow reaches."""
PALEST = 0.3
"""Saturation below which something is a cloud, not a thing; that of the palest colour is 0.43."""
POSES = 24
"""Pixels to a side of the frame in which outlines are compared."""
TURNS = np.linspace(-0.3, 0.3, 7, dtype=np.float32)
"""Angles in radians at which scenes draw their things."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing in a picture: its colour, its shape, how well the outline fits (IoU), and where it is."""

    colour: str
    shape: str
    fit: float
    mask: Masks


def look(picture: Pixels) -> list[Seen]:
    """The things in a picture [S, S, 3], the largest first."""
    pixels = picture.astype(np.float32)
    edge = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3), pixels[:, :2].reshape(-1, 3)])
    ground = np.median(np.concatenate([edge, pixels[:, -2:].reshape(-1, 3)]), axis=0)
    smooth = ndimage.median_filter(pixels, size=(3, 3, 1))
    mask = _apart(smooth, ground)
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    found = [_seen(smooth, labels == number) for number in range(1, count + 1) if (labels == number).sum() >= SMALLEST]
    return sorted(found, key=lambda one: -int(one.mask.sum()))


def shows(picture: Pixels, wanted: Sequence[tuple[str, str]]) -> bool:
    """Whether the picture shows exactly the things (colour, shape), in any order."""
    return sorted((one.colour, one.shape) for one in look(picture)) == sorted(wanted)


def _apart(pixels: Floats, ground: Floats) -> Masks:
    """Where a vivid colour differs from the background's by more than a shadow."""
    shade = (pixels @ ground / max(float(ground @ ground), 1.0))[..., None]
    beside = np.linalg.norm(pixels - shade * ground, axis=-1)
    along = np.abs(shade[..., 0] - 1) * np.linalg.norm(ground)
    vivid = np.ptp(pixels, axis=-1) > PALEST * pixels.max(axis=-1)
    return ((beside > DIFFERENT) | (along > DARKER)) & vivid


def _seen(pixels: Floats, mask: Masks) -> Seen:
    inner = ndimage.binary_erosion(mask)
    colour = np.median(pixels[inner if inner.sum() >= SMALLEST // 2 else mask], axis=0)
    shape, fit = _shape(mask)
    return Seen(_colour(colour), shape, fit, mask)


def _colour(seen: Floats) -> str:
    """The nearest colour of the scenes at any light."""

    def distance(name: str) -> float:
        known = np.array(scenes.COLOURS[name], dtype=np.float32)
        light = np.clip(seen @ known / (known @ known), 0.8, 1.12)
        return float(np.linalg.norm(seen - light * known))

    return min(scenes.COLOURS, key=distance)


def _shape(mask: Masks) -> tuple[str, float]:
    """The outline that fits best, in any of the poses, after both are cut out and brought to the same frame."""
    rows, columns = np.nonzero(mask)
    top, left = rows.min(), columns.min()
    side = max(rows.max() - top, columns.max() - left) + 1
    cut = np.zeros((side, side), dtype=np.float32)
    cut[rows - top, columns - left] = 1
    framed = ndimage.zoom(cut, POSES / side, order=1, grid_mode=True, mode="grid-constant") > 0.5
    names, poses = _outlines()
    both = (poses & framed).sum(axis=(1, 2))
    fits = both / np.maximum((poses | framed).sum(axis=(1, 2)), 1)
    best = int(fits.argmax())
    return names[best], float(fits[best])


@lru_cache(maxsize=1)
def _outlines() -> tuple[list[str], Masks]:
    """Names [P] and frames [P, 24, 24] of every outline in every pose, cut out as `_shape` cuts."""
    line = np.linspace(-1.6, 1.6, 160, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    names, frames = [], []
    for shape, outline in scenes.OUTLINES.items():
        for turn in TURNS:
            u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
            inside = outline(u, v) < 0
            rows, columns = np.nonzero(inside)
            side = max(int(np.ptp(rows)), int(np.ptp(columns))) + 1
            cut = np.zeros((side, side), dtype=np.float32)
            cut[rows - rows.min(), columns - columns.min()] = 1
            frames.append(ndimage.zoom(cut, POSES / side, order=1, grid_mode=True, mode="grid-constant") > 0.5)
            names.append(shape)
    return names, np.stack(frames)
