"""Text-to-image models from folders in diffusers format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from engines.backbones.runtime import Runtime
from engines.diffusion.memory import memory_watched
from engines.diffusion.model import TextToImage
from engines.errors import BackboneError

_NEEDED = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
_REMEDY = "Choose a folder that holds a Stable Diffusion 1, 2 or SDXL model in diffusers format, with model_index.json."


def load_text_to_image(folder: Path | str, device: str | None = None, slicing: bool = False) -> TextToImage:
    """The model of a folder: in half precision on CUDA (the autoencoder excepted), else in full.

    Args:
        folder: with `model_index.json` and a sub-folder for every part, weights as safetensors.
        device: "cuda", "mps", "cpu"; the best one at hand by default.
        slicing: compute attention head by head, which needs less memory and more time.

    Raises:
        BackboneError: no such folder, another kind of model, damaged or unsafe files, or too little memory.
    """
    folder = Path(folder)
    kind = _kind(folder)
    place = Runtime.choose(device).device
    half = place.type == "cuda"
    options: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    try:
        with memory_watched():
            pipe = kind.from_pretrained(
                folder,
                dtype={"default": torch.float16 if half else torch.float32, "vae": torch.float32},
                variant=_variant(folder),
                local_files_only=True,
                use_safetensors=True,
                low_cpu_mem_usage=False,  # it would need the library accelerate
                **(options if kind is StableDiffusionPipeline else {}),
            ).to(place)
    except BackboneError:
        raise
    except Exception as error:  # whatever is wrong in files from elsewhere
        raise BackboneError(
            f"The model in '{folder}' cannot be read.",
            "Copy or download it again; its weights must be safetensors files.",
            f"{type(error).__name__}: {error}",
        ) from error
    model = TextToImage.from_pipeline(pipe)
    if slicing:
        model.unet.set_attention_slice("max")
    return model


def _kind(folder: Path) -> type[StableDiffusionPipeline] | type[StableDiffusionXLPipeline]:
    """The pipeline's class, from what `model_index.json` says of its parts."""
    index = folder / "model_index.json"
    try:
        parts = json.loads(index.read_text("utf-8"))
        classes = {name: part[1] for name, part in parts.items() if isinstance(part, list) and len(part) == 2}
    except FileNotFoundError as error:
        raise BackboneError(f"'{folder}' holds no text-to-image model.", _REMEDY, str(error)) from error
    except (OSError, ValueError, AttributeError) as error:
        raise BackboneError(f"'{index}' cannot be read.", "Copy or download the model again.", str(error)) from error
    wrong = [f"{name} is {classes.get(name)}" for name, needed in _NEEDED.items() if classes.get(name) != needed]
    if wrong:
        raise BackboneError(f"'{folder}' holds another kind of model: {', '.join(wrong)}.", _REMEDY)
    return StableDiffusionXLPipeline if classes.get("text_encoder_2") else StableDiffusionPipeline


def _variant(folder: Path) -> str | None:
    """Of weights that lie in several precisions the full ones; "fp16" where there is nothing else."""
    names = [path.name for path in (folder / "unet").glob("*.safetensors*")]
    return "fp16" if names and all(".fp16." in name for name in names) else None
