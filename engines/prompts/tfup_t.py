"""TFUP-T: training on TFUP's answers, for images without labels (Long et al., arXiv 2404.16339)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.errors import ConfigError
from engines.prompts.base import MethodInfo
from engines.prompts.tfup import TFUP, TFUPConfig

if TYPE_CHECKING:
    from engines.prompts.trainer import Examples

BATCH = 4096
"""Images that the memory is asked about together."""


class TFUPTConfig(TFUPConfig):
    typical_share: float = Field(
        0.75,
        gt=0,
        le=1,
        title="Typical images",
        description="How many images the first passes learn from, as a share of all (at least 9 per class). The paper"
        " takes 0.75, and 0.5 for small or simple collections.",
    )
    typical_passes: int = Field(
        5,
        ge=0,
        le=10_000,
        title="First passes",
        description="Passes over the typical images alone, before all images are used.",
    )
    threshold: float = Field(
        0.9,
        ge=0,
        lt=1,
        title="Certainty",
        description="How sure it must be of an image to learn from its own answer. Lower takes in more images, and more"
        " of them with a wrong answer.",
    )
    balance: float = Field(
        0.3,
        ge=0,
        le=100,
        title="Spread over the classes",
        description="How firmly answers are spread over the classes. It takes all classes to be about equally frequent:"
        " where one is much more frequent, say how frequent each is, or set this to 0.",
    )
    prior: str = Field(
        "",
        pattern=r"^\s*$|^\s*\d+(\.\d+)?(\s*,\s*\d+(\.\d+)?)*\s*$",
        title="How frequent each class is",
        description="One number per class, in the order of the classes, such as 95, 5. Answers are then spread like"
        " this. Empty: all alike, as in the official code.",
    )
    text_share: float = Field(
        0.5,
        ge=0,
        le=1,
        title="Share of the learned text",
        description="How much the learned part counts beside the sentence.",
        json_schema_extra={"advanced": True},
    )
    image_share: float = Field(
        0.2,
        ge=0,
        le=1,
        title="Share of the image adapter",
        description="How much the learned correction counts beside the model’s own view of an image.",
        json_schema_extra={"advanced": True},
    )
    ask_memory: bool = Field(
        False,
        title="Ask the memory in the end",
        description="Whether the remembered images have a say in the final answers too. They did slightly worse with it"
        " in the official log.",
        json_schema_extra={"advanced": True},
    )


class TFUPT(TFUP):
    """A text residual R [C, D] and an image adapter A behind the frozen towers, taught by TFUP.

    w = unit(0.5 t + 0.5 R), g(f) = unit(0.2 A(f) + 0.8 f) with raw t and f, A(f) = ReLU(W2 ReLU(W1 f)).
    First passes: cross-entropy on the typical images, labelled by TFUP's answers. In one loop over all images each
    counts as often as it was picked over the mean of that, which is the official mean over picks in expectation.
    Then, for crops f of all images: L = CE(z, y) over those with max softmax(z_w) > 0.9, + 0.3 sum_c p_c ln p_c, where
    z = 100 g(f) . w, y = argmax z_w, z_w are the logits of the uncropped image with the memory, and p is the mean of
    softmax(z) over the batch. With given frequencies the second term is KL(p || frequencies), which differs by a
    constant where all are equal. Both terms are of the whole batch; where a lack of memory splits it, of each part.

    Not taken over from the official code: its choice of the best pass on labelled test images (the last counts), and
    a cosine that rises again when the first passes have fewer steps than the others.
    """

    info = MethodInfo(
        name="tfup-t",
        title="TFUP-T",
        summary="Takes TFUP's surest answers for your images without labels as if they were labels, and learns a small"
        " correction of text and images from them. Takes some passes of training, and usually does better than TFUP.",
        when="You have many images, no labels, and the ready-made sentence is right more often than not.",
        paper=TFUP.info.paper,
        needs=TFUP.info.needs,
        group="no labels",
        cost="seconds",
        parity="Images of the first passes and their labels (exactly), both terms of the loss, gradients and learned"
        " values over 2 first and 4 further steps, and logits after them, with and without the memory, equal the"
        " official code's to 1e-4. Choosing the best pass on test images is not taken over: the last pass counts.",
        reported="DomainNet, ViT-B/16, mean of 6 domains: 63.5, ready-made sentences 59.3 (75.97 / 54.70 / 72.07 /"
        " 24.60 / 85.80 / 67.94 for clipart, infograph, painting, quickdraw, real, sketch), at the best of 30 passes as"
        " chosen on labelled test images.",
    )
    Config = TFUPTConfig
    config: TFUPTConfig
    fitting: ClassVar[Literal["none", "gradient", "closed-form"]] = "gradient"
    official_names: ClassVar[dict[str, str]] = {
        "text": "",
        "keys": "",
        "residual": "text_adapter.res",
        "adapter.": "image_adapter.fc.",
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        protocol: {
            "epochs": 30,
            "batch_size": 256,
            "learning_rate": 0.012,
            "optimizer": "adamw",
            "weight_decay": 0.1,
            "epsilon": 0.003,
            "schedule": "cosine-steps",
            "warmup_epochs": 0,
        }
        for protocol in ("few-shot", "base-to-new", "unsupervised")
    }

    def build(self) -> None:
        super().build()
        width = self.backbone.embed_dim
        narrow = max(1, width // 4)
        self.residual = nn.Parameter(torch.zeros(len(self.class_names), width))
        self.adapter = nn.Sequential(
            nn.Linear(width, narrow, bias=False), nn.ReLU(), nn.Linear(narrow, width, bias=False), nn.ReLU()
        )
        self.log_prior: Tensor
        self.register_buffer("log_prior", self._log_prior(), persistent=False)
        self._plain: Tensor | None = None
        self._step: tuple[Tensor, bool] | None = None

    def _log_prior(self) -> Tensor:
        """ln of the given frequencies [C]; 0 where none are given."""
        classes = len(self.class_names)
        given = torch.tensor([float(number) for number in self.config.prior.split(",") if number.strip()])
        if not len(given):
            return torch.zeros(classes)
        if len(given) != classes or not given.sum():
            raise ConfigError(
                f"There are {classes} classes, and {len(given)} numbers say how frequent each is: {self.config.prior}.",
                "Give one number per class, not all of them 0, or none at all.",
            )
        return (given / given.sum()).clamp(min=1e-6).log()

    # --- answers ----------------------------------------------------------------

    def text_features(self) -> Tensor:
        share = self.config.text_share
        return F.normalize((1 - share) * self.raw_text() + share * self.residual, dim=-1)

    def adapt(self, raw: Tensor) -> Tensor:
        share = self.config.image_share
        return F.normalize(share * self.adapter(raw) + (1 - share) * raw, dim=-1)

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        images, text = self._images(pixels, features), self.text_features()
        return self.with_memory(images, text) if self.config.ask_memory else self.scale * images @ text.T

    # --- training ---------------------------------------------------------------

    @torch.no_grad()
    def start(self, examples: Examples) -> None:
        """Make the memory, choose the typical images and label them by TFUP's answers."""
        plain = examples.plain if examples.plain is not None else examples.encoded(self.backbone, 1)[0]
        self.read_sentences()
        self.remember(plain)
        shots = max(9, int(self.config.typical_share * len(plain) / len(self.class_names)))
        picked = self.typical(plain.to(self.text.device), shots).flatten()
        counts = torch.bincount(picked, minlength=len(plain)).float()
        text = F.normalize(self.raw_text(), dim=-1)  # as TFUP has it: nothing learned yet
        answers = [
            self.with_memory(F.normalize(part.to(text.device), dim=-1), text).argmax(dim=1)
            for part in plain.split(BATCH)
        ]
        self._plain, self.typical_weights, self.typical_labels = plain, counts / counts.mean(), torch.cat(answers)

    def begin_step(self, indices: Tensor, epoch: int, phase: int) -> None:
        self._step = indices, epoch < self.config.typical_passes

    def finish(self, examples: Examples) -> None:
        self._plain = self._step = None

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        """The objective of the pass that `begin_step` told of; by itself, that of all images on the given ones."""
        images = self._images(pixels, features)
        logits = self.scale * images @ self.text_features().T
        if self._step is None or self._plain is None:
            return self.whole_loss(logits, images.detach())
        indices, first = self._step
        if first:
            indices = indices.to(self.typical_labels.device)
            return self.first_loss(logits, self.typical_labels[indices], self.typical_weights[indices])
        with torch.no_grad():
            weak = self.adapt(self._plain[indices].to(images.device))
        return self.whole_loss(logits, weak)

    def first_loss(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Cross-entropy on typical images, each with its weight [B]; a mean, so that parts of a batch add up to it."""
        return (weights * F.cross_entropy(logits, labels, reduction="none")).mean()

    def whole_loss(self, logits: Tensor, weak: Tensor) -> Tensor:
        """CE + balance * spread, where the uncropped images have the unit features `weak` [B, D]."""
        cross_entropy, _ = self.taught_term(logits, weak)
        return cross_entropy + self.config.balance * self.spread_term(logits)

    def taught_term(self, logits: Tensor, weak: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy with its own sure answers, 0 where there are none, and how many there are."""
        with torch.no_grad():
            surest, answers = self.with_memory(weak, self.text_features()).softmax(dim=1).max(dim=1)
            kept = surest > self.config.threshold
        each = F.cross_entropy(logits, answers, reduction="none")
        return (each * kept).sum() / kept.sum().clamp(min=1), kept.sum()

    def spread_term(self, logits: Tensor) -> Tensor:
        """sum_c p_c (ln p_c - ln frequency_c) of the mean prediction p."""
        mean = logits.softmax(dim=1).mean(dim=0)
        return (mean * ((mean + 1e-6).log() - self.log_prior)).sum()
