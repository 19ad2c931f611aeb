"""What methods share that learn context vectors around the class name, as CoOp does."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.prompts.base import PromptMethod


class ContextPrompt(PromptMethod):
    """Learns context `ctx` [M, d], or [C, M, d] class-specific, put into the prompts of all classes.

    Reads the settings n_ctx, ctx_init, count_tokens, class_token_position and csc; those that a method does not offer
    stand at CoOp's defaults.
    """

    official_names: ClassVar[dict[str, str]] = {"ctx": "prompt_learner.ctx"}

    def build(self) -> None:
        start, words = self.starting_context()
        self.ctx = nn.Parameter(start)
        position = getattr(self.config, "class_token_position", "end")
        self.layout = self.backbone.text.layout(
            self.class_names, n_ctx=start.shape[-2], position=position, words=words or None
        )

    def starting_context(self) -> tuple[Tensor, str]:
        """Where `ctx` begins, and the prompt's words that it takes the place of (none for a random start)."""
        words = " ".join(self.config.ctx_init.replace("_", " ").split())
        if not words:
            return self.random_context(), ""
        counted = getattr(self.config, "count_tokens", False)
        length = self.backbone.text.count_tokens(words) if counted else len(words.split(" "))
        return self.backbone.text.embed_words(words)[:length].clone(), words

    def random_context(self) -> Tensor:
        """N(0, 0.02^2), one for all classes or one for each."""
        classes = [len(self.class_names)] if getattr(self.config, "csc", False) else []
        return torch.empty(*classes, self.config.n_ctx, self.backbone.text.width).normal_(std=0.02)

    @property
    def class_bound(self) -> bool:
        return self.ctx.dim() == 3

    def context(self) -> Tensor:
        """The vectors that stand in the prompts, [M, d] or [C, M, d]."""
        return self.ctx

    def text_features(self) -> Tensor:
        return F.normalize(self.backbone.text.encode_prompts(self.layout, self.context()), dim=-1)
