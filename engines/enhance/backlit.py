"""Backlit pictures with known truth: clean pictures whose subject is put into its own shadow.

A light map is drawn and multiplied on: the subject gets a fraction of the light, its surroundings all of it or more, as
in a photo that was exposed for a bright sky. Own model, for training and comparisons without anybody's photos.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.data.images import load_image
from engines.errors import ConfigError
from engines.miniworld import scenes

Pixels = NDArray[np.float32]

TRAINING_PICTURES = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "ihc.png",
    "motorcycle_left.png",
    "rocket.jpg",
)
HELD_OUT_PICTURES = ("chelsea.png", "coffee.png")
"""Files of scikit-image's wheel; nothing is downloaded."""
DARKEST, BRIGHTEST = 0.12, 0.4
"""Share of the light that a subject keeps, of pixel values."""


@dataclass(frozen=True)
class Pairs:
    """Pictures [N, S, S, 3] uint8: as they should look, and backlit."""

    truth: NDArray[np.uint8]
    backlit: NDArray[np.uint8]


def backlit(clean: Pixels, subject: NDArray[np.float32], draw: np.random.Generator) -> Pixels:
    """Puts the subject in shadow, lets some light leak over its edge, and adds the noise of a dark exposure.

    Args:
        clean: [H, W, 3], RGB in 0..1.
        subject: [H, W] in 0..1, 1 where the subject is.
    Returns:
        [H, W, 3] in 0..1, in steps of 1/255 as files have them.
    """
    from scipy.ndimage import gaussian_filter

    if clean.ndim != 3 or subject.shape != clean.shape[:2]:
        raise ConfigError("A subject needs the size of its picture.", "Give [H, W, 3] and [H, W].")
    leak = gaussian_filter(subject, 0.02 * max(subject.shape))
    share = np.clip(0.8 * subject + 0.2 * leak, 0, 1)[..., None]
    low, high = draw.uniform(DARKEST, BRIGHTEST), draw.uniform(1.0, 1.15)
    light = high * (low / high) ** share
    noise = draw.normal(0, draw.uniform(0.5, 2) / 255, clean.shape)
    return (np.round(np.clip(clean * light + noise, 0, 1) * 255) / 255).astype(np.float32)


def darker_part(clean: Pixels) -> NDArray[np.float32]:
    """What may stand for the subject of a photo: its darker half, in large soft pieces. [H, W, 3] -> [H, W] in 0..1."""
    from scipy.ndimage import gaussian_filter

    grey = gaussian_filter(clean.mean(axis=2), 0.03 * max(clean.shape[:2]))
    low, middle, high = np.percentile(grey, (10, 50, 90))
    return (1 / (1 + np.exp((grey - middle) / max(1e-3, 0.08 * (high - low))))).astype(np.float32)


def rendered_pairs(count: int, size: int, seed: int) -> Pairs:
    """Scenes of the mini world on backgrounds that can be bright; their things are the subject."""
    draw = np.random.default_rng([seed, 0])
    specs: list[scenes.SceneSpec] = []
    while len(specs) < count:
        spec = scenes.sample(draw)
        if spec.background != "black":
            specs.append(spec)
    truth, masks = scenes.render_with_masks(specs, size, seed)
    return _darkened(truth, np.asarray(masks.any(axis=1), np.float32), draw)


def photo_pairs(names: tuple[str, ...], each: int, size: int, seed: int) -> Pairs:
    """Random square cut-outs of scikit-image's pictures, at least half as long as the shorter side.

    Raises:
        DataError: this installation lacks a picture.
    """
    draw, found = np.random.default_rng([seed, 1]), []
    for name in names:
        whole = load_image(shipped_picture(name))
        for _ in range(each):
            side = int(min(whole.size) * draw.uniform(0.5, 1))
            left, top = (int(draw.integers(0, length - side + 1)) for length in whole.size)
            box = (left, top, left + side, top + side)
            found.append(np.asarray(whole.resize((size, size), Image.Resampling.LANCZOS, box)))
    truth = np.stack(found)
    subjects = np.stack([darker_part(picture / np.float32(255)) for picture in truth])
    return _darkened(truth, subjects, draw)


def shipped_picture(name: str) -> Path:
    """The file of a picture in scikit-image's wheel, which may be missing in other distributions of it."""
    return Path(str(files("skimage.data").joinpath(name)))


def joined(*parts: Pairs) -> Pairs:
    return Pairs(np.concatenate([p.truth for p in parts]), np.concatenate([p.backlit for p in parts]))


def _darkened(truth: NDArray[np.uint8], subjects: NDArray[np.float32], draw: np.random.Generator) -> Pairs:
    found = [backlit(clean / np.float32(255), subject, draw) for clean, subject in zip(truth, subjects, strict=True)]
    return Pairs(truth, (np.stack(found) * 255).round().astype(np.uint8))
