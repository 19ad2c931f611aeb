"""How leakage is repaired and images are edited: every setting, with its limits and what it does. Torch-free.

Constants of the losses are those of DPL's supplement (Wang et al., arXiv:2309.15664), and for masks those of LocInv's
code (Tang et al., arXiv:2405.01496).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FIFTY = 50
"""Steps of the papers' runs, in which thresholds, learning rates and tolerances are stated."""
CLUSTERS = 5
LEAST_ATTENTION = 0.2


class TermSettings(BaseModel):
    """A loss's weight, and its threshold beta * exp(-i / alpha) at step i of 50."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(ge=0, allow_inf_nan=False)
    alpha: float = Field(gt=0, allow_inf_nan=False)
    beta: float = Field(ge=0, allow_inf_nan=False)

    def threshold(self, step: float) -> float:
        """The largest value that needs no further update; it falls from step to step."""
        return self.beta * math.exp(-step / self.alpha)


class LeakageSettings(BaseModel):
    """DPL's losses, constants of its supplement."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    balancing: TermSettings = TermSettings(weight=1.0, alpha=25, beta=0.3)
    disjoint: TermSettings = TermSettings(weight=0.05, alpha=25, beta=0.9)
    background: TermSettings = TermSettings(weight=0.05, alpha=50, beta=0.7)


class MaskSettings(BaseModel):
    """LocInv's losses, defaults of its code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    similarity: TermSettings = TermSettings(weight=1.0, alpha=50, beta=0.7)
    overlap: TermSettings = TermSettings(weight=1.0, alpha=25, beta=0.7)
    binding: TermSettings = TermSettings(weight=2.0, alpha=50, beta=0.1)


@dataclass(frozen=True, slots=True)
class TokenSchedule:
    """How words are learned at one level."""

    steps: int
    """Updates at most."""
    pace: float
    """Step of 50, for the thresholds."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    whole: bool = False
    """Whether the UNet is run to its end, as the official code does, though only its maps are read."""


@dataclass(frozen=True, slots=True)
class NullSchedule:
    """How the empty prompt is learned at one level."""

    steps: int
    """Updates at most."""
    learning_rate: float
    """Adam's."""
    tolerance: float | None = None
    """Stop before an update where the loss is smaller; never stop for None."""
    cached: bool = True
    """Whether the caption's prediction is used again rather than made in every step, as the official code of DPL does;
    the numbers are the same."""
    best: bool = True
    """Whether the best of all is kept, rather than what came last: then nothing is ever worse than at the start."""


class RepairSettings(BaseModel):
    """How a repair is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Literal["fast", "official"] = Field(
        "fast",
        description="Fast reuses what does not change and stops when the image is reached. Official does every step of "
        "the official code of DPL: its reference numbers are made so.",
    )
    steps: int = Field(50, ge=1, le=1000, description="Steps of the diffusion, there and back.")
    guidance: float = Field(7.5, ge=1, le=50, description="Scale of classifier-free guidance.")
    attention_steps: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Updates of the words at most, for each step; 0 leaves them as they are (null-text inversion). "
        "By default 21, and 31 where masks are given.",
    )
    null_steps: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Updates of the empty prompt at most, for each step. By default 10, and 51 in the official "
        "schedule.",
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Of the words.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Of the words.")
    leakage: LeakageSettings = LeakageSettings()
    masks: MaskSettings = MaskSettings()
    clusters: int = Field(CLUSTERS, ge=2, le=20, description="Into which the image is divided to find the background.")
    background_below: float = Field(
        LEAST_ATTENTION, ge=0, le=1, description="Attention of the words below which a cluster is background."
    )

    @property
    def learns_words(self) -> bool:
        """Whether words are learned at all; without it this is null-text inversion."""
        return self.attention_steps != 0

    @property
    def official(self) -> bool:
        return self.schedule == "official"

    @property
    def image_seed(self) -> int | None:
        """The official inversion samples the autoencoder's posterior; null-text inversion takes the mean."""
        return 0 if self.official else None

    def pace(self, step: int) -> float:
        """A step's number in a run of 50, of which the papers state thresholds; the official code does not convert."""
        return float(step) if self.official else step * FIFTY / self.steps

    def token_schedule(self, step: int, masks: bool) -> TokenSchedule:
        """How words are learned at a step, with or without given masks."""
        steps = (31 if masks else 21) if self.attention_steps is None else self.attention_steps
        return TokenSchedule(steps, self.pace(step), self.learning_rate, self.weight_decay, whole=self.official)

    def null_schedule(self, step: int) -> NullSchedule:
        """How the empty prompt is learned at a step.

        Fast: null-text inversion's 10 updates and tolerance. Its learning rate of 0.01 is for an empty prompt near its
        goal; four times that comes as near in 10 updates as 0.01 in 20.
        """
        pace = self.pace(step)
        slower = 1 - pace / (2 * FIFTY)
        if self.official:
            return NullSchedule(
                51 if self.null_steps is None else self.null_steps, 0.01 * slower, cached=False, best=False
            )
        return NullSchedule(
            10 if self.null_steps is None else self.null_steps, 0.04 * slower, tolerance=1e-5 + 2e-5 * pace
        )


class EditSettings(BaseModel):
    """How strongly an edited image is bound to its source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    behaviour: Literal["recommended", "official"] = Field(
        "recommended",
        description="Recommended is Prompt-to-Prompt with its known faults corrected. Official does what the published "
        "code of DPL does, faults included: its reference numbers are made so.",
    )
    cross_until: float = Field(
        0.8, ge=0, le=1, description="Share of the steps in which words look where the source's words look."
    )
    self_until: float = Field(
        0.4, ge=0, le=1, description="Share of the steps in which the layout of the source is taken (self-attention)."
    )
    self_side: int | None = Field(
        None,
        ge=1,
        description="Finest self-attention that is taken; by default that of the word maps, 16 for Stable Diffusion 1.",
    )

    @property
    def official(self) -> bool:
        return self.behaviour == "official"
