"""How an enhancer is trained, and the order of the stages (no torch: pages read this)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Padding = Literal["reflect", "zeros"]


class Stage(StrEnum):
    """Stages A to D of CLIP-LIT, and the end."""

    PROMPT = "prompt initialisation"
    WARM_UP = "warm-up"
    ENHANCE = "enhancement"
    REFINE = "prompt refinement"
    DONE = "done"


class TrainSettings(BaseModel):
    """The defaults are the release's, but for one number of rounds: it counts passes and ends anywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    guidance: Literal["prompt", "latent", "rave"] = Field(
        "prompt", description="Learned prompts, two free vectors, or RAVE's direction between the two folders."
    )
    rounds: int = Field(5, ge=1, description="How often enhancement and prompt refinement alternate.")
    prompt_steps: int = Field(8000, ge=1)
    warm_up_steps: int = Field(1000, ge=0, description="Learning to leave photos as they are.")
    enhance_steps: int = Field(2100, ge=1, description="In each round.")
    refine_steps: int = Field(1000, ge=1, description="In each round.")
    extensions: int = Field(10, ge=0, description="How often a stage with too high a loss is prolonged at most.")
    network_rate: float = Field(2e-5, gt=0)
    prompt_rate: float | None = Field(None, gt=0, description="None: 5e-6 for prompts, 5e-4 for free vectors.")
    weight_decay: float = Field(1e-3, ge=0)
    batch: int = Field(8, ge=1)
    prompt_batch: int = Field(16, ge=1)
    n_ctx: int = Field(16, ge=1)
    order: Literal["improving", "released"] = Field(
        "improving", description="Of results in the refinement; “released” ranks the newest below the one before."
    )
    padding: Padding = "zeros"
    antialias: bool = Field(False, description="Smooth when images are made smaller for the model.")
    start: Literal["drawn", "unit"] = Field(
        "drawn", description="The light map begins as drawn at random (release), or near 1, which never fails."
    )
    size: int = Field(512, ge=32, description="Side of the training photos in pixels.")
    checkpoint_every: int = Field(200, ge=1)
    seed: int = Field(0, ge=0)

    @property
    def guidance_rate(self) -> float:
        return self.prompt_rate or (5e-6 if self.guidance == "prompt" else 5e-4)

    def first(self) -> tuple[Stage, int]:
        """The first stage and its round; rounds count from 1, and the stages before them have round 0."""
        if self.guidance != "rave":
            return Stage.PROMPT, 0
        return (Stage.WARM_UP, 0) if self.warm_up_steps else (Stage.ENHANCE, 1)

    def after(self, stage: Stage, number: int) -> tuple[Stage, int]:
        """Stage and round that follow; the last is an enhancement, since nothing would use a further refinement."""
        if stage is Stage.PROMPT and self.warm_up_steps:
            return Stage.WARM_UP, 0
        if stage in (Stage.PROMPT, Stage.WARM_UP):
            return Stage.ENHANCE, 1
        if stage is Stage.REFINE:
            return Stage.ENHANCE, number + 1
        if stage is Stage.ENHANCE and number < self.rounds and self.guidance != "rave":
            return Stage.REFINE, number
        return Stage.DONE, number

    def steps(self, stage: Stage) -> int:
        """Steps of a stage that is not prolonged."""
        if stage is Stage.ENHANCE and self.guidance == "rave":
            return self.enhance_steps * self.rounds
        counts = {
            Stage.PROMPT: self.prompt_steps,
            Stage.WARM_UP: self.warm_up_steps,
            Stage.ENHANCE: self.enhance_steps,
            Stage.REFINE: self.refine_steps,
        }
        return counts.get(stage, 0)
