"""Small pieces of English shared by the caption writers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TEMPLATES = (
    "a photo of a {}.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    "a photo of the {}.",
    "{}",
    "a {}",
)
"""CLIP's ready-made wordings, taken literally, grammar and all: the plain one, the seven selected ones, and others."""
SELECTED = TEMPLATES[1:8]

_PLAIN_SHARE = 0.5


def pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    """One of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def fill(name: str, rng: np.random.Generator) -> str:
    """A ready-made prompt for ``name``: half of the time the plain "a photo of a ..."."""
    template = TEMPLATES[0] if rng.random() < _PLAIN_SHARE else pick(TEMPLATES, rng)
    return template.format(name)


def with_article(noun: str) -> str:
    """``noun`` with "a" or "an"."""
    return f"{'an' if noun[0].lower() in 'aeio' else 'a'} {noun}"


def enumerate_words(parts: Sequence[str]) -> str:
    """Joins words: "x", "x and y", "x, y and z"."""
    if len(parts) < 2:
        return parts[0]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
