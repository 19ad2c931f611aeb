"""Text-to-image models that lie on this machine, in diffusers format. Torch-free."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from engines.backbones.places import models_folder
from engines.errors import BackboneError

SHIPPED = "mini-diffusion"
INDEX = "model_index.json"
WHERE = "Put a Stable Diffusion folder (1, 2 or SDXL, diffusers format) into the models folder, or give its place."


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder with `model_index.json`; whether its parts can be used is told when it is loaded."""

    name: str
    """The folder's own."""
    path: Path

    @property
    def image_side(self) -> int:
        """Pixels to a side of the images that the model was made for.

        Raises:
            BackboneError: the folder says nothing of it.
        """
        try:
            unet, vae = (self._config(part) for part in ("unet", "vae"))
            return int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackboneError(
                f"The model in the folder “{self.name}” cannot be read: it does not say how large its images are.",
                "Copy or download it again.",
                f"{type(error).__name__}: {error}",
            ) from error

    def _config(self, part: str) -> dict[str, Any]:
        return dict(json.loads((self.path / part / "config.json").read_text("utf-8")))


def text_to_image_models() -> dict[str, ModelFolder]:
    """Models by name: the shipped one first, then those in the models folder."""
    found: dict[str, ModelFolder] = {}
    for parent in (Path(str(resources.files("assets"))) / "models", models_folder()):
        for index in sorted(parent.glob(f"*/{INDEX}")):
            found.setdefault(index.parent.name, ModelFolder(index.parent.name, index.parent))
    return found


def find_text_to_image(name: str) -> ModelFolder:
    """The model of that name, or in that folder.

    Raises:
        BackboneError: there is none.
    """
    known = text_to_image_models()
    if name in known:
        return known[name]
    folder = Path(name).expanduser()
    if name and (folder / INDEX).is_file():
        return ModelFolder(folder.name, folder.resolve())
    there = f"There are: {', '.join(known)}. {WHERE}" if known else WHERE
    raise BackboneError(f"There is no text-to-image model “{folder.name or name}”.", there, str(folder))


def find_captioner() -> Path | None:
    """The first folder of a BLIP captioning model in the models folder; None where nobody put one there."""
    for file in sorted(models_folder().glob("*/config.json")):
        try:
            if json.loads(file.read_text("utf-8")).get("model_type") == "blip":
                return file.parent
        except (OSError, ValueError, AttributeError):
            continue
    return None
