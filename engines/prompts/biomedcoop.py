"""BiomedCoOp: learning to prompt for biomedical vision-language models (Koleilat et al., CVPR 2025)."""

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
from engines.prompts.context import ContextPrompt
from engines.prompts.fields import ClassSpecific, ContextLength, CountTokens, StartingWords
from engines.prompts.settings import MethodConfig


class BiomedCoOpConfig(MethodConfig):
    n_ctx: ContextLength = 4
    ctx_init: StartingWords = "a photo of a"
    csc: ClassSpecific = False
    sccm_weight: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="Hold to the descriptions",
        description="How firmly each class keeps the mean meaning of its sentences (the paper's lambda 1, 0.25 to 20"
        " there, chosen for each data set).",
    )
    kdsp_weight: float = Field(
        0.5,
        ge=0,
        le=1000,
        title="Learn from the sentences' answers",
        description="How firmly the answers follow those of the well-fitting sentences (the paper's lambda 2, 0.25 to"
        " 20 there, chosen for each data set).",
    )
    tau: float = Field(
        1.5,
        ge=1,
        le=10,
        title="Tolerance for odd sentences",
        description="A sentence is left out of a step when its score lies further than this many standard deviations"
        " from the mean of all sentences.",
        json_schema_extra={"advanced": True},
    )
    n_prompts: int = Field(
        50,
        ge=2,
        le=1000,
        title="Sentences per class",
        description="At most so many sentences of each class are read; all classes get as many as the class with the"
        " fewest has.",
        json_schema_extra={"advanced": True},
    )
    count_tokens: CountTokens = False


class BiomedCoOp(ContextPrompt):
    """CoOp held to sentences about each class: L = CE + l1 SCCM + l2 KDSP.

    T [C, N, D] are frozen unit features of N sentences per class, t_c learned text features, u_b image features, s the
    model's scale, all unit length.

    - SCCM = mean over c and coordinates of (t_c - m_c)^2, m_c the unit mean over all sentences of T[c].
    - KDSP = KL(p || q) / (B C) summed over the batch, q the probabilities of the learned prompt and p those of the
      classifier whose class vectors are unit means over the kept sentences.
    - Sentence i, of all classes at once, is kept where S_i = mean_b max_c s u_b . T[c, i] lies within tau standard
      deviations (N - 1) of the mean of S. The official code takes the same rule in two steps, of which the first
      (median and MAD) cancels out, or fails where half of the scores are equal. Its PMC-CLIP variant selects
      otherwise and is not taken over, nor is the dropout in the text tower while training.

    A batch that a lack of memory splits keeps sentences for each part by itself.
    """

    info = MethodInfo(
        name="biomedcoop",
        title="BiomedCoOp",
        summary="Learns the words in front of the class name like CoOp, but holds them to sentences that describe each"
        " class, and leaves out sentences that do not fit the images. It was made for medical pictures.",
        when="You work with medical images and can describe each class in several sentences.",
        paper="Koleilat, Asgariandehkordi, Rivaz, Xiao, “BiomedCoOp: Learning to Prompt for Biomedical"
        " Vision-Language Models”, CVPR 2025, arXiv 2411.15232",
        needs="A few labelled images of every class, and better: several sentences that describe each class (written on"
        " the Data page; general ones stand in where a class has fewer than two).",
        cost="seconds",
        parity="Text and image features, sentence features, scores, kept sentences, both targets, logits, all three"
        " terms of the loss, gradient and context after 5 steps equal the official code's to 1e-4 (its CLIP and its"
        " BiomedCLIP variant, without dropout).",
        reported="BiomedCLIP, mean of 11 medical data sets, 1 / 2 / 4 / 8 / 16 labelled images per class: 57.03 / 59.13"
        " / 63.95 / 68.32 / 72.42 (CoOp: 50.16 / 54.18 / 59.75 / 65.84 / 69.62). 10 data sets, 16 images, base / new /"
        " harmonic mean: 76.26 / 73.92 / 75.07. Settings were chosen for each data set, with 50 sentences per class.",
    )
    Config = BiomedCoOpConfig
    config: BiomedCoOpConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        protocol: {"epochs": epochs, "batch_size": 4, "learning_rate": 0.0025, "flip": False}
        for protocol, epochs in (("few-shot", 100), ("base-to-new", 50))
    }

    def sentences(self) -> list[list[str]]:
        """N sentences for each of the C classes; general ones fill up classes with fewer than two of their own."""
        general = json.loads((assets() / "templates.json").read_text(encoding="utf-8"))["imagenet-80"]
        lists = []
        for name, own in zip(self.class_names, self.descriptions, strict=True):
            stand_in = [text.replace("{}", name.replace("_", " ")) for text in general]
            lists.append(own if len(own) > 1 else [*own, *stand_in])
        fewest = min(self.config.n_prompts, *map(len, lists))
        return [each[:fewest] for each in lists]

    @cached_property
    def raw_descriptions(self) -> Tensor:
        """[C, N, D]: features of the sentences by the frozen text tower, as long as they come; computed once."""
        lists = self.sentences()
        features = self.backbone.encode_text([sentence for each in lists for sentence in each])
        return features.view(len(lists), len(lists[0]), -1)

    @cached_property
    def description_features(self) -> Tensor:
        """T [C, N, D]."""
        return F.normalize(self.raw_descriptions, dim=-1)

    @cached_property
    def mean_description(self) -> Tensor:
        """m [C, D]."""
        return F.normalize(self.description_features.mean(dim=1), dim=-1)

    def scores(self, images: Tensor) -> Tensor:
        """S [N] of unit image features [B, D]."""
        cosines = torch.einsum("bd,cnd->bcn", images, self.description_features)
        return (self.backbone.logit_scale * cosines).amax(dim=1).mean(dim=0)

    def kept(self, images: Tensor) -> Tensor:
        """Which sentences fit the images, [N] bool; at least one, as tau >= 1."""
        away = self.scores(images)
        away = away - away.mean()
        deviation = (away.square().sum() / (len(away) - 1)).sqrt()
        return away.abs() <= self.config.tau * deviation

    def teacher(self, images: Tensor) -> Tensor:
        """Class vectors [C, D] of the kept sentences."""
        return F.normalize(self.description_features[:, self.kept(images)].mean(dim=1), dim=-1)

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy, SCCM and KDSP of unit image features [B, D]; not weighted."""
        text, scale = self.text_features(), self.backbone.logit_scale
        logits = scale * images @ text.T
        target = (scale * images @ self.teacher(images).T).log_softmax(dim=1)
        divergence = F.kl_div(logits.log_softmax(dim=1), target, reduction="sum", log_target=True) / logits.numel()
        return F.cross_entropy(logits, labels), F.mse_loss(text, self.mean_description), divergence

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        cross_entropy, sccm, kdsp = self.loss_terms(self._images(pixels, features), required(labels))
        return cross_entropy + self.config.sccm_weight * sccm + self.config.kdsp_weight * kdsp
