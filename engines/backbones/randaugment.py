"""RandAugment as CoPrompt trains with it (Cubuk et al., 2020; the list and strengths of Dassl): images stay whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms import functional as image_ops

from engines.backbones.preprocess import PixelSpec

Draw = Callable[[], float]
"""Uniform numbers in [0, 1)."""
Change = Callable[[Image.Image, Draw], Image.Image]

OPERATIONS = 2
STRENGTH = 1 / 3
"""Magnitude 10 of 30: every change goes a third of its way."""
GREY = (125, 123, 114)
REFERENCE = 224
"""Side in pixels of the images that the official distances are meant for; they scale with the image here."""


@dataclass(frozen=True)
class RandAugment:
    """Resize to the tower's square (aspect ratio not kept), then two random changes of fixed strength."""

    pixels: PixelSpec
    mild: bool = False

    def __call__(self, image: Image.Image, seed: int | None = None) -> Tensor:
        """PIL image -> [3, H, W]; of `seed` alone, or of torch's global generator."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)

        def draw() -> float:
            return float(torch.rand((), generator=generator, dtype=torch.float64))

        size = [self.pixels.size, self.pixels.size]
        image = image_ops.resize(image.convert("RGB"), size, self.pixels.mode)
        changes = MILD if self.mild else MILD + HARSH
        for _ in range(OPERATIONS):
            image = changes[int(draw() * len(changes))](image, draw)
        return self.pixels.normalise(image)


def _sign(draw: Draw) -> int:
    return 1 if draw() < 0.5 else -1


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Change:
    return lambda image, draw: kind(image).enhance(0.1 + 1.8 * STRENGTH)


def _affine(shear: tuple[float, float] = (0, 0), shift: tuple[float, float] = (0, 0)) -> Change:
    """Shear by shares, or shift by pixels of a reference image, to either side."""

    def change(image: Image.Image, draw: Draw) -> Image.Image:
        sign, size = _sign(draw), image.width / REFERENCE
        data = (1, sign * shear[0], sign * shift[0] * size, sign * shear[1], 1, sign * shift[1] * size)
        return image.transform(image.size, Image.Transform.AFFINE, data)

    return change


def _solarise_add(image: Image.Image, draw: Draw) -> Image.Image:
    lighter = np.clip(np.asarray(image, np.int64) + int(110 * STRENGTH), 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(lighter), 128)


def _cutout(image: Image.Image, draw: Draw) -> Image.Image:
    side = 40 * STRENGTH * image.width / REFERENCE
    left, top = (max(0.0, draw() * length - side / 2) for length in image.size)
    covered = image.copy()
    corner = (min(image.width, int(left + side)), min(image.height, int(top + side)))
    ImageDraw.Draw(covered).rectangle((int(left), int(top), *corner), fill=GREY)
    return covered


MILD: tuple[Change, ...] = (
    lambda image, draw: ImageOps.autocontrast(image),
    lambda image, draw: image.rotate(_sign(draw) * 30 * STRENGTH),
    _enhance(ImageEnhance.Color),
    _enhance(ImageEnhance.Contrast),
    _enhance(ImageEnhance.Brightness),
    _enhance(ImageEnhance.Sharpness),
    _affine(shear=(0.3 * STRENGTH, 0)),
    _affine(shear=(0, 0.3 * STRENGTH)),
    _affine(shift=(100 * STRENGTH, 0)),
    _affine(shift=(0, 100 * STRENGTH)),
)
"""Changes that leave the tones in order and the image uncovered."""
HARSH: tuple[Change, ...] = (
    lambda image, draw: ImageOps.equalize(image),
    lambda image, draw: ImageOps.invert(image),
    lambda image, draw: ImageOps.posterize(image, 4 + int(4 * STRENGTH)),
    lambda image, draw: ImageOps.solarize(image, int(256 * STRENGTH)),
    _solarise_add,
    _cutout,
)
"""Changes that may destroy what matters in medical images."""
