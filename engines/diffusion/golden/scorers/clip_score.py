"""CLIP score: agreement of image and prompt by any CLIP model (Hessel et al., arXiv:2104.08718, equation 1)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.diffusion.golden.scorers.base import Scorer, to_images
from engines.errors import ConfigError

WEIGHT = 2.5


class ClipScore(Scorer):
    """``2.5 max(cos, 0)`` of image and prompt features; by another `weight`, and negative ones kept, for its kin."""

    def __init__(
        self, backbone: Backbone, title: str = "CLIP score", weight: float = WEIGHT, floor: bool = True
    ) -> None:
        self.backbone, self.weight, self.floor = backbone, weight, floor
        self.name = f"{title} by {backbone.name} ({backbone.fingerprint[:8]})"

    @torch.no_grad()
    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        seen = torch.stack([self.backbone.preprocess(image) for image in to_images(pixels)])
        images = self.backbone.encode_image(seen)
        texts = self.backbone.encode_text([self._read(prompt) for prompt in prompts])
        agreement = F.cosine_similarity(images, texts).cpu()
        return self.weight * (agreement.clamp(min=0) if self.floor else agreement)

    def _read(self, prompt: str) -> str:
        """The beginning of a prompt that the text tower has room for, as the text-to-image model reads it, too."""
        text = self.backbone.text
        room = text.tokenizer.context_length - len(text.tokenizer.start) - len(text.tokenizer.end)
        if text.count_tokens(prompt) <= room:
            return prompt
        return prompt[: bisect_right(range(len(prompt)), room, key=lambda end: text.count_tokens(prompt[:end])) - 1]


def load(backbone: Backbone | None, device: str | None, files: list[Path]) -> ClipScore:
    """With a backbone that is loaded already.

    Raises:
        ConfigError: there is none.
    """
    if backbone is None:
        raise ConfigError("The CLIP score needs a backbone.", "Choose one, for example mini-clip.")
    return ClipScore(backbone)
