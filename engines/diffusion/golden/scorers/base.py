"""What all scorers are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from PIL import Image
from torch import Tensor


class Scorer(ABC):
    """Tells how good images are for their prompts; more is better."""

    name: str
    """Scorer and weights, as pairs record them: scores of different names cannot be compared."""

    @abstractmethod
    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores [B] of images [B, 3, H, W] in 0..1, each for its own prompt."""

    def check(self, prompts: Sequence[str]) -> None:  # noqa: B027 - most judge every prompt
        """Raises ConfigError where a prompt cannot be judged, before work is spent on it."""


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Images of pixels [B, 3, H, W] in 0..1."""
    quantised = (pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in quantised]
