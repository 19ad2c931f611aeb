"""Kinds of damage, and how a PIP network is trained (no torch)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DAMAGES = ("noise", "rain", "haze", "blur", "low light")
"""In the order of the released code's numbers 0 to 4."""


class PipSettings(BaseModel):
    """The paper's objective and optimiser for a small host; a rate for one small batch, not for 8 GPUs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(16, ge=8, multiple_of=4, description="Channels of the host's first level.")
    mode: Literal["pip_cross_topm", "pip_cross", "convgate", "promptir_gate"] = Field(
        "pip_cross_topm", description="How the prompt acts on the features; the first is the paper's."
    )
    regulariser: Literal["angle", "cosine", "gram"] = Field("angle", description="Keeps the kinds' prompts apart.")
    alpha: float = Field(0.002, ge=0, description="Weight of the regulariser.")
    steps: int = Field(3000, ge=1)
    batch: int = Field(6, ge=1)
    patch: int = Field(64, ge=16, description="Side of the training patches in pixels.")
    rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warm_up: float = Field(1 / 12, ge=0, lt=1, description="Share of the steps in which the rate rises from a tenth.")
    checkpoint_every: int = Field(200, ge=1)
    seed: int = Field(0, ge=0)
