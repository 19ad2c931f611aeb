"""Features of images and words with a method's learned prompt and without it: the frozen towers are the baseline.

Most methods are read by `Reading`; those whose features come about otherwise are read by one of `shift_readings.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones.layout import PromptLayout
from engines.errors import PromptloupeError
from engines.prompts.base import PromptMethod, required
from engines.prompts.context import ContextPrompt
from engines.prompts.deep import DeepPrompt
from engines.prompts.shift import States, image_states, shift, text_states

M = TypeVar("M", bound=PromptMethod)
PLAIN_WORDS = "a photo of a"
"""What stands in front of the class name where the learned words began at random."""


class Untold(Exception):  # noqa: N818 - no error: something to tell
    """Why something cannot be told of a method, in words."""


@dataclass(frozen=True)
class Look:
    """B images as they are seen with the learned prompt and without it, beside the words of C classes."""

    before: Tensor
    """[B, D], unit length, as all features here."""
    after: Tensor
    """[B, D]; the very same tensor where nothing moves images."""
    words_before: Tensor
    """[C, D], or [B, C, D] where words depend on the image."""
    words_after: Tensor
    blocks: Tensor | None
    """[L, B]: relative size of the shift behind every block."""
    surgery: Tensor | None = None
    """[B]: size of RESTORE's correction behind the image tower, relative to the feature."""

    def cosines(self, learned: bool) -> Tensor:
        """[B, C] between images and words, with the learned prompt or without it."""
        images, words = (self.after, self.words_after) if learned else (self.before, self.words_before)
        return images @ words.T if words.dim() == 2 else torch.einsum("bd,bcd->bc", images, words)


