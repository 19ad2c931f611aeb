"""VPT on CLIP: visual prompt tuning, shallow and deep (the baseline of Khattak et al., CVPR 2023)."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from engines.backbones import Backbone
from engines.prompts.base import MethodInfo
from engines.prompts.deep import DeepPrompt, PromptDepth, PromptLength, drawn_prompts
from engines.prompts.fields import PLAIN, Sentence
from engines.prompts.settings import MethodConfig


class VPTConfig(MethodConfig):
    n_ctx_vision: PromptLength = Field(
        8, title="Learned patches", description="How many learned places stand beside the patches of every image."
    )
    prompt_depth_vision: PromptDepth = 12
    template: Sentence = PLAIN


class VPT(DeepPrompt):
    """Learned tokens behind the patches, in the first block or in the first J, in front of a frozen text tower.

    The original VPT (Jia et al., ECCV 2022) trains a linear classifier instead and puts its tokens between class token
    and patches; this is its form for CLIP in the MaPLe repository. `image.0` passes the norm in front of the blocks,
    `image.i` enters block i as it is. The official code always takes the sentence “a photo of a {}.”.
    """

    info = MethodInfo(
        name="vpt",
        title="VPT",
        summary="Adds a few learned places to every image, beside its patches, and leaves the words as they are."
        " The model learns what to look for in your images, in its first layer only or in many.",
        when="The class names are good as they are, but the images look unlike everyday photos.",
        paper="Jia, Tang, Chen, Cardie, Belongie, Hariharan, Lim, “Visual Prompt Tuning”, ECCV 2022, arXiv 2203.12119;"
        " on CLIP: Khattak et al., CVPR 2023, arXiv 2210.03117",
        cost="minutes",
        parity="Features, logits, loss, gradients and prompts after 5 steps equal the official code's to 1e-4 (shallow"
        " with 2 and 4 tokens, deep with 2). Prompts are not rounded to half precision on the way in.",
        reported="Deep, ViT-B/16, 16 labelled images per class, mean of 11 data sets, base / new / harmonic mean:"
        " 80.24 / 73.43 / 76.68.",
    )
    Config = VPTConfig
    config: VPTConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        protocol: {"epochs": 5, "batch_size": 4, "learning_rate": 0.0025} for protocol in ("few-shot", "base-to-new")
    }

    @classmethod
    def refuse(cls, backbone: Backbone) -> str:
        reason = backbone.supports.reason.get("vision_prompts")
        return f"It learns inside the image tower, but {reason}. Choose a model with a ViT." if reason else ""

    @classmethod
    def official_name(cls, name: str) -> str:
        return official_image_name(name)

    def build(self) -> None:
        tower = self.backbone.vision
        blocks = min(self.config.prompt_depth_vision, tower.depth)
        self.image = drawn_prompts(blocks, self.config.n_ctx_vision, tower.width)

    def image_prompts(self) -> list[Tensor]:
        return list(self.image)

    @cached_property
    def _sentences(self) -> Tensor:
        return self.sentence_features([self.config.template])

    def text_features(self) -> Tensor:
        return self._sentences


def official_image_name(name: str) -> str:
    """`image.<block>` -> the name in the official repositories of VPT, IVLP and PromptSRC; others as they are."""
    block = name.removeprefix("image.")
    if block == "0":
        return "image_encoder.VPT"
    return f"image_encoder.transformer.resblocks.{block}.VPT_shallow" if block != name else name
