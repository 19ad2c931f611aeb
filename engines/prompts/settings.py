"""Settings as pydantic models. One definition makes the form, the command-line option, the validation and the docs.

Nothing here imports torch, so that the workbench can use it directly.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.errors import ConfigError

Protocol = Literal[
    "few-shot", "base-to-new", "cross-dataset", "domain-generalisation", "unsupervised", "zero-shot-anomaly"
]
"""few-shot: train and test on all classes. base-to-new: train on the first half, test on both halves separately.
cross-dataset: train on one data set, test on others with their own classes. domain-generalisation: train on some
domains of a data set, test on the others. unsupervised: train on images without labels. zero-shot-anomaly: train on a
data set with marked defects, find defects in others."""


class MethodConfig(BaseModel):
    """Base of every method's settings. Each field carries a title, a sentence on what it does, and its limits."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class TrainingConfig(BaseModel):
    """How a prompt is trained. The defaults are CoOp's (and, with it, most of the field's)."""

    model_config = ConfigDict(extra="forbid")

    epochs: int = Field(
        200, ge=1, le=10_000, title="Passes over the images", description="How often each labelled image is used."
    )
    batch_size: int = Field(
        32,
        ge=1,
        le=4096,
        title="Images per step",
        description="How many images are looked at before each small correction.",
    )
    learning_rate: float = Field(
        0.002,
        gt=0,
        le=10,
        title="Step size",
        description="How large each correction is; too large overshoots, too small never arrives.",
    )
    views: int = Field(
        8,
        ge=0,
        le=1000,
        title="Cropped views per image",
        description="Random crops that are prepared once per image. 0 draws a fresh crop for every step, as the papers"
        " do: slower, sometimes a little better.",
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field(
        "sgd", title="Optimiser", description="SGD is what the papers use.", json_schema_extra={"advanced": True}
    )
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        title="Momentum",
        description="How much of the last correction is kept (SGD only).",
        json_schema_extra={"advanced": True},
    )
    weight_decay: float = Field(
        5e-4,
        ge=0,
        le=1,
        title="Weight decay",
        description="Pulls learned values gently towards zero.",
        json_schema_extra={"advanced": True},
    )
    epsilon: float = Field(
        1e-8,
        gt=0,
        le=1,
        title="Epsilon",
        description="Keeps corrections small where there is hardly any slope (Adam and AdamW only).",
        json_schema_extra={"advanced": True},
    )
    beta1: float = Field(
        0.9,
        ge=0,
        lt=1,
        title="Beta 1",
        description="How much of the last corrections is kept (Adam and AdamW only).",
        json_schema_extra={"advanced": True},
    )
    schedule: Literal["cosine", "cosine-steps", "constant"] = Field(
        "cosine",
        title="Schedule",
        description="Whether the step size falls along a cosine, pass by pass or (cosine-steps) step by step.",
        json_schema_extra={"advanced": True},
    )
    warmup_epochs: int = Field(
        1,
        ge=0,
        le=1000,
        title="Warm-up passes",
        description="First passes with a very small step size.",
        json_schema_extra={"advanced": True},
    )
    warmup_learning_rate: float = Field(
        1e-5,
        gt=0,
        le=10,
        title="Warm-up step size",
        description="Step size of the warm-up passes.",
        json_schema_extra={"advanced": True},
    )
    augmentation: Literal["none", "crops", "randaugment", "randaugment-mild"] = Field(
        "crops",
        title="Training views",
        description="How images are altered for training: not at all, cut out at random, or (randaugment) shown whole"
        " with two random changes such as turning, shifting or other colours. The mild form leaves out what may destroy"
        " what matters in medical images: inverted, solarised, posterised and equalised tones and covered places.",
        json_schema_extra={"advanced": True},
    )
    crop_scale: float = Field(
        0.08,
        gt=0,
        le=1,
        title="Smallest crop",
        description="Smallest share of an image that a crop may show. Raise it where small crops hide what matters.",
        json_schema_extra={"advanced": True},
    )
    flip: bool = Field(
        True,
        title="Mirror images",
        description="Whether crops are mirrored at random. Switch off where left and right differ.",
        json_schema_extra={"advanced": True},
    )

    def rate(self, epoch: float) -> float:
        """Learning rate of `epoch` (from 0; 1.5 is amid the second): constant warm-up, then Dassl's cosine.

        The cosine begins after the warm-up but spans all epochs, so it never reaches zero (official behaviour of
        Dassl's `ConstantWarmupScheduler` around `CosineAnnealingLR`).
        """
        from math import cos, pi

        if epoch < self.warmup_epochs:
            return self.warmup_learning_rate
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + cos(pi * (epoch - self.warmup_epochs) / self.epochs)) / 2


def problems_in_words(error: ValidationError) -> list[dict[str, str]]:
    """Pydantic's complaints as `{"field", "message"}` with the value that was given."""
    return [
        {
            "field": ".".join(str(part) for part in item["loc"]) or "settings",
            "message": f"{item['msg']} (got {item['input']!r})",
        }
        for item in error.errors(include_url=False)
    ]


def parse(model: type[BaseModel], values: dict[str, Any], what: str) -> Any:
    """`model(**values)`, or a `ConfigError` that names each field, what is wrong with it and what exists."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        listed = "; ".join(f"{p['field']}: {p['message']}" for p in problems_in_words(error))
        raise ConfigError(
            f"The settings of {what} do not fit: {listed}.", f"Settings are: {', '.join(model.model_fields)}."
        ) from error
