"""The whole miniature world: captioned renderings of every family, batch by batch, each fixed by (seed, step)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.miniworld import blood, fabric, scenes
from engines.miniworld.canvas import Pixels

MIX = {"blood": 0.4, "fabric": 0.22, "scenes": 0.38}
"""Share of each family in the training pictures."""
FREE_CELLS = 0.2
"""Share of the smears whose cell has freely mixed attributes."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Renderings with their captions; pictures with equal captions share one text.

    pixels [N, size, size, 3] uint8; captions: U distinct texts; text_of [N]: the caption of each picture.
    """

    pixels: Pixels
    captions: list[str]
    text_of: NDArray[np.int64]


def draw_batch(seed: int, step: int, count: int, size: int) -> Batch:
    """Draws ``count`` captioned training pictures, the same ones whenever seed and step are the same."""
    rng = np.random.default_rng([seed, step])
    shares = np.array(list(MIX.values()))
    amounts = rng.multinomial(count, shares / shares.sum())
    pictures: list[Pixels] = []
    texts: list[str] = []
    for family, amount in zip(MIX, amounts, strict=True):
        picture_seed = int(rng.integers(2**31))
        if family == "blood":
            smears = [blood.sample_free(rng) if rng.random() < FREE_CELLS else blood.sample(rng) for _ in range(amount)]
            texts += [blood.caption(spec, rng) for spec in smears]
            pictures.append(blood.render(smears, size, picture_seed))
        elif family == "fabric":
            cloths = [fabric.sample(rng) for _ in range(amount)]
            texts += [fabric.caption(spec, rng) for spec in cloths]
            pictures.append(fabric.render(cloths, size, picture_seed))
        else:
            pieces = [scenes.sample(rng) for _ in range(amount)]
            texts += [scenes.caption(spec, rng) for spec in pieces]
            pictures.append(scenes.render(pieces, size, picture_seed))
    captions, text_of = np.unique(texts, return_inverse=True)
    return Batch(np.concatenate(pictures), captions.tolist(), text_of.astype(np.int64))
