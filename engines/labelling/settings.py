"""How the images of a data set are labelled: one definition for the form, the command line and the job."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.errors import ConfigError, DataError
from engines.store.models import Dataset
from engines.store.workspace import Workspace


class LabelSettings(BaseModel):
    """Kept with the data set, in `Dataset.labelling`."""

    model_config = ConfigDict(extra="forbid")

    strategy: str = Field(
        "entropy", max_length=40, title="Strategy", description="What makes an image worth asking about."
    )
    balanced: bool = Field(
        True,
        title="Balance the classes",
        description="Pick images so that every class gets its share (PCB). Without it, rare classes tend to be missed.",
    )
    rule: Literal["corrected", "official"] = Field(
        "corrected",
        title="Balancing rule",
        description="“official” is the paper's code; “corrected” passes over a class that the pool has no more of.",
        json_schema_extra={"advanced": True},
    )
    budget: int = Field(20, ge=1, le=5000, title="Images per round", description="How many images a batch asks for.")
    seed: int = Field(
        1,
        ge=0,
        lt=2**31,
        title="Seed",
        description="The same seed and labels give the same batch.",
        json_schema_extra={"advanced": True},
    )
    backbone: str = Field("mini-clip", max_length=300, title="Backbone", description="The model that sees the images.")
    method: str = Field("coop", max_length=60, title="Method", description="How the prompt is learned between rounds.")
    start: Literal["fresh", "warm"] = Field(
        "fresh",
        title="Start of each round",
        description="“fresh” learns the prompt anew every round, as the paper does; “warm” goes on from the last one.",
        json_schema_extra={"advanced": True},
    )
    blind: bool = Field(
        True,
        title="Blind",
        description="Show no suggestion of the model and no earlier label before the verdict, as studies require.",
    )
    second_share: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Share read twice",
        description="Share of each batch that a second reader reads too, without seeing the first verdict.",
    )
    repeat_share: float = Field(
        0.0,
        ge=0,
        le=0.5,
        title="Share repeated",
        description="Share of each batch that is shown to the same reader once more, to see whether the answer stays.",
    )


def label_settings(workspace: Workspace, dataset_id: int) -> LabelSettings:
    """How this data set is labelled. Values that are missing, or that this version does not know, are the defaults.

    Raises:
        DataError: there is no such data set.
    """
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None or dataset.deleted_at is not None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        kept = dataset.labelling
    return LabelSettings(**{name: value for name, value in kept.items() if _fits(name, value)})


def _fits(name: str, value: Any) -> bool:
    try:
        LabelSettings(**{name: value})
    except ValidationError:
        return False
    return True


def save_label_settings(workspace: Workspace, dataset_id: int, settings: LabelSettings) -> None:
    """Keep how this data set is labelled.

    Raises:
        ConfigError: a value lies outside its limits.
        DataError: there is no such data set.
    """
    try:
        checked = LabelSettings.model_validate(settings.model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"The setting “{first['loc'][0]}”: {first['msg'].lower()}.", "Change it.") from error
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None or dataset.deleted_at is not None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        dataset.labelling = checked.model_dump()