class Reading(Generic[M]):
    """How a method is read; its tensors are in evaluation mode and keep no gradients."""

    note = ""
    """What a person should know about how it was read."""
    image_tower_reason = ""
    """Why the blocks of a changed image tower cannot be walked."""
    text_tower_reason = ""
    """The same of the text tower."""

    def __init__(self, method: M) -> None:
        self.method, self.backbone = method, method.backbone

    # --- words ------------------------------------------------------------------

    @cached_property
    def words_after(self) -> Tensor:
        """[C, D]"""
        with torch.no_grad():
            return unit(self.method.text_features())

    @cached_property
    def words_before(self) -> Tensor:
        """[C, D]: the same sentence in ordinary words; the very same tensor where no words are learned."""
        return self.ordinary if self.learns_words else self.words_after

    @property
    def learns_words(self) -> bool:
        """Whether text features depend on anything that is learned."""
        with torch.enable_grad():
            return self.method.text_features().requires_grad

    @cached_property
    def ordinary(self) -> Tensor:
        """[C, D] of the sentence in ordinary words."""
        if self.layout is None:
            return unit(self.method.sentence_features([f"{PLAIN_WORDS} {{}}."]))
        with torch.no_grad():
            return unit(self.backbone.text.encode_embeddings(self.layout.embeddings, self.layout.eot))

    @property
    def baseline(self) -> str:
        """What words are compared with, in words; empty where none are learned."""
        own = getattr(self.method, "layout", None)
        if not self.learns_words or own is None:
            return ""
        if self.layout is own:
            return "The words are compared with the same sentence in ordinary words."
        return f"Its words began at random, so they are compared with the sentence “{PLAIN_WORDS} …”."

    @cached_property
    def layout(self) -> PromptLayout | None:
        """The sentences that the words began as; the plain ones where they began at random."""
        layout: PromptLayout | None = getattr(self.method, "layout", None)
        return layout if layout is None else self._worded(layout, layout.class_names)

    def _worded(self, layout: PromptLayout, texts: tuple[str, ...]) -> PromptLayout:
        text = self.backbone.text
        if bool((layout.ids[layout.slots >= 0] != text.tokenizer.filler).any()):
            return layout
        return text.layout(texts, n_ctx=text.count_tokens(PLAIN_WORDS), words=PLAIN_WORDS)

    def words(self, images: Tensor, pixels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Before and after, [C, D] or [B, C, D], for unit images as the method sees them [B, D]."""
        return self.words_before, self.words_after

    @torch.no_grad()
    def text_blocks(self) -> Tensor:
        """[L, C]: relative size of the shift of the end token behind every block; `Untold` where it cannot be told."""
        if self.text_tower_reason:
            raise Untold(self.text_tower_reason)
        if not self.learns_words:
            return torch.zeros(self.backbone.text.depth, len(self.method.class_names))
        prompts, layout, worded = self._text_prompts(), getattr(self.method, "layout", None), self.layout
        assert layout is not None
        assert worded is not None
        try:
            return shift(text_states(self.backbone, layout, prompts), text_states(self.backbone, worded)).blocks
        except PromptloupeError as error:
            raise Untold(error.what) from error

    def _text_prompts(self) -> list[Tensor]:
        if isinstance(self.method, DeepPrompt):
            return self.method.text_prompts()
        if isinstance(self.method, ContextPrompt):
            return [self.method.context()]
        raise Untold(f"{self.method.info.title} does not say which words went into which block.")

    # --- images -----------------------------------------------------------------

    @property
    def changes_image_tower(self) -> bool:
        """Whether images themselves are needed, as features of the frozen tower are not enough."""
        if isinstance(self.method, DeepPrompt):
            return bool(self.method.image_prompts())
        own = type(self.method).image_features is not PromptMethod.image_features
        return own and not self.method.frozen_images

    needs_pixels = changes_image_tower

    def walk(self, pixels: Tensor) -> States:
        """States of the changed image tower."""
        assert isinstance(self.method, DeepPrompt)
        return image_states(self.backbone, pixels, self.method.image_prompts())

    @torch.no_grad()
    def look(self, raw: Tensor, pixels: Tensor | None = None) -> Look:
        """B images, given as the frozen tower's features [B, D] and, where needed, as pixels [B, 3, H, W]."""
        raw, blocks = raw.to(self.backbone.device), self._still(len(raw))
        pixels = None if pixels is None else pixels.to(self.backbone.device)
        seen = raw
        if not self.changes_image_tower:
            after = self.method.adapt(raw) if self._adapts(raw) else raw
        elif self.image_blocks_reason:
            seen, blocks = required(pixels), None
            raw, after = self.backbone.encode_image(seen), self.method.image_features(seen)
        else:
            walked, free = self.walk(required(pixels)), image_states(self.backbone, required(pixels))
            blocks, seen, raw = shift(walked, free).blocks, walked.output, free.output
            after = self.method.adapt(seen)
        before = unit(raw)
        after = before if after is raw else unit(after)
        words_before, words_after = self.words(after, pixels)
        return Look(before, after, words_before, words_after, blocks, self.surgery(seen))

    def _adapts(self, raw: Tensor) -> bool:
        with torch.enable_grad():
            return bool(self.method.adapt(raw[:1]).requires_grad)

    def _still(self, images: int) -> Tensor | None:
        """No shift in any block; None where the tower has none."""
        blocks = len(self.backbone.vision.blocks)
        return torch.zeros(blocks, images) if blocks else None

    @property
    def image_blocks_reason(self) -> str:
        """Why nothing is told of the blocks of the image tower; empty where it is."""
        if not self.backbone.vision.blocks:
            return f"The blocks of the image tower cannot be told apart: {self.backbone.vision.reason}."
        own_way = type(self).walk is Reading.walk and not isinstance(self.method, DeepPrompt)
        if self.changes_image_tower and own_way and not self.image_tower_reason:
            return "It changes the image tower in its own way, so only the tower’s outputs are told."
        return self.image_tower_reason

    def surgery(self, features: Tensor) -> Tensor | None:
        return None

    @property
    def surgery_words(self) -> Tensor | None:
        """[C]: size of RESTORE's correction behind the text tower, relative to the feature."""
        return None


def unit(features: Tensor) -> Tensor:
    """Features at length 1, in double precision, as small shifts drown in single."""
    return F.normalize(features.detach().double(), dim=-1)


def apart(one: Tensor, other: Tensor) -> Tensor:
    """1 - cos of unit features [.., D], as half the squared distance: exactly 0 where they are equal."""
    return (one - other).square().sum(dim=-1) / 2
