"""What pages and commands ask of the enhancement: one definition for job, form and command line. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from engines.enhance.settings import TrainSettings

PREVIEW_SIDE = 1280
"""Longest side in pixels of what a page shows."""


class EnhanceRequest(BaseModel):
    """Photos enhanced at full resolution into a folder."""

    model_config = ConfigDict(extra="forbid")

    photos: list[str] = Field(min_length=1, max_length=100_000)
    """Files; a folder stands for the photos directly in it."""
    methods: list[str] = Field(min_length=1, max_length=24)
    out: str = Field(min_length=1)
    """Folder, absolute or in the workspace; of several methods each gets a folder in it."""
    strength: float = Field(1.0, ge=0, le=1)
    kind: Literal["png", "tif"] = "png"
    native: bool = False
    """Light maps at the photo's own size: slow, and hardly better."""
    measurements: bool = False
    """Whether somebody confirmed that 16-bit and DICOM images, often measurements, may be changed."""
    reference: str = ""
    """Folder with well-lit originals of the same names, to measure PSNR and SSIM against."""


class LookRequest(BaseModel):
    """One photo enhanced for the screen."""

    model_config = ConfigDict(extra="forbid")

    group: str = Field(pattern=r"^[0-9a-f]{12}$")
    """Of photos; see `groups.new_group`."""
    place: int = Field(ge=0)
    """Of the photo in its group."""
    methods: list[str] = Field(max_length=24)
    strength: float = Field(1.0, ge=0, le=1)
    measurements: bool = False
    numbers: bool = True
    """Whether lightness order and p(well-lit) are wanted, too."""
    reference: str = ""
    """Folder with well-lit originals of the same names, to measure PSNR and SSIM against."""


class AddRequest(BaseModel):
    """A file of weights that becomes a method of the workspace."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(min_length=1)
    name: str = Field("", max_length=80)


class EnhancerRequest(BaseModel):
    """An enhancer trained on somebody's own photos."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    """Of its folder; the same id goes on where an earlier attempt stopped."""
    name: str = Field(min_length=1, max_length=80)
    kind: Literal["clip-lit", "zero-dce"] = "clip-lit"
    backlit: str = Field(min_length=1)
    well_lit: str = ""
    """Folders; Zero-DCE needs no well-lit photos."""
    backbone: str = "mini-clip"
    settings: TrainSettings = TrainSettings()


LENGTHS: dict[str, TrainSettings] = {
    "A quick trial": TrainSettings(
        rounds=2,
        prompt_steps=300,
        warm_up_steps=60,
        enhance_steps=80,
        refine_steps=100,
        extensions=2,
        network_rate=2e-4,
        prompt_rate=2e-3,
        batch=4,
        size=96,
        start="unit",
        checkpoint_every=50,
    ),
    "A good hour": TrainSettings(
        rounds=4,
        prompt_steps=2000,
        warm_up_steps=200,
        enhance_steps=400,
        refine_steps=400,
        network_rate=1e-4,
        prompt_rate=1e-3,
        batch=4,
        size=160,
        start="unit",
        checkpoint_every=50,
    ),
    "As in the paper": TrainSettings(),
}
"""How long to train, in words that a person chooses from. Only the last is the release's recipe, for graphics cards."""
