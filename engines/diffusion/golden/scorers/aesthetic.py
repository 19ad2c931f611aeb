"""LAION's aesthetic predictor: a head on CLIP ViT-L/14 that says how much people like a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone, load_backbone
from engines.backbones.weights import read_state_dict
from engines.diffusion.golden.scorers.base import Scorer, to_images
from engines.errors import BackboneError

ARCHITECTURE = "ViT-L-14-quickgelu"


class Aesthetic(Scorer):
    """The head's linear layers, one after another, on normalised image features.

    Args:
        backbone: CLIP ViT-L/14 of OpenAI.
        head: "layers.N.weight" and "layers.N.bias" in the order of N; nothing but dropout stands between them.
    """

    def __init__(self, backbone: Backbone, head: Mapping[str, Tensor]) -> None:
        numbers = sorted({int(name.split(".")[1]) for name in head if name.startswith("layers.")})
        self.backbone, self.name = backbone, f"Aesthetic score by {backbone.name}"
        self.layers = [(head[f"layers.{at}.weight"].float(), head[f"layers.{at}.bias"].float()) for at in numbers]
        if not self.layers or self.layers[0][0].shape[1] != backbone.embed_dim or len(self.layers[-1][0]) != 1:
            raise BackboneError(f"The aesthetic head does not fit {backbone.name}.", "Download the file again.")

    @torch.no_grad()
    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        seen = torch.stack([self.backbone.preprocess(image) for image in to_images(pixels)])
        found = F.normalize(self.backbone.encode_image(seen), dim=-1).cpu()
        for weight, bias in self.layers:
            found = F.linear(found, weight, bias)
        return found[:, 0]


def load(backbone: Backbone | None, device: str | None, files: list[Path]) -> Aesthetic:
    """From the released head, and CLIP ViT-L/14 beside it.

    Raises:
        BackboneError: one of them is damaged.
    """
    head, tower = files
    return Aesthetic(load_backbone(ARCHITECTURE, pretrained=str(tower), device=device), read_state_dict(head))
