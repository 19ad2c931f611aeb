"""The mini world's own judge: are the things of the caption there, in their colours and shapes? By rules alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.diffusion.golden.scorers.base import Scorer, to_images
from engines.errors import ConfigError
from engines.miniworld.diffusion.check import look
from engines.miniworld.diffusion.model import IMAGE_SIZE
from engines.miniworld.scenes import COLOURS, OUTLINES

_THING = re.compile(rf"\b({'|'.join(COLOURS)})\s+({'|'.join(OUTLINES)})\b", re.IGNORECASE)


class SceneScore(Scorer):
    """Between 0 and 1, where exactly the wanted things are seen.

    A thing counts 1, or a half if only its colour or only its shape is right; divided by the number of wanted things,
    or of seen ones where those are more.
    """

    name = "Check by rules"

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        wanted = [wanted_things(prompt) for prompt in prompts]
        if pixels.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
            pixels = F.interpolate(pixels, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True)
        seen = [[(one.colour, one.shape) for one in look(np.asarray(image))] for image in to_images(pixels)]
        return torch.tensor([_agreement(*both) for both in zip(seen, wanted, strict=True)])

    def check(self, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            wanted_things(prompt)


def wanted_things(prompt: str) -> list[tuple[str, str]]:
    """(colour, shape) of the things that a caption names.

    Raises:
        ConfigError: it names none.
    """
    found = [(colour.lower(), shape.lower()) for colour, shape in _THING.findall(prompt)]
    if not found:
        raise ConfigError(
            f"The check by rules knows only things such as “a red circle”, and the prompt is “{prompt[:80]}”.",
            "Choose another scorer, or prompts of the mini world.",
        )
    return found


def load(backbone: Backbone | None, device: str | None, files: list[Path]) -> SceneScore:
    """Needs nothing."""
    return SceneScore()


def _agreement(seen: list[tuple[str, str]], wanted: list[tuple[str, str]]) -> float:
    missed, others = list(wanted), []
    for thing in seen:
        if thing in missed:
            missed.remove(thing)
        else:
            others.append(thing)
    points = float(len(wanted) - len(missed))
    for colour, shape in others:
        near = next((thing for thing in missed if colour == thing[0] or shape == thing[1]), None)
        if near is not None:
            missed.remove(near)
            points += 0.5
    return points / max(len(seen), len(wanted))
