"""What an edit begins with, and what is wanted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from engines.diffusion.dynamic import DynamicTokens, Rows
from engines.diffusion.mappers import Share
from engines.diffusion.model import TextToImage
from engines.diffusion.settings import EditSettings as EditSettings
from engines.diffusion.state import RepairState
from engines.errors import ConfigError

Names = Sequence[str | int]
"""Words of a caption by text or number."""


@dataclass(frozen=True, slots=True)
class EditStart:
    """The source of an edit."""

    prompt: str
    """Its caption."""
    latents: Tensor
    """[1, C, h, w] noise, from which the source is reached."""
    steps: int
    guidance: float = 7.5
    """Scale of classifier-free guidance; empty prompts reach the image only with the one they were learned for."""
    unconditional: Sequence[Tensor] = ()
    """States [1, T, W] of the empty prompt, one for each step; that of "" if there are none."""
    tokens: Sequence[Rows] = ()
    """Repaired embeddings of the caption's tokens at `positions`, one for each step; see `DynamicTokens`."""
    positions: Sequence[int] = ()

    @classmethod
    def from_repair(cls, model: TextToImage, state: RepairState, plain: bool = False) -> EditStart:
        """What a repair found: DPL's tokens and empty prompts, or null-text inversion's if no token was learned.

        Args:
            model: with which it was done.
            state: finished; only inverted, if `plain`.
            plain: nothing but the inverted latents, as the first Prompt-to-Prompt.

        Raises:
            ConfigError: the repair is not finished as far as is needed.
        """
        if not (state.inverted if plain else state.finished):
            raise ConfigError("The image is not ready to be edited.", "Let the repair finish first.")
        latents, settings = state.trajectory[-1], state.settings
        if plain:
            return cls(state.prompt, latents, settings.steps, settings.guidance)
        caption = model.caption(state.prompt)
        words = [caption.find(name) for name in (*state.nouns, *state.adjectives.values())]
        positions = DynamicTokens(model.embed([state.prompt]), words).positions
        return cls(
            state.prompt, latents, settings.steps, settings.guidance, state.unconditional, state.tokens, positions
        )


@dataclass(frozen=True, slots=True)
class BlendPlaces:
    """Where an edit may change the image: where words look, or inside a mask that somebody drew."""

    source: Names = ()
    """Words of the source's caption."""
    edited: Names = ()
    """Words of the edited caption."""
    without_source: Names = ()
    """Words whose places are left out."""
    without_edited: Names = ()
    threshold: float = 0.3
    """Of a map's maximum; above it is inside."""
    without_threshold: float = 0.3
    start: float = 0.2
    """Share of the steps after which it begins: the first maps are blurred. A mask holds from the beginning."""
    mask: Tensor | None = None
    """[H, W], above 0 inside, the same square as the image; instead of words."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What is wanted."""

    prompt: str
    """The edited caption."""
    kind: Literal["swap", "refine"] = "swap"
    """`swap`: as many words as before, some of them others (or none, to weight words). `refine`: words are added."""
    weights: Mapping[str | int, float] = field(default_factory=dict)
    """Words of the edited caption: factor of their attention."""
    words: Mapping[str | int, Share] = field(default_factory=dict)
    """Words of the edited caption whose attention is taken in another share of the steps than the rest."""
    blend: BlendPlaces | None = None
    bound: Names = ()
    """With `refine`: words of the edited caption that look where the source's tokens at their positions look."""
