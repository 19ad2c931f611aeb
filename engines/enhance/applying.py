"""A chosen method, loaded and ready for photos, with a strength."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from engines.backbones.runtime import Runtime
from engines.enhance.baselines import BASELINES, Method
from engines.enhance.baselines.zero_dce import load_zero_dce
from engines.enhance.choices import CURVES, Choice
from engines.enhance.enhancer import SIDE, ClipLitEnhancer, enhance_with, load_enhancer
from engines.enhance.metrics import psnr
from engines.enhance.settings import Padding


@dataclass(frozen=True)
class Applied:
    """What a method made of a photo: pixels [H, W, 3], and its light map [H, W] where it has one."""

    pixels: np.ndarray
    light: np.ndarray | None = None


class Applicable:
    """A method with a strength s: x / L^s for light maps, x + s (m(x) - x) for the others.

    Attributes:
        decibels: PSNR of the newest result by a light map of the usual size to that of the photo's own size; only
            where that size was asked for and the two are not equal.
    Args:
        side: of the copy on which light maps are made; None for the photo's own size.
    Raises:
        BackboneError: its file is missing or damaged.
    """

    def __init__(self, choice: Choice, strength: float = 1.0, side: int | None = SIDE) -> None:
        self.choice, self.strength, self.side = choice, strength, side
        self.decibels: float | None = None
        self._whole: Method | None = None
        self._network: ClipLitEnhancer | None = None
        if choice.file is None:
            self._whole = BASELINES[choice.name]
        elif choice.file.name == CURVES:
            self._whole = load_zero_dce(choice.file).enhance
        else:
            self._network = _loaded(choice.file, choice.padding, stamp_of(choice.file))

    def apply(self, pixels: np.ndarray) -> Applied:
        """[H, W, 3] float32, RGB in 0..1."""
        if self._network is not None:
            light = self._network.light_map(pixels, self.side)
            done = enhance_with(pixels, light, self.strength)
            if self.side is None:
                found = psnr(self._network.enhance(pixels, self.strength), done)
                self.decibels = found if np.isfinite(found) else None
            return Applied(done, light)
        assert self._whole is not None
        if self.strength == 0:
            return Applied(pixels)
        whole = self._whole(pixels)
        return Applied(whole if self.strength == 1 else (pixels + self.strength * (whole - pixels)).astype(np.float32))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self.apply(pixels).pixels

    def recipe(self) -> dict[str, Any]:
        """What the side-car tells of it."""
        found: dict[str, Any] = {"method": self.choice.name, "title": self.choice.title, "strength": self.strength}
        if self.choice.file is not None:
            found["weights_sha256"] = hashlib.sha256(self.choice.file.read_bytes()).hexdigest()
        if self._network is not None:
            found |= {"padding": self.choice.padding, "light_map_side": self.side or "native"}
        return found


def stamp_of(file: Path) -> int:
    """Changes when a file does; 0 where there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=8)
def _loaded(file: Path, padding: Padding, _stamp: int) -> ClipLitEnhancer:
    return load_enhancer(file, Runtime.choose().device, padding)
