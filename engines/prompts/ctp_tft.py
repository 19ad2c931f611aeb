"""CTP + TFT: text and image guide each other class by class (after Long et al., ICCV 2023; reconstruction)."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.prompts.base import MethodInfo, PromptMethod, required
from engines.prompts.context import ContextPrompt
from engines.prompts.fields import ContextLength, StartingWords
from engines.prompts.settings import MethodConfig


class CTPTFTConfig(MethodConfig):
    n_ctx: ContextLength = 4
    ctx_init: StartingWords = "a photo of a"
    sharpness: float = Field(
        10.0,
        gt=0,
        le=1000,
        title="Sharpness of the look",
        description="How narrowly each class looks at the parts of an image that resemble it.",
    )
    reduction: int = Field(
        16,
        ge=1,
        le=1024,
        title="Narrowing",
        description="How much narrower the network between image and words is inside; larger means simpler.",
        json_schema_extra={"advanced": True},
    )
    tune_images: bool = Field(
        True,
        title="Words guide the images, too",
        description="Let the words of each class pick what counts in the image (TFT). Off: only images guide the words"
        " (CTP).",
    )


class CTPTFT(ContextPrompt):
    """Class-aware text prompts (CTP) and text-guided feature tuning (TFT), trained by cross-entropy.

    V_n are the image's patches in the joint space, f its feature, w_c the ready-made sentence, all unit. Class c looks
    at the image by softmax_n(t w_c V_n), sees u_c = unit(sum_n a_n V_n), and shifts its context by W2 relu(W1 u_c);
    T_c is the text feature. Then g_c = unit(f + W_o softmax(W_q T_c (W_k V)^T / sqrt D) W_v V), and the logits are
    s g_c T_c. W2 and W_o begin at 0, so the first step is the ready-made prompt; W_q, W_k, W_v begin as identity. All
    classes are treated alike in every step, so that nothing of the label leaks in.

    RECONSTRUCTION: there is no official code, and only the abstract could be read.
    """

    info = MethodInfo(
        name="ctp-tft",
        title="CTP + TFT (reconstruction)",
        summary="Every class looks at the parts of an image that matter to it, and adjusts its words to what it sees;"
        " the words then pick what counts in the image. Each image needs its own pass through the text model.",
        when="Small parts of the image decide, you have few classes, and can wait.",
        paper="After Long, Zhao, Yuan, Tan, Liu, Zhou, Wang, Wang, “Task-Oriented Multi-Modal Mutual Learning for"
        " Vision-Language Models”, ICCV 2023, arXiv 2303.17169",
        cost="long",
        parity="There is no official code. At the start it equals the ready-made prompt to 1e-5, and with the whole"
        " image in place of the parts its words are CoCoOp's.",
        reported="The abstract gives gains over CoCoOp of 4.03 on new classes and 3.19 in the harmonic mean; nothing"
        " else could be read.",
    )
    Config = CTPTFTConfig
    config: CTPTFTConfig
    frozen_images = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {"few-shot": {"epochs": 10, "batch_size": 4}}

    @classmethod
    def refuse(cls, backbone: Backbone) -> str:
        reason = backbone.supports.reason.get("patch_tokens")
        return f"It looks at parts of the image, but {reason}. Choose a model with a ViT image tower." if reason else ""

    def build(self) -> None:
        super().build()
        width, inner = self.backbone.embed_dim, max(1, self.backbone.embed_dim // self.config.reduction)
        last = nn.Linear(inner, self.backbone.text_width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.to_words = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), last)
        if self.config.tune_images:
            self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
            for layer in (self.query, self.key, self.value):
                nn.init.eye_(layer.weight)
            nn.init.zeros_(self.out.weight)

    @cached_property
    def ready_made(self) -> Tensor:
        """w: unit features [C, D] of the ready-made sentences, computed once."""
        return self.sentence_features(["a photo of a {}."])

    def text_features(self) -> Tensor:
        return PromptMethod.text_features(self)  # refuses, in words: there is no text without an image

    @torch.no_grad()
    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Unit image features [B, D] and unit patches [B, N, D] in the joint space, of the frozen tower."""
        pixels = pixels.to(self.backbone.device)
        features, tokens = self.backbone.vision.encode(pixels, return_tokens=True)
        return F.normalize(features, dim=-1), F.normalize(self.backbone.vision.project(tokens), dim=-1)

    def attention(self, patches: Tensor) -> Tensor:
        """a: where each class looks, [B, C, N], rows sum to 1: the map that explains an answer."""
        return (self.config.sharpness * self.ready_made @ patches.transpose(1, 2)).softmax(dim=-1)

    def class_texts(self, seen: Tensor) -> Tensor:
        """T: unit text features [B, C, D] for what each class sees, u [B, C, D]."""
        context = self.ctx + self.to_words(seen)[:, :, None]  # [B, C, M, d]
        return F.normalize(self.backbone.text.encode_prompts(self.layout, context, per_group=True), dim=-1)

    def tuned_images(self, images: Tensor, patches: Tensor, texts: Tensor) -> Tensor:
        """g: unit image features [B, C, D], one for each class."""
        if not self.config.tune_images:
            return images[:, None].expand_as(texts)
        scores = self.query(texts) @ self.key(patches).transpose(1, 2) / patches.shape[-1] ** 0.5
        return F.normalize(images[:, None] + self.out(scores.softmax(dim=-1) @ self.value(patches)), dim=-1)

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        if features is not None:
            self._images(None, features)  # refuses, in words: it needs the images' parts
        parts = required(pixels).split(self._images_at_once)
        return self.backbone.logit_scale * torch.cat([self._cosines(*self.look(part)) for part in parts])

    def _cosines(self, images: Tensor, patches: Tensor) -> Tensor:
        texts = self.class_texts(F.normalize(self.attention(patches) @ patches, dim=-1))
        return (self.tuned_images(images, patches, texts) * texts).sum(dim=-1)

    def backward(
        self, pixels: Tensor | None, labels: Tensor, *, features: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        """Works through a batch in parts that fit memory: a batch's gradient is the mean of its images'."""
        whole, size = required(pixels), self._images_at_once
        losses = [
            super(CTPTFT, self).backward(part, label, weight=weight * len(part) / len(whole))
            for part, label in zip(whole.split(size), labels.split(size), strict=True)
        ]
        return torch.stack(losses).sum()

    @property
    def _images_at_once(self) -> int:
        return self.backbone.text.groups_at_once(self.layout)
