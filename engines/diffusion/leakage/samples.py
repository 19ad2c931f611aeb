"""Sample pictures from the mini world, with captions and the true mask of every object. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.errors import ConfigError
from engines.miniworld.scenes import SceneSpec, Thing, place, render_with_masks

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture that can be drawn at any size."""

    name: str
    spec: SceneSpec
    seed: int

    @property
    def caption(self) -> str:
        listed = [
            f"{'an' if thing.colour[0] in 'aeiou' else 'a'} {thing.colour} {thing.shape}" for thing in self.things
        ]
        return f"{' and '.join(listed)} {place(self.spec)}"

    @property
    def things(self) -> tuple[Thing, ...]:
        return self.spec.things

    def draw(self, side: int) -> tuple[Image.Image, dict[str, Mask]]:
        """The picture, and by its noun the mask [side, side] of each object."""
        pixels, masks = render_with_masks([self.spec], side, self.seed)
        return Image.fromarray(pixels[0]), {thing.shape: masks[0, number] for number, thing in enumerate(self.things)}


def _scene(name: str, first: str, relation: str, second: str, ground: str, seed: int) -> Sample:
    pairs = (words.split() for words in (first, second))
    things = tuple(Thing(colour, shape, "large") for colour, shape in pairs)
    return Sample(name, SceneSpec(things, relation, ground), seed)


SAMPLES = {
    sample.name: sample
    for sample in (
        _scene("circle-star", "red circle", "to the left of", "blue star", "grass", 11),
        _scene("heart-square", "pink heart", "above", "green square", "white", 12),
        _scene("ring-triangle", "yellow ring", "to the right of", "purple triangle", "sand", 13),
        _scene("cross-crescent", "orange cross", "below", "blue crescent", "grey", 14),
        _scene("triangle-circle", "red triangle", "to the left of", "green circle", "sky", 15),
        _scene("star-heart", "yellow star", "above", "red heart", "black", 16),
    )
}


def find_sample(name: str) -> Sample:
    """The sample of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SAMPLES:
        raise ConfigError(f"There is no sample picture “{name}”.", f"There are: {', '.join(SAMPLES)}.")
    return SAMPLES[name]
