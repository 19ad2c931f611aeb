"""What a method that finds defects offers beside the contract of all methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from PIL import Image
from torch import Tensor

from engines.prompts.base import MethodInfo


@runtime_checkable
class FindsDefects(Protocol):
    """A method whose `learns_from` is "masks": it scores images, and every place in them, as sound or damaged."""

    info: MethodInfo
    highest: float
    """What a map says of a place that is surely damaged; 0 is surely sound."""

    @property
    def image_size(self) -> int:
        """Side of the square images that it wants to see, in pixels."""

    def prepare(self, image: Image.Image) -> Tensor:
        """An image as the method wants to see it, [3, H, W]."""

    def text_features(self) -> Tensor:
        """[2, E], sound and damaged."""

    def written_features(self, thing: str = "object") -> Tensor:
        """Unit features [2, E] of hand-written sentences about a thing, sound and damaged."""

    def judge(self, pixels: Tensor, texts: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Scores [B] from 0 to 1 and maps [B, H, W], on the CPU, by each of `texts`, from one look at the images."""
