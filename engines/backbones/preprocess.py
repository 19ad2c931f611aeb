"""From a PIL image to a tower's pixels: what the tower expects, and random training views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as image_ops

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
Preprocess = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class PixelSpec:
    """What an image tower was trained to see."""

    size: int
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"

    @classmethod
    def of(cls, model: Any, preprocess: Any) -> PixelSpec:
        """Read off the model's preprocessing settings, else off the transform's own steps."""
        visual = model.visual
        settings = dict(getattr(visual, "preprocess_cfg", None) or {})
        steps = getattr(preprocess, "transforms", [])
        normalise = next((t for t in steps if isinstance(t, transforms.Normalize)), None)
        size = visual.image_size
        return cls(
            size=size[0] if isinstance(size, tuple | list) else int(size),
            mean=tuple(normalise.mean if normalise else settings.get("mean", CLIP_MEAN)),
            std=tuple(normalise.std if normalise else settings.get("std", CLIP_STD)),
            interpolation=settings.get("interpolation", cls.interpolation),
            resize_mode=settings.get("resize_mode", cls.resize_mode),
        )

    def normalise(self, image: Image.Image) -> Tensor:
        """[3, H, W] float32 of an image that has its final size."""
        return image_ops.normalize(image_ops.to_tensor(image.convert("RGB")), self.mean, self.std)

    @property
    def mode(self) -> InterpolationMode:
        return InterpolationMode(self.interpolation)


@dataclass(frozen=True)
class TrainTransform:
    """Random resized crop and flip of the papers' protocols (Dassl: area 0.08 to 1, aspect ratio 3/4 to 4/3)."""

    pixels: PixelSpec
    crop_scale: tuple[float, float]
    flip: bool

    def __call__(self, image: Image.Image, seed: int | None = None) -> Tensor:
        """PIL image -> [3, H, W].

        With `seed` the view depends on nothing else, so it can be cached and drawn in any thread; without, torch's
        global generator draws.
        """
        draw = None if seed is None else torch.Generator().manual_seed(seed)
        size = [self.pixels.size, self.pixels.size]
        image = image.convert("RGB")
        cut = image_ops.resized_crop(image, *self._box(image, draw), size, self.pixels.mode)
        if self.flip and torch.rand((), generator=draw) < 0.5:
            cut = image_ops.hflip(cut)
        return self.pixels.normalise(cut)

    def _box(self, image: Image.Image, draw: torch.Generator | None) -> tuple[int, int, int, int]:
        """Top, left, height, width of a crop; the largest one in the middle where ten draws did not fit."""
        width, height = image.size
        for _ in range(10):
            share, shape, down, right = torch.rand(4, generator=draw, dtype=torch.float64).tolist()
            area = height * width * (self.crop_scale[0] + share * (self.crop_scale[1] - self.crop_scale[0]))
            ratio = (3 / 4) * (16 / 9) ** shape
            w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if 0 < w <= width and 0 < h <= height:
                return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        return (height - h) // 2, (width - w) // 2, h, w
