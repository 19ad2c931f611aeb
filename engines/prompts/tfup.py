"""TFUP: a training-free prompt from images without labels (Long et al., arXiv 2404.16339)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from engines.prompts.base import MethodInfo, PromptMethod
from engines.prompts.fields import PLAIN, Sentence
from engines.prompts.settings import MethodConfig

SOFT = 10.0
"""Factor of the cosines (not 100) wherever distributions over the classes are compared."""
FLAT = 1e-6
"""Divergences that differ by less than this say nothing."""


class TFUPConfig(MethodConfig):
    template: Sentence = Field(
        PLAIN,
        title="Sentence",
        description="The sentence around the name of a class that has no sentences of its own; {} stands for the name.",
    )
    alpha: float = Field(
        0.3,
        ge=0,
        le=1000,
        title="Weight of the memory",
        description="How much likeness to remembered images counts beside what the sentence says (α).",
    )
    beta: float = Field(
        1.0,
        gt=0,
        le=1000,
        title="Sharpness",
        description="How quickly the say of a remembered image fades as a new one looks less like it (β).",
        json_schema_extra={"advanced": True},
    )
    shots: int = Field(
        0,
        ge=0,
        le=1000,
        title="Remembered images per class",
        description="How many typical images each class remembers. 0: the official rule, 9 to 16 by the number of"
        " images.",
        json_schema_extra={"advanced": True},
    )
    model_scale: bool = Field(
        False,
        title="The model’s own scale",
        description="The official code weighs the sentence with the constant 100, the scale of OpenAI’s models. Switch"
        " on for models with another scale, so that the weight of the memory keeps its meaning.",
        json_schema_extra={"advanced": True},
    )


class TFUP(PromptMethod):
    """logits = 100 u . t_c + alpha sum_k exp(-beta (1 - s_k)) over the remembered images k of class c.

    `text` [C, D] holds t before normalisation: the mean of the raw features of each class's sentences. `keys` [C, S, D]
    holds the remembered images, raw. The likeness s_k of an image to k is u . k times 2 (1 - d_k), where d_k is the
    divergence KL(q_u || q_k) between what the sentences say of both, rescaled over all k to 0..1 for every image.
    Distributions q are softmax(10 cosine), as in the official code. Its standardisation of d cancels in the rescaling
    and is left out; where all divergences are equal (it divides by zero there), 2 (1 - d_k) is 1. All classes remember
    the same number of images, so none is at a disadvantage in the sum.
    """

    info = MethodInfo(
        name="tfup",
        title="TFUP",
        summary="Looks through your images without labels, remembers for every class those that fit its sentence and"
        " are typical, and asks which of them a new image resembles. Nothing is trained, so it is ready at once.",
        when="You have many images and no labels yet, and want more than the ready-made sentence in a moment.",
        paper="Long, Wang, Zhao, Tan, Wu, Wang, Wang, “Training-Free Unsupervised Prompt for Vision-Language Models”,"
        " arXiv 2404.16339",
        needs="Images without labels, and class names; better: some sentences that describe each class (written on the"
        " Data page).",
        group="no labels",
        cost="seconds",
        parity="Chosen images (exactly, in their order), likeness of the distributions, ready-made and final logits"
        " equal the official code's to 1e-4.",
        reported="DomainNet, ViT-B/16, mean of 6 domains: 60.9, ready-made sentences 59.3 (73.87 / 52.92 / 69.19 /"
        " 17.80 / 85.20 / 66.14 for clipart, infograph, painting, quickdraw, real, sketch). The gain is 1.6 points on"
        " average, and none on “real”.",
    )
    Config = TFUPConfig
    config: TFUPConfig
    fitting: ClassVar[Literal["none", "gradient", "closed-form"]] = "closed-form"
    learns_from: ClassVar[Literal["labels", "unlabelled", "domains", "masks"]] = "unlabelled"
    new_classes = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        protocol: {"views": 0} for protocol in ("few-shot", "base-to-new", "unsupervised")
    }

    def build(self) -> None:
        self.text: Tensor
        self.keys: Tensor
        self.register_buffer("text", torch.zeros(len(self.class_names), self.backbone.embed_dim))
        self.register_buffer("keys", torch.zeros(len(self.class_names), 0, self.backbone.embed_dim))

    @property
    def scale(self) -> Tensor | float:
        """Factor of the cosines in the logits."""
        return self.backbone.logit_scale if self.config.model_scale else 100.0

    # --- text -------------------------------------------------------------------

    def read_sentences(self) -> None:
        """Fill `text` from the sentences that people wrote; from the plain one for classes without any."""
        named = zip(self.class_names, self.descriptions, strict=True)
        lists = [own or [self.config.template.replace("{}", name.replace("_", " "))] for name, own in named]
        features = self.backbone.encode_text([sentence for own in lists for sentence in own])
        self.text.copy_(torch.stack([part.mean(dim=0) for part in features.split(list(map(len, lists)))]))

    def raw_text(self) -> Tensor:
        """t [C, D], not normalised."""
        if not self.text.any():  # neither learned nor loaded yet
            self.read_sentences()
        return self.text

    def text_features(self) -> Tensor:
        return F.normalize(self.raw_text(), dim=-1)

    # --- memory -----------------------------------------------------------------

    def fit(
        self,
        features: Tensor,
        labels: Tensor | None = None,
        val_features: Tensor | None = None,
        val_labels: Tensor | None = None,
    ) -> None:
        """Make the memory from raw features [V, N, D] of all images, averaged over the views; labels are not read."""
        self.read_sentences()
        self.remember(features.mean(dim=0))

    def remember(self, features: Tensor) -> None:
        """Fill `keys` from raw features [N, D]."""
        features = features.to(self.text.device)
        shots = self.config.shots or max(9, min(16, int(0.3 * len(features) / len(self.class_names))))
        self.keys = features[self.typical(features, shots)]

    @torch.no_grad()
    def typical(self, features: Tensor, shots: int) -> Tensor:
        """Which of raw features [N, D] stand for each class, [C, S], best first; an image may stand for several.

        Of the 2 S images that the sentences give the class most surely, the S whose distributions diverge least from
        those of all 2 S. With fewer images than that, every class gets as many as there are.
        """
        logs = said(F.normalize(features, dim=-1), F.normalize(self.raw_text(), dim=-1))
        candidates = logs.topk(min(2 * shots, len(logs)), dim=0).indices.T  # [C, K]
        chances, logs = logs[candidates].exp(), logs[candidates]  # [C, K, C]
        own, others = chances * logs * candidates.shape[1], chances * logs.sum(dim=1, keepdim=True)
        apart = (own - others).sum(dim=2)
        nearest = apart.topk(min(shots, candidates.shape[1]), largest=False).indices
        return candidates.gather(1, nearest)

    def semantic_likeness(self, images: Tensor, text: Tensor) -> Tensor:
        """Likeness 0..2 of what unit `text` [C, D] says of unit images [B, D] and of the memory -> [B, C S]."""
        kept = said(F.normalize(self.keys, dim=-1).flatten(0, 1), text)
        apart = -said(images, text).exp() @ kept.T  # the divergence but for a constant of the image
        nearest, farthest = apart.aminmax(dim=1, keepdim=True)
        spread = farthest - nearest
        return torch.where(spread > FLAT, 2 * (farthest - apart) / spread.clamp(min=FLAT), 1.0)

    def memory_logits(self, images: Tensor, text: Tensor) -> Tensor:
        """What the memory says of unit images [B, D] with unit `text` [C, D] -> [B, C]; 0 while it is empty."""
        classes, shots, _ = self.keys.shape
        if not shots:
            return images.new_zeros(len(images), classes)
        alike = images @ F.normalize(self.keys, dim=-1).flatten(0, 1).T * self.semantic_likeness(images, text)
        return torch.exp(-self.config.beta * (1 - alike)).view(len(images), classes, shots).sum(dim=2)

    # --- answers ----------------------------------------------------------------

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        return self.with_memory(self._images(pixels, features), self.text_features())

    def with_memory(self, images: Tensor, text: Tensor) -> Tensor:
        """Logits [B, C] of unit images [B, D] and unit text [C, D], the memory's word included."""
        return self.scale * images @ text.T + self.config.alpha * self.memory_logits(images, text)

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        """How unsure it is: cross-entropy of its own answers. Nothing is learned from it, and no label is read."""
        logits = self.logits(pixels, features=features)
        return F.cross_entropy(logits, logits.argmax(dim=1))

    # --- files ------------------------------------------------------------------

    def load_official(self, state_dict: Mapping[str, Any]) -> None:
        """Take over `text` [C, D] and `keys` [C, S, D]; the official code itself saves neither."""
        self._make_room(state_dict.get("state_dict", state_dict).get("keys"))
        super().load_official(state_dict)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        self._make_room(state_dict.get(f"{prefix}keys"))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _make_room(self, keys: Tensor | None) -> None:
        """Size the memory like `keys`, if they fit its classes and its model; what does not is refused by others."""
        if keys is not None and keys.dim() == 3 and (keys.shape[0], keys.shape[2]) == self.text.shape:
            self.keys = torch.zeros(keys.shape, device=self.text.device)


def said(images: Tensor, text: Tensor) -> Tensor:
    """log q [N, C]: what unit text [C, D] says of unit images [N, D], softly."""
    return (SOFT * images @ text.T).log_softmax(dim=1)
