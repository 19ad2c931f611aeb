"""MaPLe: multi-modal prompt learning (Khattak et al., CVPR 2023)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

from torch import Tensor, nn

from engines.prompts.base import MethodInfo
from engines.prompts.deep import DeepPrompt, FirstWords, PromptDepth, PromptLength, drawn_prompts
from engines.prompts.settings import MethodConfig


class MaPLeConfig(MethodConfig):
    n_ctx: PromptLength = 2
    prompt_depth: PromptDepth = 9
    ctx_init: FirstWords = "a photo of a"


class MaPLe(DeepPrompt):
    """Text prompts T_i of the first J blocks; a linear coupling makes the vision prompts V_i of them (section 3.2).

    T_0 = `ctx` and V_0 = proj(T_0); for block i from 1 on T_i = `compound_prompts_text[i - 1]` and V_i =
    `compound_prompt_projections[i - 1]`(T_i). J is at most the depth of the shallower tower. The official code has the
    widths of ViT-B/16 written in and learns `ctx` and `proj` in half precision; here widths are the model's and all is
    float32.
    """

    info = MethodInfo(
        name="maple",
        title="MaPLe",
        summary="Learns words in front of the class name and derives from them what to look for in the images, layer by"
        " layer. Because both sides are tied together, it does well on classes that it was not trained on, too.",
        when="The images look unlike everyday photos and you will meet further classes later.",
        paper="Khattak, Rasheed, Maaz, Khan, Khan, “MaPLe: Multi-modal Prompt Learning”, CVPR 2023, arXiv 2210.03117",
        cost="minutes",
        parity="Features of both towers, logits, loss, every gradient and every value after 5 steps equal the official"
        " code's to 1e-4 (1, 2 and 3 layers; 2 and 4 words). Prompts are not rounded to half precision on the way in.",
        reported="ViT-B/16, 16 labelled images per class, mean of 11 data sets, base / new / harmonic mean:"
        " 82.28 / 75.14 / 78.55. From ImageNet to 10 other data sets (3 layers, 2 passes, step size 0.0026): 66.30.",
    )
    Config: ClassVar[type[MethodConfig]] = MaPLeConfig
    config: MaPLeConfig
    official_names: ClassVar[dict[str, str]] = {
        "ctx": "prompt_learner.ctx",
        "proj.": "prompt_learner.proj.",
        "compound_prompts_text.": "prompt_learner.compound_prompts_text.",
        "compound_prompt_projections.": "prompt_learner.compound_prompt_projections.",
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "few-shot": {"epochs": 5, "batch_size": 4, "learning_rate": 0.0035},
        "cross-dataset": {"epochs": 2, "batch_size": 4, "learning_rate": 0.0026},
        "domain-generalisation": {"epochs": 2, "batch_size": 4, "learning_rate": 0.0026},
    }
    setting_presets: ClassVar[dict[str, dict[str, Any]]] = {
        protocol: {"prompt_depth": 3} for protocol in ("cross-dataset", "domain-generalisation")
    }

    def build(self) -> None:
        config, text, vision = self.config, self.backbone.text, self.backbone.vision
        inner = min(config.prompt_depth, text.depth, vision.depth) - 1
        self.start_text(config.n_ctx, config.ctx_init)
        self.proj = nn.Linear(text.width, vision.width)
        self.compound_prompts_text = drawn_prompts(inner, config.n_ctx, text.width)
        coupling = nn.Linear(text.width, vision.width)  # all begin alike, as in the official code
        self.compound_prompt_projections = nn.ModuleList([deepcopy(coupling) for _ in range(inner)])

    def text_prompts(self) -> list[Tensor]:
        return [self.ctx, *self.compound_prompts_text]

    def image_prompts(self) -> list[Tensor]:
        couplings = [self.proj, *self.compound_prompt_projections]
        return [couple(prompt) for couple, prompt in zip(couplings, self.text_prompts(), strict=True)]
