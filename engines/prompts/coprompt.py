"""CoPrompt: consistency-guided prompt learning (Roy, Etemad, ICLR 2024)."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.prompts.base import MethodInfo, required
from engines.prompts.maple import MaPLe, MaPLeConfig

GENERIC = (
    "a photo of a {}.",
    "a close-up photo of a {}.",
    "a cropped photo of a {}.",
    "an image that shows a {}.",
    "a typical example of a {}.",
    "a clear picture of a {}.",
)
"""Stand in for the descriptions of a class that has none."""
IMAGE_MIX, TEXT_MIX = 0.1, 0.2
"""Shares of the adapters in the features."""


class CoPromptConfig(MaPLeConfig):
    w: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="Hold to the descriptions",
        description="How firmly classes keep the meaning of their descriptions, and images what the untouched model"
        " sees. The paper takes 2 to 8 for everyday photos and 0.1 where the model knows little of the subject.",
    )
    distill: Literal["cosine", "mse"] = Field(
        "cosine",
        title="Measure of agreement",
        description="By angle (cosine) or by squared distance (mse, much weaker at the same weight).",
        json_schema_extra={"advanced": True},
    )


class CoPrompt(MaPLe):
    """MaPLe with an adapter behind each tower, held to the frozen model on altered inputs (section 3).

    L = CE(view 1) + W (l(w, D_m) + l(u, u~)): D_m are frozen features of description m of every class, m drawn anew in
    each step, u~ frozen features of a second view of the image; l is 1 - mean cosine. u and w are unit features behind
    the adapters A(x) = ReLU(W2 ReLU(W1 x)), mixed in by 0.1 and 0.2 before normalisation. Official details kept: m is
    the same for all classes, the second ReLU, and the mean over all numbers under `mse`. Where classes have unlike
    numbers of descriptions the shorter lists begin again; the official code cannot do that, and needs descriptions for
    classes that are only tested.
    """

    info = MethodInfo(
        name="coprompt",
        title="CoPrompt",
        summary="Learns like MaPLe, but has to agree with the untouched model: on sentences that describe each class,"
        " and on a second, altered view of every image. That guards what it knew about classes you did not show.",
        when="You can describe each class in a few sentences and will meet further classes later.",
        paper="Roy, Etemad, “Consistency-guided Prompt Learning for Vision-Language Models”, ICLR 2024,"
        " arXiv 2306.01195",
        needs="A few labelled images of every class, and better: some sentences that describe each class (written on"
        " the Data page; general ones stand in for them).",
        cost="minutes",
        parity="Features of both towers behind the adapters, description features, frozen features of the second view,"
        " both agreement terms, loss, every gradient and every value after 5 steps equal the official code's to 1e-4 (2"
        " and 3 layers; 2 and 4 words; cosine and squared distance). Prompts are not rounded to half precision on the"
        " way in.",
        reported="ViT-B/16, 16 labelled images per class, settings chosen for each data set, mean of 11 data sets, base"
        " / new / harmonic mean: 84.00 / 77.23 / 80.48.",
    )
    Config = CoPromptConfig
    config: CoPromptConfig
    image_views = 2
    official_names: ClassVar[dict[str, str]] = MaPLe.official_names | {
        "adapter_image.": "adapter_image.fc.",
        "adapter_text.": "adapter_text.fc.",
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "few-shot": {"epochs": 8, "batch_size": 4, "learning_rate": 0.0035, "augmentation": "randaugment"}
    }
    setting_presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def build(self) -> None:
        super().build()
        self.adapter_image, self.adapter_text = (_adapter(self.backbone.embed_dim) for _ in range(2))

    def adapt(self, raw: Tensor) -> Tensor:
        return F.normalize(IMAGE_MIX * self.adapter_image(raw) + (1 - IMAGE_MIX) * raw, dim=-1)

    def text_features(self) -> Tensor:
        raw = self.raw_text_features()
        return F.normalize(TEXT_MIX * self.adapter_text(raw) + (1 - TEXT_MIX) * raw, dim=-1)

    @cached_property
    def description_features(self) -> Tensor:
        """D: unit features [M, C, D] of the frozen text tower, computed once."""
        named = zip(self.class_names, self.descriptions, strict=True)
        lists = [own or [text.replace("{}", name.replace("_", " ")) for text in GENERIC] for name, own in named]
        most = max(map(len, lists))
        sentences = [sentences[m % len(sentences)] for m in range(most) for sentences in lists]
        return F.normalize(self.backbone.encode_text(sentences), dim=-1).view(most, len(lists), -1)

    @torch.no_grad()
    def frozen_image_features(self, pixels: Tensor) -> Tensor:
        """u~ [B, D]: unit features of the untouched image tower."""
        return F.normalize(self.backbone.encode_image(pixels), dim=-1)

    def draw_description(self) -> int:
        """m, the number of the description that this step holds to."""
        return int(torch.randint(len(self.description_features), ()))

    def agreement(self, learned: Tensor, frozen: Tensor) -> Tensor:
        """l, the distance of unit features [N, D] from those of the frozen model; 0 where they agree."""
        if self.config.distill == "mse":
            return F.mse_loss(learned, frozen)
        return 1 - F.cosine_similarity(learned, frozen, dim=-1).mean()

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        """As the class says, of two views [2, B, 3, H, W]; of [B, 3, H, W] both are the same."""
        pixels = required(pixels)
        first, second = pixels if pixels.dim() == 5 else (pixels, pixels)
        images, text = self.image_features(first), self.text_features()
        held = self.agreement(text, self.description_features[self.draw_description()])
        held = held + self.agreement(images, self.frozen_image_features(second))
        logits = self.backbone.logit_scale * images @ text.T
        return F.cross_entropy(logits, required(labels)) + self.config.w * held


def _adapter(width: int) -> nn.Sequential:
    """[.., D] -> D / 4 -> [.., D], without bias."""
    inner = width // 4
    return nn.Sequential(nn.Linear(width, inner, bias=False), nn.ReLU(), nn.Linear(inner, width, bias=False), nn.ReLU())
