"""What methods share that put prompts in front of several blocks of the towers (deep prompting).

Block 0 reads the first prompt; in front of block i < J the prompt rows are thrown away and replaced by that block's own
prompt, so that a depth of J means J prompted blocks. How the rows are placed is told in `TextTower.encode_prompts` and
`VisionTower.encode`. The official code rounds every prompt to half precision on the way in, even in float32 runs; that
is left out here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.errors import ConfigError
from engines.prompts.base import PromptMethod

PromptLength = Annotated[
    int,
    Field(ge=1, le=64, title="Learned words", description="How many word places are learned (context tokens)."),
]
PromptDepth = Annotated[
    int,
    Field(
        ge=1,
        le=64,
        title="Prompted layers",
        description="How many layers, from the first on, get learned places of their own. 1 is shallow prompting; a"
        " model with fewer layers gets as many as it has.",
    ),
]
FirstWords = Annotated[
    str,
    Field(
        title="Start from these words",
        description="The first of these words become learned, further ones stay as they are in front of the class name"
        " (two learned words keep “of a” of “a photo of a”). As in the official code they are not used with more than"
        " four learned words, which begin at random; so they do when this is empty.",
    ),
]


class DeepPrompt(PromptMethod):
    """Learned prompts for blocks of the image tower and, where `start_text` is called, of the text tower.

    `image_prompts()` and `text_prompts()` give one tensor [n, d] for every prompted block, block 0 first.
    """

    frozen_images: bool = False

    @classmethod
    def refuse(cls, backbone: Backbone) -> str:
        for needed in ("vision_prompts", "deep_text_prompts"):
            if reason := backbone.supports.reason.get(needed):
                return f"It learns inside both towers, but {reason}. Choose a model with a ViT image tower."
        return ""

    def image_prompts(self) -> list[Tensor]:
        """Prompts [n_v, d_v] of the image tower; an empty list leaves it as it is."""
        return []

    def text_prompts(self) -> list[Tensor]:
        """Prompts [n_t, d] of the text tower."""
        raise NotImplementedError

    def raw_image_features(self, pixels: Tensor) -> Tensor:
        """What the prompted image tower gives, [B, D], not normalised."""
        prompts = self.image_prompts()
        first = prompts[0] if prompts else None
        return self.backbone.vision.encode(pixels.to(self.backbone.device), first, prompts[1:])

    def raw_text_features(self) -> Tensor:
        """What the prompted text tower gives, [C, D], not normalised."""
        first, *deep = self.text_prompts()
        return self.backbone.text.encode_prompts(self.layout, first, deep)

    def image_features(self, pixels: Tensor) -> Tensor:
        return self.adapt(self.raw_image_features(pixels))

    def text_features(self) -> Tensor:
        return F.normalize(self.raw_text_features(), dim=-1)

    # --- making tensors ---------------------------------------------------------

    def start_text(self, n_ctx: int, ctx_init: str) -> None:
        """Make `ctx` [n_ctx, d], the first text prompt, and the prompts' layout."""
        text = self.backbone.text
        words = " ".join(ctx_init.replace("_", " ").split()) if n_ctx <= 4 else ""
        self.layout = text.layout(self.class_names, n_ctx=n_ctx, words=words or None)
        self.ctx = nn.Parameter(text.embed_words(words)[:n_ctx].clone() if words else drawn(n_ctx, text.width))

    def load_official(self, state_dict: Mapping[str, Any]) -> None:
        """As for every method; also refuses a checkpoint that holds prompts of more blocks than these settings have."""
        given = state_dict.get("state_dict", state_dict)
        own = {self.official_name(name) for name in self.state_dict()}
        more = [name for name in given if ("VPT" in name or "compound_prompts_text" in name) and name not in own]
        if more:
            raise ConfigError(
                f"The checkpoint holds prompts that these settings of {self.info.title} have no place for, such as"
                f" “{more[0]}”.",
                "Set the number of prompted layers as it was in the official training.",
            )
        super().load_official(state_dict)


def drawn(*shape: int) -> Tensor:
    """A prompt as it begins: N(0, 0.02^2)."""
    return torch.empty(*shape).normal_(std=0.02)


def drawn_prompts(blocks: int, n_ctx: int, width: int) -> nn.ParameterList:
    """One prompt [n_ctx, width] for each of so many blocks."""
    return nn.ParameterList([nn.Parameter(drawn(n_ctx, width)) for _ in range(blocks)])
