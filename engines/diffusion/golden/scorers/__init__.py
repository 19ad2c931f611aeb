"""What tells which of two images is better for a prompt: one file a scorer, named in `SCORERS`.

Importing this package costs no torch, so that scorers can be listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from engines.backbones.places import WEIGHT_SUFFIXES, models_folder
from engines.errors import BackboneError, ConfigError

if TYPE_CHECKING:
    from engines.backbones import Backbone
    from engines.diffusion.golden.scorers.base import Scorer


class Load(Protocol):
    """The function `load` of every scorer's file."""

    def __call__(self, backbone: Backbone | None, device: str | None, files: list[Path]) -> Scorer:
        """A scorer with a backbone that is loaded already, or from `files`, those of `Listed.needs`."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A scorer that can be chosen."""

    title: str
    about: str
    module: str
    needs: tuple[str, ...] = ()
    """Files or folders in the models folder; without an ending: a weight file with any of the usual ones."""
    package: str = ""
    """A Python package of others that it is."""


SCORERS: dict[str, Listed] = {
    "clip": Listed(
        "CLIP score", "How well an image and its prompt agree. It judges what is there, not looks.", "clip_score"
    ),
    "scenes": Listed(
        "Check by rules",
        "Whether the right colours and shapes are there; only for captions of the mini world.",
        "scenes",
    ),
    "hpsv2": Listed("HPS v2.1", "What people preferred, by a large CLIP.", "hpsv2", ("HPS_v2.1_compressed.pt",)),
    "pickscore": Listed("PickScore", "What people picked, by a CLIP.", "pickscore", ("PickScore_v1",)),
    "image-reward": Listed(
        "ImageReward",
        "What people preferred, by BLIP.",
        "image_reward",
        ("ImageReward.pt", "med_config.json"),
        "ImageReward",
    ),
    "aesthetic": Listed(
        "Aesthetic score",
        "How much people like such pictures, whatever the prompt.",
        "aesthetic",
        ("sac+logos+ava1-l14-linearMSE.pth", "ViT-L-14--openai"),
    ),
}


def missing(name: str) -> str:
    """A sentence saying what the scorer lacks on this machine and where it belongs; empty where nothing lacks.

    Raises:
        ConfigError: there is no such scorer.
    """
    if name not in SCORERS:
        raise ConfigError(f"There is no scorer “{name}”.", f"Choose one of {', '.join(SCORERS)}.")
    listed = SCORERS[name]
    lacking = [need for need in listed.needs if _find(need) is None]
    if lacking:
        named = " and ".join(f"“{need}”" for need in lacking)
        return f"{listed.title} needs {named}, which this machine lacks: put it into {models_folder()}."
    if listed.package and find_spec(listed.package) is None:
        return f"{listed.title} needs the Python package {listed.package}, which is not installed."
    return ""


def load_scorer(name: str, backbone: Backbone | None = None, device: str | None = None) -> Scorer:
    """A scorer by its name in `SCORERS`.

    Args:
        name: "clip" needs a backbone.
        backbone: a CLIP model that is loaded already.
        device: for scorers with weights of their own; the best one at hand by default.
    Raises:
        ConfigError: there is no such scorer, or no backbone.
        BackboneError: its weights are not on the disk, or damaged.
    """
    if lacking := missing(name):
        raise BackboneError(lacking, "Until then choose the CLIP score, which works with any backbone.")
    listed = SCORERS[name]
    load = cast(Load, import_module(f"{__name__}.{listed.module}").load)
    return load(backbone, device, [path for need in listed.needs if (path := _find(need))])


def _find(need: str) -> Path | None:
    candidates = [models_folder() / f"{need}{suffix}" for suffix in ("", *WEIGHT_SUFFIXES)]
    return next((path for path in candidates if path.exists()), None)
