"""PromptSRC: self-regulating prompts (Khattak et al., ICCV 2023)."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from engines.paths import assets
from engines.prompts.base import MethodInfo, required
from engines.prompts.deep import PromptDepth, PromptLength
from engines.prompts.ivlp import IVLP, IVLPConfig


class PromptSRCConfig(IVLPConfig):
    n_ctx_text: PromptLength = 4
    n_ctx_vision: PromptLength = Field(
        4, title="Learned patches", description="How many learned places stand beside the patches of every image."
    )
    prompt_depth_text: PromptDepth = Field(9, title="Prompted layers of the words")
    prompt_depth_vision: PromptDepth = Field(9, title="Prompted layers of the images")
    text_loss_weight: float = Field(
        25.0,
        ge=0,
        le=1000,
        title="Hold to the sentences",
        description="How firmly learned words keep the meaning of the ready-made sentences.",
    )
    image_loss_weight: float = Field(
        10.0,
        ge=0,
        le=1000,
        title="Hold to the images",
        description="How firmly images keep what the untouched model sees in them.",
    )
    templates: str = Field(
        "",
        pattern=r"^$|^[^|]*\{\}[^|]*(\|[^|]*\{\}[^|]*)*$",
        title="Ready-made sentences",
        description="Sentences whose mean meaning is kept, with | between them; {} stands for the class name. Empty:"
        " the paper's 60 general ones, of which some (“a plastic {}”) fit everyday photos only.",
    )
    gpa_mean: float = Field(
        0.75,
        ge=0,
        le=1,
        title="Centre of the average",
        description="The result is an average over the passes with a bell-shaped weight: its centre as a share of all"
        " passes. 0.75 is the paper's for new classes; for a few images per class it takes 0.6 (everyday photos) or 0.9"
        " (fine differences, textures, satellite images).",
        json_schema_extra={"advanced": True},
    )
    gpa_std: float = Field(
        0.05,
        gt=0,
        le=100,
        title="Width of the average",
        description="Width of the bell as a share of all passes. 0.05 is the paper's for new classes; for a few images"
        " per class it takes 0.6 (everyday photos) or 0.1 (fine differences, textures, satellite images).",
        json_schema_extra={"advanced": True},
    )


class PromptSRC(IVLP):
    """IVLP held to the frozen model, averaged over the passes (section 3.2, equations 3-6; 3.3; 3.4).

    L = CE + l_t mean|w - w~| + l_i mean|u - u~| + KL(p~ || p) / C with unit features u, w of the prompted and u~, w~ of
    the frozen model, p and p~ their class probabilities. Official details kept: w~ is the unit mean of features that
    are not unit length, both L1 terms are means over all numbers, and the mean KL over the batch is divided by the
    number of classes. Only learned tensors are averaged, and the average so far stands in `average`, so that a
    training which was stopped goes on with the same result; the official code loses it. Centre and width of the average
    are shares of the passes (there: numbers of passes), so that they fit any number of them.
    """

    info = MethodInfo(
        name="promptsrc",
        title="PromptSRC",
        summary="Learns words and places beside the image patches, but is held to what the untouched model sees and"
        " says, and averages what it learned over time. It learns your classes well without forgetting others.",
        when="The best accuracy on trained and on new classes counts more than the time it takes.",
        paper="Khattak, Wasim, Naseer, Khan, Yang, Khan, “Self-regulating Prompts: Foundational Model Adaptation"
        " without Forgetting”, ICCV 2023, arXiv 2307.06948",
        cost="minutes",
        parity="Features of both towers, frozen targets, logits, all four terms of the loss, every gradient, prompts"
        " after 5 steps, the weights of the average and the averaged prompts equal the official code's to 1e-4 (2 and 3"
        " layers; 2 and 4 tokens). Prompts are not rounded to half precision on the way in.",
        reported="ViT-B/16, 16 labelled images per class, mean of 11 data sets, base / new / harmonic mean:"
        " 84.26 / 76.10 / 79.97. From ImageNet to 10 other data sets (3 layers): 65.81.",
    )
    Config = PromptSRCConfig
    config: PromptSRCConfig
    average: Tensor
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "few-shot": {"epochs": 50, "batch_size": 4, "learning_rate": 0.0025},
    } | {
        protocol: {"epochs": 20, "batch_size": 4, "learning_rate": 0.0025}
        for protocol in ("base-to-new", "cross-dataset", "domain-generalisation")
    }
    setting_presets: ClassVar[dict[str, dict[str, Any]]] = {
        protocol: {"prompt_depth_text": 3, "prompt_depth_vision": 3, "gpa_mean": 0.3, "gpa_std": 0.5}
        for protocol in ("cross-dataset", "domain-generalisation")
    }

    @classmethod
    def official_name(cls, name: str) -> str:
        return "" if name == "average" else super().official_name(name)

    def build(self) -> None:
        super().build()
        self.register_buffer("average", torch.zeros(sum(p.numel() for p in self.parameters())))

    @cached_property
    def frozen_text(self) -> Tensor:
        """w~ [C, D]: unit mean of the frozen text features, as long as they come, of all sentences; computed once."""
        shipped = json.loads((assets() / "templates.json").read_text(encoding="utf-8"))["imagenet-80"][:60]
        templates = self.config.templates.split("|") if self.config.templates else shipped
        sentences = [t.replace("{}", name.replace("_", " ")) for name in self.class_names for t in templates]
        features = self.backbone.encode_text(sentences).view(len(self.class_names), len(templates), -1)
        return F.normalize(features.mean(dim=1), dim=-1)

    @torch.no_grad()
    def frozen_image_features(self, pixels: Tensor) -> Tensor:
        """u~ [B, D]: unit features of the untouched image tower."""
        return F.normalize(self.backbone.encode_image(pixels), dim=-1)

    def loss_terms(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cross-entropy, L1 of text, L1 of images, KL summed over the batch; not weighted."""
        images, text, scale = self.image_features(pixels), self.text_features(), self.backbone.logit_scale
        frozen = self.frozen_image_features(pixels)
        logits, target = scale * images @ text.T, (scale * frozen @ self.frozen_text.T).log_softmax(dim=1)
        divergence = F.kl_div(logits.log_softmax(dim=1), target, reduction="sum", log_target=True)
        held = F.l1_loss(text, self.frozen_text), F.l1_loss(images, frozen)
        return F.cross_entropy(logits, labels), *held, divergence

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        pixels = required(pixels)
        cross_entropy, text, image, divergence = self.loss_terms(pixels, required(labels))
        held = self.config.text_loss_weight * text + self.config.image_loss_weight * image
        return cross_entropy + held + divergence / (len(pixels) * len(self.class_names))

    def average_weights(self, epochs: int) -> Tensor:
        """Weight of each pass in the average, [epochs], sum 1: a Gaussian over passes 1 to `epochs`."""
        away = torch.arange(1, epochs + 1, dtype=torch.float64) - self.config.gpa_mean * epochs
        return (-0.5 * (away / (self.config.gpa_std * epochs)) ** 2).softmax(dim=0)

    @torch.no_grad()
    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Add this pass to the average, which takes the prompts' place after the last one."""
        learned = list(self.parameters())
        if epoch == 0:
            self.average.zero_()
        self.average += float(self.average_weights(epochs)[epoch]) * torch.cat([p.flatten() for p in learned])
        if epoch == epochs - 1:
            for parameter, mean in zip(learned, self.average.split([p.numel() for p in learned]), strict=True):
                parameter.copy_(mean.view_as(parameter))
