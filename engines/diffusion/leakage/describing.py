"""A caption for a picture, by a BLIP model that somebody put on the disk (Li et al., arXiv:2201.12086)."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BlipForConditionalGeneration, BlipProcessor

from engines.data.images import load_image
from engines.diffusion.memory import memory_watched
from engines.errors import BackboneError

LONGEST = 40
"""Tokens of a caption."""


@torch.no_grad()
def describe(picture: Path, folder: Path) -> str:
    """What the picture shows, in a few words.

    Args:
        picture: an image file.
        folder: of a BLIP captioning model with safetensors weights.

    Raises:
        DataError: the picture cannot be read.
        BackboneError: the model cannot be read, or the memory is too small.
    """
    image = load_image(picture)
    try:
        processor = BlipProcessor.from_pretrained(folder, local_files_only=True)
        model = BlipForConditionalGeneration.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except Exception as error:  # whatever is wrong in files from elsewhere
        raise BackboneError(
            f"The captioning model “{folder.name}” cannot be read.",
            "Copy or download it again (with model.safetensors), or type the caption.",
            f"{type(error).__name__}: {error}",
        ) from error
    with memory_watched():
        found = model.eval().generate(**processor(images=image, return_tensors="pt"), max_new_tokens=LONGEST)
    return str(processor.decode(found[0], skip_special_tokens=True)).strip()
