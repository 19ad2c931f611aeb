"""How golden noise is sampled, learnt and judged. Costs no torch, so that forms and options can be made of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Variant = Literal["intended", "slip"]
ADVANCED: dict[str, Any] = {"advanced": True}


class RedenoiseSettings(BaseModel):
    """How golden noise and the images that judge it are sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(
        10,
        ge=2,
        le=1000,
        title="Denoising steps",
        description="Of every image; the way back to golden noise spans one of them.",
    )
    guidance: float = Field(
        5.5, ge=0, le=100, title="Guidance", description="How strongly an image follows its prompt; 5 to 8 is usual."
    )
    inverse_guidance: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Guidance on the way back",
        description="1 hears the prompt without amplifying it.",
        json_schema_extra=ADVANCED,
    )
    rounds: int = Field(
        1,
        ge=1,
        le=20,
        title="Rounds",
        description="How many times down and back; the last one counts.",
        json_schema_extra=ADVANCED,
    )
    variant: Variant = Field(
        "intended",
        title="Level on the way back",
        description="“intended” comes back to the level that it left. “slip” does what the official code does with "
        "diffusers 0.23.1 and later: one level lower, with latents that are not there.",
        json_schema_extra=ADVANCED,
    )


class CollectSettings(RedenoiseSettings):
    """How pairs of noise and golden noise are collected."""

    each: int = Field(1, ge=1, le=10_000, title="Pairs per prompt", description="Each begins with other noise.")
    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        title="Seed",
        description="The same seed gives the same noises again.",
        json_schema_extra=ADVANCED,
    )
    height: int = Field(
        0,
        ge=0,
        le=4096,
        title="Image height in pixels",
        description="0: as the model was made for.",
        json_schema_extra=ADVANCED,
    )
    width: int = Field(
        0,
        ge=0,
        le=4096,
        title="Image width in pixels",
        description="0: as the model was made for.",
        json_schema_extra=ADVANCED,
    )
    batch: int = Field(
        4,
        ge=1,
        le=256,
        title="Pairs at once",
        description="More are quicker, and need more memory.",
        json_schema_extra=ADVANCED,
    )
    slicing: bool = Field(
        False,
        title="Attention slicing",
        description="Needs less memory and more time.",
        json_schema_extra=ADVANCED,
    )

    @property
    def sampling(self) -> RedenoiseSettings:
        return RedenoiseSettings(**{name: getattr(self, name) for name in RedenoiseSettings.model_fields})

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width in pixels; None where they are the model's own."""
        return self.height or None, self.width or None


class TrainSettings(BaseModel):
    """How an NPNet is trained; the defaults are the official ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(
        30, ge=1, le=100_000, title="Passes over the pairs", description="The best pass is kept, not the last one."
    )
    batch: int = Field(64, ge=1, le=4096, title="Pairs per step", description="Fewer need less memory.")
    learning_rate: float = Field(
        1e-4, gt=0, le=1, title="Step size", description="Of AdamW; too large overshoots, too small never arrives."
    )
    weight_decay: float = Field(
        0.01, ge=0, le=10, title="Weight decay", description="Pulls weights to 0.", json_schema_extra=ADVANCED
    )
    held_out: float = Field(
        0.1,
        gt=0,
        lt=1,
        title="Held-out share",
        description="Share of the prompts that are not trained with: the best pass is chosen by them.",
        json_schema_extra=ADVANCED,
    )
    margin: float | None = Field(
        0.0,
        title="Least gain",
        description="Only pairs whose golden image scores higher by more than this are learnt from; none: all pairs.",
    )
    seed: int = Field(
        0, ge=0, lt=2**31, title="Seed", description="Of the first weights and the order.", json_schema_extra=ADVANCED
    )


class NetworkSettings(TrainSettings):
    """The same, and which parts the network has."""

    svd: bool = Field(
        True,
        title="Branch of singular values",
        description="The part that the paper's gain rests on.",
        json_schema_extra=ADVANCED,
    )
    residual: Literal["auto", "small", "swin", "none"] = Field(
        "auto",
        title="Residual branch",
        description="Image network of the second branch: a small one for small latents, the paper's Swin, or none.",
        json_schema_extra=ADVANCED,
    )

    @property
    def training(self) -> TrainSettings:
        return TrainSettings(**{name: getattr(self, name) for name in TrainSettings.model_fields})


class JudgeSettings(BaseModel):
    """What standard, golden and predicted noise are compared on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    each: int = Field(1, ge=1, le=10_000, title="Images per prompt", description="Each begins with other noise.")
    most: int = Field(
        100,
        ge=1,
        le=100_000,
        title="Comparisons, at most",
        description="More make the interval narrower: ±13% at 60, ±10% at 100.",
    )
    seed: int = Field(
        1,
        ge=0,
        lt=2**31,
        title="Seed",
        description="Other than that of the pairs: noises must be new.",
        json_schema_extra=ADVANCED,
    )
