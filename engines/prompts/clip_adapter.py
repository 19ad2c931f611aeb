"""CLIP-Adapter: a small network behind the image tower (Gao et al., IJCV 2023)."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.prompts.base import MethodInfo, PromptMethod
from engines.prompts.coop import CoOp
from engines.prompts.fields import PLAIN, Sentence
from engines.prompts.settings import MethodConfig, TrainingConfig


class CLIPAdapterConfig(MethodConfig):
    template: Sentence = PLAIN
    ratio: float = Field(
        0.2,
        gt=0,
        le=1,
        title="Share of the adapter",
        description="How much the learned correction counts beside the model’s own view of an image (residual ratio).",
    )
    reduction: int = Field(
        4,
        ge=1,
        le=1024,
        title="Narrowing",
        description="How much narrower than the image feature the inside of the adapter is; larger means simpler.",
        json_schema_extra={"advanced": True},
    )
    renormalise: bool = Field(
        True,
        title="Unit length after the adapter",
        description="The mixture is brought to length one, as in the authors’ code. BiomedCoOp’s copy leaves it as"
        " long as it comes out, which makes the method another one; switch off for that.",
        json_schema_extra={"advanced": True},
    )


class CLIPAdapter(PromptMethod):
    """u = unit(r A(v) + (1 - r) v), A(v) = ReLU(W2 ReLU(W1 v)), no biases (section 3.2, visual adapter).

    v is the unit image feature. The authors take it as long as the tower makes it; without biases that only makes the
    mixture longer, which the last step takes out. The final ReLU, which lets the correction point into the positive
    orthant only, is the official code's; the paper's text adapter is in no published code and left out.
    """

    info = MethodInfo(
        name="clip-adapter",
        title="CLIP-Adapter",
        summary="Leaves the words as they are and learns a small correction of how the model sees images."
        " Text is looked at once, so it is quick even with many classes.",
        when="The ready-made sentence says the right thing, but your images look unlike everyday photos.",
        paper="Gao, Geng, Zhang, Ma, Fang, Zhang, Li, Qiao, “CLIP-Adapter: Better Vision-Language Models with Feature"
        " Adapters”, IJCV 2023, arXiv 2110.04544",
        cost="seconds",
        parity="Adapter output, mixed features, text features, logits, loss, both gradients and weights after 5 steps"
        " equal the authors' code to 1e-4; logits, losses, gradients and weights after 12 steps equal BiomedCoOp's copy"
        " (share 0.5, not brought to unit length after). Its learning rate, which swings up and down"
        " by mistake, is not taken over.",
        reported="RN50, mean of 11 data sets, 1 / 2 / 4 / 8 / 16 labelled images per class:"
        " 62.67 / 65.55 / 68.61 / 71.40 / 74.44.",
    )
    Config = CLIPAdapterConfig
    config: CLIPAdapterConfig
    official_names: ClassVar[dict[str, str]] = {"adapter.": "adapter.fc."}

    @classmethod
    def training_defaults(cls, protocol: str = "few-shot", shots: int = 16) -> TrainingConfig:
        """CoOp's: the repository is run by CoOp's commands."""
        return CoOp.training_defaults(protocol, shots)

    def build(self) -> None:
        width = self.backbone.embed_dim
        narrow = max(1, width // self.config.reduction)
        self.adapter = nn.Sequential(
            nn.Linear(width, narrow, bias=False), nn.ReLU(), nn.Linear(narrow, width, bias=False), nn.ReLU()
        )

    @cached_property
    def ready_made(self) -> Tensor:
        """Unit features [C, D] of the ready-made sentences, computed once."""
        return self.sentence_features([self.config.template])

    def text_features(self) -> Tensor:
        return self.ready_made

    def adapt(self, raw: Tensor) -> Tensor:
        unit = F.normalize(raw, dim=-1)
        mixed = self.config.ratio * self.adapter(unit) + (1 - self.config.ratio) * unit
        return F.normalize(mixed, dim=-1) if self.config.renormalise else mixed
