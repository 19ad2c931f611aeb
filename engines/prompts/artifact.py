"""A learned prompt on disk: `prompt.safetensors` (tensors) and `prompt.json` (what they belong to)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from engines.backbones import Backbone
from engines.errors import BackboneError, ConfigError
from engines.prompts.base import PromptMethod
from engines.prompts.registry import create_method

FORMAT = 1


def save_prompt(method: PromptMethod, folder: Path) -> Path:
    """Write `method` into `folder` (made where needed) and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in method.state_dict().items()}
    save_file(tensors, folder / "prompt.safetensors", metadata={"format": "pt"})
    described: dict[str, Any] = {
        "format": FORMAT,
        "method": method.info.name,
        "settings": method.config.model_dump(),
        "class_names": method.class_names,
        "backbone": {
            "name": method.backbone.name,
            "fingerprint": method.backbone.fingerprint,
            "embed_dim": method.backbone.embed_dim,
            "logit_scale": float(method.backbone.logit_scale),
        },
        "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
    }
    (folder / "prompt.json").write_text(json.dumps(described, indent=2, ensure_ascii=False), encoding="utf-8")
    return folder


def describe_prompt(folder: str | Path) -> dict[str, Any]:
    """The content of `prompt.json`.

    Raises:
        ConfigError: there is none, it is damaged, or a newer program wrote it.
    """
    file = Path(folder) / "prompt.json"
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        known = described["format"] <= FORMAT
    except FileNotFoundError:
        raise ConfigError(
            f"There is no learned prompt in “{Path(folder).name}”: the file prompt.json is missing.",
            "Choose the folder that holds prompt.json and prompt.safetensors.",
        ) from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(
            f"The file prompt.json in “{Path(folder).name}” is damaged.", "Export the prompt again.", str(error)
        ) from error
    if not known:
        raise ConfigError("This prompt was saved by a newer Promptloupe.", "Update Promptloupe.")
    return dict(described)


def load_prompt(folder: str | Path, backbone: Backbone) -> PromptMethod:
    """The method that `save` wrote, on `backbone`, in evaluation mode.

    Raises:
        ConfigError: files are missing or damaged.
        BackboneError: the prompt was learned on another model.
    """
    described = describe_prompt(folder)
    learned_on = described["backbone"]
    if learned_on["fingerprint"] != backbone.fingerprint:
        raise BackboneError(
            f"This prompt was learned on the model “{learned_on['name']}”, and “{backbone.name}” is not the same.",
            f"Load “{learned_on['name']}” with the weights that it had then.",
        )
    method = create_method(described["method"], backbone, described["class_names"], **described["settings"])
    try:
        method.load_state_dict(load_file(Path(folder) / "prompt.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ConfigError(
            f"The file prompt.safetensors in “{Path(folder).name}” is missing or damaged.",
            "Export the prompt again.",
            str(error),
        ) from error
    return method.eval()
