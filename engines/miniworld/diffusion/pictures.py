"""What the mini-diffusion model learns from: captioned scenes with masks, and other renderings beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engines.miniworld import blood, fabric, phrases, scenes
from engines.miniworld.canvas import Masks, Pixels
from engines.miniworld.diffusion.model import IMAGE_SIZE
from engines.miniworld.scenes import PAIRS, RELATIONS, SceneSpec, Thing

COUNTS = (0.45, 0.5, 0.05)
"""Share of scenes with one, two and three things."""
WITH_BACKGROUND = 0.6
OTHERS = 0.2
"""Share of smears and cloth among the pictures of the autoencoder, so that it is not lost on anything but scenes."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """Pictures [N, 64, 64, 3] uint8 with masks [N, 3, 64, 64] of the things in the order of each spec."""

    specs: list[SceneSpec]
    captions: list[str]
    pixels: Pixels
    masks: Masks


def sample(rng: np.random.Generator, count: int = 0) -> SceneSpec:
    """A scene of `count` things (drawn by `COUNTS` where 0), never two of the same colour or shape.

    Any colour goes with any shape. All are large: a small one would be three cells wide on the 16 x 16 maps, and the
    autoencoder leaves too little of its outline to tell a star from a circle.
    """
    count = count or int(rng.choice(3, p=COUNTS)) + 1
    while True:
        pairs = [PAIRS[i] for i in rng.choice(len(PAIRS), count, replace=False)]
        if len({colour for colour, _ in pairs}) == len({shape for _, shape in pairs}) == count:
            break
    things = tuple(Thing(colour, shape, "large") for colour, shape in pairs)
    relation = phrases.pick(RELATIONS, rng) if count > 1 else ""
    return SceneSpec(things, relation, phrases.pick(tuple(scenes.BACKGROUNDS), rng))


def caption(spec: SceneSpec, rng: np.random.Generator) -> str:
    """Such as “a red circle and a blue star on grass”: things in any order, nothing about where they stand."""
    listed = [phrases.with_article(f"{thing.colour} {thing.shape}") for thing in spec.things]
    text = phrases.enumerate_words([listed[i] for i in rng.permutation(len(listed))])
    return f"{text} {scenes.place(spec)}" if rng.random() < WITH_BACKGROUND else text


def draw(seed: int, step: int, count: int, things: int = 0) -> Scenes:
    """`count` captioned scenes, the same ones whenever seed and step are the same."""
    rng = np.random.default_rng([seed, step])
    specs = [sample(rng, things) for _ in range(count)]
    captions = [caption(spec, rng) for spec in specs]
    pixels, masks = scenes.render_with_masks(specs, IMAGE_SIZE, int(rng.integers(2**31)))
    return Scenes(specs, captions, pixels, masks)


def draw_any(seed: int, step: int, count: int) -> Pixels:
    """Pictures without words for the autoencoder."""
    rng = np.random.default_rng([seed, step])
    others = int(rng.binomial(count, OTHERS))
    smears, cloths = others // 2, others - others // 2
    return np.concatenate(
        [
            draw(seed, step, count - others).pixels,
            blood.render([blood.sample_free(rng) for _ in range(smears)], IMAGE_SIZE, step),
            fabric.render([fabric.sample(rng) for _ in range(cloths)], IMAGE_SIZE, step),
        ]
    )
