"""A list of prompts to begin with: scenes of the mini world. Torch-free."""

from __future__ import annotations

import random

from engines.miniworld import phrases
from engines.miniworld.scenes import BACKGROUNDS, COLOURS, SHAPES, SceneSpec, place


def scene_prompts(count: int = 40, seed: int = 0) -> list[str]:
    """Different captions of two things each, such as “a red circle and a blue star on grass”.

    Colours and shapes that training pictures never showed together are among them, so that there is something to win.
    """
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        pairs = zip(draw.sample(list(COLOURS), 2), draw.sample(SHAPES, 2), strict=True)
        things = [phrases.with_article(f"{colour} {shape}") for colour, shape in pairs]
        where = place(SceneSpec((), "", draw.choice(list(BACKGROUNDS))))
        found[f"{phrases.enumerate_words(things)} {where}"] = None
    return list(found)
