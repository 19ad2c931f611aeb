"""ProGrad: prompt-aligned gradient (Zhu et al., ICCV 2023)."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from engines.errors import ConfigError
from engines.prompts.base import MethodInfo, required
from engines.prompts.context import ContextPrompt
from engines.prompts.coop import CoOp
from engines.prompts.fields import PLAIN, ClassSpecific, ContextLength, Sentence
from engines.prompts.settings import MethodConfig, TrainingConfig


class ProGradConfig(MethodConfig):
    n_ctx: ContextLength = 16
    template: Sentence = Field(
        PLAIN,
        title="Ready-made sentence",
        description="The sentence that teaches; {} stands for the class name. The papers put the kind of picture first:"
        " “a type of pet, a photo of a {}.”",
    )
    ctx_init: bool = Field(
        True,
        title="Start from the sentence",
        description="The last learned words begin as the sentence’s words in front of the class name, those before"
        " them at zero. Off, or with a sentence that begins with the class name: all begin at random.",
    )
    class_token_position: Literal["end", "front"] = Field(
        "end",
        title="Place of the class name",
        description="Whether the class name stands behind or in front of the learned words.",
    )
    csc: ClassSpecific = False
    t: float = Field(
        1.0,
        gt=0,
        le=100,
        title="Temperature",
        description="How much the ready-made sentence’s doubts between classes count; above 1 they count more (T).",
        json_schema_extra={"advanced": True},
    )
    lambda_: float = Field(
        1.0,
        ge=0,
        le=1,
        title="Obedience",
        description="Which share of a correction that contradicts the ready-made sentence is taken out (λ). 0 is CoOp.",
    )


class ProGrad(ContextPrompt):
    """CoOp whose gradient never contradicts the ready-made prompt's (section 3.2).

    g = gradient of cross-entropy, h = gradient of T^2 times the soft cross-entropy to the ready-made prompt's answers.
    Where g . h < 0 over the whole context (also with class-specific context), g loses `lambda` of its component along
    h. h itself is never followed, and `loss` is the cross-entropy alone.
    """

    info = MethodInfo(
        name="prograd",
        title="ProGrad",
        summary="Learns the words in front of the class name like CoOp, but leaves out every correction that would"
        " contradict what a ready-made sentence says. That guards against learning a handful of images by heart.",
        when="Very few labelled images, and a ready-made sentence that already works fairly well.",
        paper="Zhu, Niu, Han, Wu, Zhang, “Prompt-aligned Gradient for Prompt Tuning”, ICCV 2023, arXiv 2205.14865",
        cost="seconds",
        parity="Starting context, features, both logits, both gradients and their cosine, the bent gradient, both"
        " losses over 5 steps and the context after them equal the official code's to 1e-4 (worded, random,"
        " class-specific, class name in front; agreement and conflict).",
        reported="ViT-B/16, 16 labelled images per class, mean of 11 data sets as run by KgCoOp's authors, base / new /"
        " harmonic mean: 82.48 / 70.75 / 76.16.",
    )
    Config = ProGradConfig
    config: ProGradConfig

    @classmethod
    def training_defaults(cls, protocol: str = "few-shot", shots: int = 16) -> TrainingConfig:
        """CoOp's passes for few images (50, 100, 100, 200, 200); base-to-new 100."""
        return CoOp.training_defaults(protocol, shots) if protocol == "few-shot" else TrainingConfig(epochs=100)

    def build(self) -> None:
        super().build()
        self._left: tuple[Tensor, int, Tensor, Tensor] | None = None  # our gradient, its version, its g and h

    def starting_context(self) -> tuple[Tensor, str]:
        words = self.config.template.split("{}")[0].strip()
        if not self.config.ctx_init or not words:
            return self.random_context(), ""
        # The official code counts words by spaces; pieces of the last words beyond that count stay as they are.
        free = self.config.n_ctx - len(words.split())
        if free < 0:
            raise ConfigError(
                f"The sentence has {len(words.split())} words before the class name, more than the"
                f" {self.config.n_ctx} learned words.",
                "Raise the number of learned words, shorten the sentence, or start at random.",
            )
        written = self.backbone.text.embed_words(words)[: self.config.n_ctx - free]
        return torch.cat([written.new_zeros(free, written.shape[1]), written]), " ".join(["X"] * free + [words])

    @cached_property
    def ready_made(self) -> Tensor:
        """Unit features [C, D] of the ready-made sentences, computed once."""
        return self.sentence_features([self.config.template])

    def losses(self, images: Tensor, labels: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy, and T^2 times the soft cross-entropy to the ready-made prompt's answers.

        Args:
            images: unit image features [B, D]; text: unit text features [C, D] of the learned prompt.
        """
        scale, t = self.backbone.logit_scale, self.config.t
        logits, taught = scale * images @ text.T, scale * images @ self.ready_made.T
        agreement = ((taught / t).softmax(dim=1) * (logits / t).log_softmax(dim=1)).sum(dim=1).mean()
        return F.cross_entropy(logits, labels), -t * t * agreement

    def backward(
        self, pixels: Tensor | None, labels: Tensor, *, features: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        """Leave the bent gradient of all images since the gradients were last cleared, not of each part of a batch."""
        images = self._images(pixels, features)
        text = self.text_features()  # one pass through the text tower for both gradients
        entropy, distance = (loss * weight for loss in self.losses(images, required(labels), text))
        g, h = (
            torch.autograd.grad(
                text, self.ctx, torch.autograd.grad(loss, text, retain_graph=True)[0], retain_graph=True
            )[0]
            for loss in (entropy, distance)
        )
        grad = self.ctx.grad
        if grad is not None and self._left is not None and grad is self._left[0] and grad._version == self._left[1]:
            g, h = g + self._left[2], h + self._left[3]
        self.ctx.grad = bend(g, h, self.config.lambda_)
        self._left = self.ctx.grad, self.ctx.grad._version, g, h
        return entropy.detach()


def bend(g: Tensor, h: Tensor, strength: float) -> Tensor:
    """g without `strength` of its component along h where the two contradict; g where h is zero or not a number."""
    along = h / h.norm()
    product = (g * along).sum()
    return torch.where(product < 0, g - strength * product * along, g)
