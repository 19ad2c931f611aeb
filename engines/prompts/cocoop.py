"""CoCoOp: conditional context optimisation (Zhou et al., CVPR 2022)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.prompts.base import MethodInfo, PromptMethod, required
from engines.prompts.context import ContextPrompt
from engines.prompts.fields import ContextLength, CountTokens, StartingWords
from engines.prompts.settings import MethodConfig


class CoCoOpConfig(MethodConfig):
    n_ctx: ContextLength = 4
    ctx_init: StartingWords = "a photo of a"
    reduction: int = Field(
        16,
        ge=1,
        le=1024,
        title="Narrowing",
        description="How much narrower than the image feature the small network inside is; larger means simpler.",
        json_schema_extra={"advanced": True},
    )
    count_tokens: CountTokens = False


class CoCoOp(ContextPrompt):
    """Context that each image shifts: v_m(x) = v_m + pi, pi = meta_net(u) (section 3.2, equation 3).

    u is the UNIT image feature, the meta network Linear(D, D / 16), ReLU, Linear(D / 16, d) with torch's random start,
    so that even with starting words the first step is not the ready-made prompt; both as in the official code. Images
    do not interact: any split of a batch gives the same loss and gradient.
    """

    info = MethodInfo(
        name="cocoop",
        title="CoCoOp",
        summary="Learns words in front of the class name that every image adjusts a little for itself. That carries"
        " over better to classes it was not trained on, but each image needs its own pass through the text model.",
        when="You will meet further classes later, have few classes, and can wait.",
        paper="Zhou, Yang, Loy, Liu, “Conditional Prompt Learning for Vision-Language Models”, CVPR 2022,"
        " arXiv 2203.05557",
        cost="minutes",
        parity="Features, shift, text features of every image, logits, loss, every gradient, and all values after 5"
        " steps of batch 8 and of batch 1 equal the official code's to 1e-4.",
        reported="ViT-B/16, 16 labelled images per class, mean of 11 data sets, base / new / harmonic mean:"
        " 80.47 / 71.69 / 75.83.",
    )
    Config = CoCoOpConfig
    config: CoCoOpConfig
    official_names: ClassVar[dict[str, str]] = {
        "ctx": "prompt_learner.ctx",
        "meta_net.": "prompt_learner.meta_net.",
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "few-shot": {"epochs": 10, "batch_size": 1},
    }

    def build(self) -> None:
        super().build()
        width = self.backbone.embed_dim
        narrow = max(1, width // self.config.reduction)
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(width, narrow), relu=nn.ReLU(), linear2=nn.Linear(narrow, self.backbone.text_width)
            )
        )

    def text_features(self) -> Tensor:
        return PromptMethod.text_features(self)  # refuses, in words: there is no text without an image

    def conditional_text_features(self, images: Tensor) -> Tensor:
        """Unit text features [B, C, D] for unit image features [B, D]."""
        shifted = self.ctx + self.meta_net(images)[:, None]  # [B, M, d]
        return F.normalize(self.backbone.text.encode_prompts(self.layout, shifted, per_group=True), dim=-1)

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        parts = self._images(pixels, features).split(self._images_at_once)
        cosines = [torch.einsum("bd,bcd->bc", part, self.conditional_text_features(part)) for part in parts]
        return self.backbone.logit_scale * torch.cat(cosines)

    def backward(
        self, pixels: Tensor | None, labels: Tensor, *, features: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        """Works through a batch in parts that fit memory: a batch's gradient is the mean of its images'."""
        images, size = self._images(pixels, features), self._images_at_once
        losses = [
            super(CoCoOp, self).backward(None, label, features=part, weight=weight * len(part) / len(images))
            for part, label in zip(images.split(size), required(labels).split(size), strict=True)
        ]
        return torch.stack(losses).sum()

    @property
    def _images_at_once(self) -> int:
        return self.backbone.text.groups_at_once(self.layout)
