"""IVLP: independent vision-language prompting (the baseline of Khattak et al., CVPR and ICCV 2023)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from engines.prompts.base import MethodInfo
from engines.prompts.deep import DeepPrompt, FirstWords, PromptDepth, PromptLength, drawn_prompts
from engines.prompts.settings import MethodConfig
from engines.prompts.vpt import official_image_name


class IVLPConfig(MethodConfig):
    n_ctx_text: PromptLength = 2
    n_ctx_vision: int = Field(
        2,
        ge=0,
        le=64,
        title="Learned patches",
        description="How many learned places stand beside the patches of every image. 0 leaves the images alone and"
        " learns words only.",
    )
    prompt_depth_text: PromptDepth = Field(12, title="Prompted layers of the words")
    prompt_depth_vision: PromptDepth = Field(12, title="Prompted layers of the images")
    ctx_init: FirstWords = "a photo of a"


class IVLP(DeepPrompt):
    """Deep prompts in both towers that know nothing of each other, trained by cross-entropy.

    `ctx` and `image.0` stand in front of block 0, `text.i` in front of block i + 1, `image.i` in front of block i.
    Context in block 0 gets positional embeddings and `image.0` the norm in front of the blocks; the deeper ones get
    neither. The official configs call depth 0 shallow; there it is 1, as here, and 0 means no prompt at all.
    """

    info = MethodInfo(
        name="ivlp",
        title="IVLP",
        summary="Learns words in front of the class name and places beside the image patches at the same time, through"
        " many layers of the model. Text and image sides learn on their own.",
        when="You want the most freedom on the classes you train on; on classes it never saw PromptSRC, which adds"
        " restraints to the same prompts, does better.",
        paper="Khattak, Rasheed, Maaz, Khan, Khan, “MaPLe: Multi-modal Prompt Learning”, CVPR 2023, arXiv 2210.03117"
        " (section 4, its baseline)",
        cost="minutes",
        parity="Features of both towers, logits, loss, every gradient and every prompt after 5 steps equal the official"
        " code's to 1e-4 (2 and 3 layers; 2 and 4 tokens; worded and random start; words only). Prompts are not"
        " rounded to half precision on the way in.",
        reported="ViT-B/16, 16 labelled images per class, mean of 11 data sets, base / new / harmonic mean:"
        " 82.15 / 74.07 / 77.90 (5 passes), 84.21 / 71.79 / 77.51 (20 passes, 4 words and patches, 9 layers, step size"
        " 0.0025); words only 81.72 / 73.81 / 77.56.",
    )
    Config: ClassVar[type[MethodConfig]] = IVLPConfig
    config: IVLPConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {"few-shot": {"epochs": 5, "batch_size": 4, "learning_rate": 0.0035}}

    @classmethod
    def official_name(cls, name: str) -> str:
        if name == "ctx":
            return "prompt_learner.ctx"
        if name.startswith("text."):
            return f"text_encoder.transformer.resblocks.{int(name.removeprefix('text.')) + 1}.VPT_shallow"
        return official_image_name(name)

    def build(self) -> None:
        config, text, vision = self.config, self.backbone.text, self.backbone.vision
        self.start_text(config.n_ctx_text, config.ctx_init)
        self.text = drawn_prompts(min(config.prompt_depth_text, text.depth) - 1, config.n_ctx_text, text.width)
        blocks = min(config.prompt_depth_vision, vision.depth) if config.n_ctx_vision else 0
        self.image = drawn_prompts(blocks, config.n_ctx_vision, vision.width)

    def image_prompts(self) -> list[Tensor]:
        return list(self.image)

    def text_prompts(self) -> list[Tensor]:
        return [self.ctx, *self.text]
