"""PickScore: a CLIP fine-tuned on which images people picked (Kirstain et al., arXiv:2305.01569)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.backbones.runtime import Runtime
from engines.diffusion.golden.scorers.base import Scorer, to_images
from engines.errors import BackboneError


class PickScore(Scorer):
    """Cosine of image and prompt features times the model's learned scale."""

    name = "PickScore v1"

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval().requires_grad_(False), processor

    @torch.no_grad()
    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        given = self.processor(
            images=to_images(pixels), text=list(prompts), padding=True, truncation=True, return_tensors="pt"
        ).to(self.model.device)
        found = self.model(**given)
        scale: Tensor = self.model.logit_scale.exp()
        return (scale * F.cosine_similarity(found.image_embeds, found.text_embeds)).cpu()


def load(backbone: Backbone | None, device: str | None, files: list[Path]) -> PickScore:
    """From a folder with the released model and its processor.

    Raises:
        BackboneError: it is damaged.
    """
    from transformers import CLIPModel, CLIPProcessor

    folder = files[0]
    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever is wrong in files from elsewhere
        raise BackboneError(
            f"PickScore in “{folder}” cannot be read.",
            "Copy or download the folder again: model.safetensors, its config.json, and the files of the processor.",
            f"{type(error).__name__}: {error}",
        ) from error
    return PickScore(model.float().to(Runtime.choose(device).device), processor)
