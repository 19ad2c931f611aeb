"""What can be asked of a picture under study. Torch-free: the same models check forms, commands and jobs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from engines.diffusion.settings import EditSettings, RepairSettings

Kind = Literal["swap", "refine", "weight"]
Places = Literal["words", "masks", "everywhere"]


class Machine(BaseModel):
    """How much memory may be used, and where."""

    model_config = ConfigDict(extra="forbid")

    slicing: bool = Field(False, description="Compute attention head by head: less memory, more time.")
    device: Literal["best", "cpu"] = Field(
        "best", description="The processor has more memory than many graphics cards."
    )


class MapsRequest(Machine):
    """Where every word of the caption looks."""

    study: str = Field(description="Id of the picture with its caption.")


class RepairRequest(Machine):
    """Dynamic Prompt Learning for chosen words."""

    study: str
    words: list[int] = Field(max_length=20, description="Numbers of the words that are objects, from 0.")
    masks: bool = Field(False, description="Whether the words are bound to their masks (LocInv), not to each other.")
    adjectives: dict[int, int] = Field({}, description="With masks: number of an object's word: of its adjective.")
    settings: RepairSettings = RepairSettings()


class EditRequest(Machine):
    """An edit, made by plain Prompt-to-Prompt, after null-text inversion, and after the repair."""

    study: str
    repair: str = Field(description="Id of the repair.")
    prompt: str = Field(max_length=2000, description="The edited caption.")
    kind: Kind = Field("swap", description="Swap words one for one, add words, or weight words of the same caption.")
    weights: dict[int, float] = Field({}, description="Numbers of words of the edited caption: factor of attention.")
    bound: list[int] = Field(
        [],
        description="With added words: numbers of words that look where the word at their place in the caption looks.",
    )
    where: Places = Field(
        "words", description="Where the picture may change: where the words look, in masks, anywhere."
    )
    settings: EditSettings = EditSettings()
    backbone: str = Field("mini-clip", description="Model that judges how well picture and caption fit.")
