"""Where models lie on this machine."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

CONFIG = "open_clip_config.json"
SHIPPED = "mini-clip"
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def models_folder() -> Path:
    """Where a person puts models by hand: PROMPTLOUPE_MODELS, else a folder of the user's cache."""
    return Path(os.environ.get("PROMPTLOUPE_MODELS") or Path.home() / ".cache" / "promptloupe" / "models").expanduser()


def local_models() -> dict[str, Path]:
    """Folders of complete models by name: shipped ones, then those in the models folder."""
    found: dict[str, Path] = {}
    for parent in (Path(str(resources.files("assets"))) / "models", models_folder()):
        if parent.is_dir():
            for folder in sorted(parent.iterdir()):
                if (folder / CONFIG).is_file():
                    found.setdefault(folder.name, folder)
    return found


def weights_by_hand(architecture: str, tag: str) -> Path | None:
    """`<architecture>--<tag>.safetensors` (or .pt, .bin, …) in the models folder, if somebody put it there."""
    for suffix in WEIGHT_SUFFIXES:
        path = models_folder() / f"{architecture}--{tag}{suffix}"
        if path.is_file():
            return path
    return None
