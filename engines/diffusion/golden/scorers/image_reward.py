"""ImageReward: BLIP fine-tuned on which images people preferred (Xu et al., arXiv:2304.05977), by its own package."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines.backbones import Backbone
from engines.backbones.runtime import Runtime
from engines.diffusion.golden.scorers.base import Scorer, to_images
from engines.errors import BackboneError


class ImageReward(Scorer):
    """The reward that the package's model gives."""

    name = "ImageReward v1.0"

    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.no_grad()
    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        images = to_images(pixels)
        rewards = [float(self.model.score(prompt, image)) for prompt, image in zip(prompts, images, strict=True)]
        return torch.tensor(rewards)


def load(backbone: Backbone | None, device: str | None, files: list[Path]) -> ImageReward:
    """From the released files, by the package image-reward.

    Raises:
        BackboneError: files and package do not fit each other.
    """
    weights, config = files
    place = str(Runtime.choose(device).device)
    try:
        package = import_module("ImageReward")
        return ImageReward(package.load(str(weights), device=place, med_config=str(config)))
    except Exception as error:  # a package of others with files of others
        raise BackboneError(
            "ImageReward cannot be loaded.",
            "Check that its package fits the installed transformers, and copy its files again.",
            f"{type(error).__name__}: {error}",
        ) from error
