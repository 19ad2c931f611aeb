"""CoOp: context optimisation (Zhou et al., IJCV 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.prompts.base import MethodInfo, PromptMethod
from engines.prompts.settings import MethodConfig, TrainingConfig


class CoOpConfig(MethodConfig):
    n_ctx: int = Field(
        16,
        ge=1,
        le=64,
        title="Learned words",
        description="How many word places in front of the class name are learned (context tokens).",
    )
    ctx_init: str = Field(
        "",
        title="Start from these words",
        description="For example “a photo of a”. The learned words then begin there, and there are as many of them as"
        " words given. Empty: they begin at random.",
    )
    class_token_position: Literal["end", "middle", "front"] = Field(
        "end",
        title="Place of the class name",
        description="Whether the class name stands behind, amid or in front of the learned words.",
    )
    csc: bool = Field(
        False,
        title="Separate words for every class",
        description="Class-specific context: more freedom, needs more labelled images, cannot be used on new classes."
        " Has no effect together with starting words.",
    )
    count_tokens: bool = Field(
        False,
        title="Count word pieces",
        description="Starting words may consist of several pieces. The official code learns as many pieces as there are"
        " words and leaves the rest as they are; switch on to learn all pieces.",
        json_schema_extra={"advanced": True},
    )


class CoOp(PromptMethod):
    """Learns context `ctx` [M, d], or [C, M, d] class-specific, by cross-entropy (section 3.2, equations 2-4)."""

    info = MethodInfo(
        name="coop",
        title="CoOp",
        summary="Learns the words in front of the class name from a few labelled images, where people would have tried"
        " sentence after sentence. The image side stays as it is, so training takes seconds.",
        when="A few labelled images of every class, and only these classes matter.",
        paper="Zhou, Yang, Loy, Liu, “Learning to Prompt for Vision-Language Models”, IJCV 2022, arXiv 2109.01134",
        cost="seconds",
        parity="Features, logits, loss, gradient and context after 5 steps equal the official code's to 1e-4 (unified"
        " and class-specific context; end, middle, front; random and worded start).",
        reported="ViT-B/16, 16 labelled images per class, mean of 11 data sets, base / new / harmonic mean:"
        " 82.69 / 63.22 / 71.66.",
    )
    Config = CoOpConfig
    config: CoOpConfig
    official_names = {"ctx": "prompt_learner.ctx"}  # noqa: RUF012

    @classmethod
    def training_defaults(cls, protocol: str = "few-shot", shots: int = 16) -> TrainingConfig:
        """200 passes, fewer for few images: 50 for one, 100 for two to four (the official rn50_ep50, _ep100)."""
        if protocol == "few-shot" and 0 < shots < 8:
            return TrainingConfig(epochs=50 if shots == 1 else 100)
        return TrainingConfig(epochs=200)

    def build(self) -> None:
        text, words = self.backbone.text, " ".join(self.config.ctx_init.replace("_", " ").split())
        if words:
            length = text.count_tokens(words) if self.config.count_tokens else len(words.split(" "))
            self.ctx = nn.Parameter(text.embed_words(words)[:length].clone())
        else:
            length = self.config.n_ctx
            shape = (length, text.width)
            self.ctx = nn.Parameter(
                torch.empty(len(self.class_names), *shape) if self.config.csc else torch.empty(shape)
            )
            nn.init.normal_(self.ctx, std=0.02)
        self.layout = text.layout(
            self.class_names, n_ctx=length, position=self.config.class_token_position, words=words or None
        )

    @property
    def class_bound(self) -> bool:
        return self.ctx.dim() == 3

    def text_features(self) -> Tensor:
        return F.normalize(self.backbone.text.encode_prompts(self.layout, self.ctx), dim=-1)
