"""PRE: prompt learning with reparameterization encoder (Pham et al., 2023)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from engines.prompts.base import MethodInfo
from engines.prompts.context import ContextPrompt
from engines.prompts.fields import ClassPosition, ClassSpecific, ContextLength, CountTokens, StartingWords
from engines.prompts.settings import MethodConfig


class PREConfig(MethodConfig):
    n_ctx: ContextLength = 4
    ctx_init: StartingWords = "a photo of a"
    class_token_position: ClassPosition = "end"
    csc: ClassSpecific = False
    encoder: Literal["LSTM1", "LSTM2", "MLP1", "MLP2"] = Field(
        "LSTM1",
        title="Encoder",
        description="The small network behind the learned words: LSTM with one or two layers, which lets the words see"
        " each other, or a layer pair (MLP) applied once or twice.",
    )
    residual: bool = Field(
        True,
        title="Add to the words",
        description="The encoder’s result is added to the learned words rather than taking their place.",
    )
    separate: bool = Field(
        False,
        title="One encoder per word",
        description="Every learned word has an encoder of its own. The official code never trains these.",
        json_schema_extra={"advanced": True},
    )
    train_separate: bool = Field(
        False,
        title="Train these encoders",
        description="Train the encoders per word too, where the official code leaves them as they began.",
        json_schema_extra={"advanced": True},
    )
    count_tokens: CountTokens = False


class PRE(ContextPrompt):
    """CoOp on encoded vectors: prompts hold g(ctx) + ctx (section 3); the loss is cross-entropy alone.

    The encoder is not needed in use: text features of fixed classes are computed once. The official code forgets to
    register encoders per word, so it neither trains nor saves them; here they are saved, and trained on request.
    """

    info = MethodInfo(
        name="pre",
        title="PRE",
        summary="Learns the words in front of the class name like CoOp, but through a small network that ties them"
        " together. They are found in fewer passes, and carry over better to classes they were not trained on.",
        when="Few labelled images, further classes may follow, and CoOp is not steady enough.",
        paper="Pham et al., “PRE: Vision-Language Prompt Learning with Reparameterization Encoder”, 2023,"
        " arXiv 2309.07760",
        cost="seconds",
        parity="Encoded context, features, logits, loss, every gradient and all values after 5 steps equal the official"
        " code's to 1e-4 (LSTM with and without residual, class-specific; MLP once, twice, and per word).",
        reported="ViT-B/16, 16 labelled images per class, mean of 8 data sets, base / new / harmonic mean:"
        " 82.14 / 71.88 / 76.27.",
    )
    Config = PREConfig
    config: PREConfig
    official_names: ClassVar[dict[str, str]] = {
        "ctx": "prompt_learner.ctx",
        "encoder.": "prompt_learner.encoder_network.",
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {"few-shot": {"epochs": 50}, "base-to-new": {"epochs": 50}}

    def build(self) -> None:
        super().build()
        kind, width = self.config.encoder, self.backbone.text_width
        self.encoder: nn.Module
        if self.config.separate:
            self.encoder = nn.ModuleList(make_encoder(kind, width) for _ in range(self.ctx.shape[-2]))
            self.encoder.requires_grad_(self.config.train_separate)
        else:
            self.encoder = make_encoder(kind, width)
        self.encoder.eval()  # dropout acts in training only

    def context(self) -> Tensor:
        if isinstance(self.encoder, nn.ModuleList):
            parts = self.ctx.split(1, dim=-2)
            encoded = torch.cat([encoder(part) for encoder, part in zip(self.encoder, parts, strict=True)], dim=-2)
        else:
            encoded = self.encoder(self.ctx)
        return encoded + self.ctx if self.config.residual else encoded


class LSTMEncoder(nn.Module):
    """Both directions of width d / 2, so that their outputs join to d; dropout between layers only."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm_head = nn.LSTM(
            width, width // 2, layers, bidirectional=True, batch_first=True, dropout=0.05 if layers > 1 else 0
        )

    def forward(self, vectors: Tensor) -> Tensor:
        # cuDNN refuses the backward pass of an LSTM in evaluation mode; a few vectors gain nothing from it.
        with torch.backends.cudnn.flags(enabled=False):
            encoded: Tensor = self.lstm_head(vectors)[0]
        return encoded


class MLPEncoder(nn.Module):
    """Linear(d, 64), ReLU, Linear(64, d); the same layers `times` times, without activation in between."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width))
        self.times = times

    def forward(self, vectors: Tensor) -> Tensor:
        for _ in range(self.times):
            vectors = self.module(vectors)
        return vectors


def make_encoder(kind: str, width: int) -> nn.Module:
    """The encoder called `kind`, with torch's random start: vectors [.., M, width] -> [.., M, width]."""
    family, number = kind[:-1], int(kind[-1])
    return LSTMEncoder(width, number) if family == "LSTM" else MLPEncoder(width, number)
