"""RESTORE: feature shift consistency and surgery for prompts in both towers (Yang et al., arXiv 2403.06136)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from open_clip.transformer import QuickGELU
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.prompts.base import MethodInfo, required
from engines.prompts.deep import DeepPrompt
from engines.prompts.ivlp import IVLP, IVLPConfig
from engines.prompts.maple import MaPLe, MaPLeConfig
from engines.prompts.settings import MethodConfig
from engines.prompts.shift import States, image_states, shift, text_states

TEXT_STEP, IMAGE_STEP = 0.02, 0.005
"""How much surgery grows with the size of the prompts, once (official code; the paper's reason is not known)."""


class ShiftConfig(MethodConfig):
    w: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="Keep both sides in step",
        description="How firmly the words and the images are held to moving equally far. 0 lets them drift apart.",
    )
    shift: Literal["gram", "embedding"] = Field(
        "gram",
        title="Measure of movement",
        description="By the size of the learned places (gram, as the released code) or by how far the features"
        " themselves moved (embedding, slower).",
        json_schema_extra={"advanced": True},
    )


class RESTOREConfig(MaPLeConfig, ShiftConfig):
    text_ratio: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Correction of the words",
        description="How much the block behind the text tower counts at first (surgery ratio).",
    )
    image_ratio: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Correction of the images",
        description="How much the block behind the image tower counts at first (surgery ratio).",
    )


class RESTOREIVLPConfig(IVLPConfig, ShiftConfig):
    pass


class ShiftConsistency(DeepPrompt):
    """L = CE + w sum_{i=1}^{J-1} (a_i - b_i)^2, a_i and b_i the shift of the words and of the images in block i.

    By default a_i = |T_i^T T_i| / |T_i0^T T_i0|, and b_i the same of the vision prompts, where 0 marks the prompts at
    the first forward pass; block 0 is left out. With `embedding`, a_i and b_i are the mean movement of the end token
    and of the class token behind block i (`shift.py`; a reconstruction of the paper's words).
    """

    reference_text: Tensor
    reference_image: Tensor

    def build(self) -> None:
        super().build()
        inner = min(len(self.text_prompts()), len(self.image_prompts())) - 1
        # Zero until the first forward pass; the official code forgets it when a training goes on.
        self.register_buffer("reference_text", torch.zeros(max(0, inner)))
        self.register_buffer("reference_image", torch.zeros(max(0, inner)))

    @classmethod
    def official_name(cls, name: str) -> str:
        return "" if name.startswith("reference_") else super().official_name(name)

    def gram_norms(self) -> tuple[Tensor, Tensor]:
        """|P^T P|_F of the inner prompts, [J - 1], of the words and of the images."""
        inner = slice(1, 1 + len(self.reference_text))

        def norms(prompts: list[Tensor]) -> Tensor:
            # The n x n product has the same norm as the d x d one.
            found = [torch.linalg.matrix_norm(p @ p.T) for p in prompts[inner]]
            return torch.stack(found) if found else torch.zeros(0, device=self.backbone.device)

        return norms(self.text_prompts()), norms(self.image_prompts())

    @torch.no_grad()
    def remember_start(self) -> None:
        """Take the prompts of now as the start, once."""
        if not self.reference_text.any():
            text, image = self.gram_norms()
            self.reference_text.copy_(text)
            self.reference_image.copy_(image)

    def raw_image_features(self, pixels: Tensor) -> Tensor:
        self.remember_start()
        return super().raw_image_features(pixels)

    def raw_text_features(self) -> Tensor:
        self.remember_start()
        return super().raw_text_features()

    @cached_property
    def free_text(self) -> States:
        """The text tower on the sentence's own words, computed once."""
        with torch.no_grad():
            return text_states(self.backbone, self.layout)

    def shift_loss(self, pixels: Tensor) -> Tensor:
        """sum_i (a_i - b_i)^2, a scalar."""
        self.remember_start()
        if self.config.shift == "gram":
            text, image = self.gram_norms()
            return ((text / self.reference_text - image / self.reference_image) ** 2).sum()
        with torch.no_grad():
            free = image_states(self.backbone, pixels)
        image = shift(image_states(self.backbone, pixels, self.image_prompts()), free).blocks.mean(dim=1)
        text = shift(text_states(self.backbone, self.layout, self.text_prompts()), self.free_text).blocks.mean(dim=1)
        blocks = min(len(image), len(text))
        return ((image[1:blocks] - text[1:blocks]) ** 2).sum()

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        pixels = required(pixels)
        images, text = self.image_features(pixels), self.text_features()
        cross_entropy = F.cross_entropy(self.backbone.logit_scale * images @ text.T, required(labels))
        return cross_entropy + self.config.w * self.shift_loss(pixels) if self.config.w else cross_entropy


class Surgery(nn.Module):
    """f -> f + r W2 quickgelu(W1 LN(f)), the feed-forward block behind a tower; r is set, not learned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.post_ln = nn.LayerNorm(width)
        self.FFN = nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width))

    def forward(self, features: Tensor, ratio: Tensor) -> Tensor:
        """[N, D] -> [N, D]."""
        return features + ratio * self.FFN(self.post_ln(features))


class RESTORE(ShiftConsistency, MaPLe):
    """MaPLe whose towers are kept moving in step, with a surgery block behind each (before normalisation).

    Consistency alone can be had by moving both towers far; surgery works against that. Its ratios grow once, after the
    pass number floor(E / 3) counted from 0, by 0.02 and 0.005 times the mean size of the prompts. The official code
    keeps everything in half precision; here all is float32.
    """

    info = MethodInfo(
        name="restore",
        title="RESTORE",
        summary="Learns like MaPLe, but watches how far the words and the images move away from what the model knew,"
        " and keeps both in step. So the two sides still understand each other, also for classes it never saw.",
        when="You will meet further classes later, or want to see on the Shift page how training moves both sides.",
        paper="Yang, Zhang, Yang, Gao, Qin, Li, Sun, Yang, Gu, “RESTORE: Towards Feature Shift for Vision-Language"
        " Prompt Learning”, arXiv 2403.06136",
        cost="minutes",
        parity="Features of both towers before and behind surgery, sizes of the prompts, both terms of the loss, every"
        " gradient and every value after 5 steps, and the growth of the ratios equal the official code's to 1e-4 (3"
        " layers; at the start and with moved prompts). The paper's own formulas could not be read; the measure of"
        " movement “embedding” is a reconstruction.",
        reported="The paper's tables could not be read, so nothing is quoted.",
    )
    Config = RESTOREConfig
    config: RESTOREConfig
    text_adapter: Surgery
    visual_adapter: Surgery
    text_ratio: Tensor
    image_ratio: Tensor
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "few-shot": {"epochs": 10, "batch_size": 4, "learning_rate": 0.0035},
        "cross-dataset": {"epochs": 2, "batch_size": 4, "learning_rate": 0.0035},
        "domain-generalisation": {"epochs": 2, "batch_size": 4, "learning_rate": 0.0035},
    }
    setting_presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def build(self) -> None:
        super().build()
        self.text_adapter, self.visual_adapter = (Surgery(self.backbone.embed_dim) for _ in range(2))
        self.register_buffer("text_ratio", torch.tensor(self.config.text_ratio))
        self.register_buffer("image_ratio", torch.tensor(self.config.image_ratio))

    @classmethod
    def official_name(cls, name: str) -> str:
        return "" if name.endswith("_ratio") else super().official_name(name)

    def load_official(self, state_dict: Mapping[str, Any]) -> None:
        """As for every method; also takes over the ratios of surgery where the checkpoint holds them."""
        super().load_official(state_dict)
        given = state_dict.get("state_dict", state_dict)
        for own, official in ((self.text_ratio, "text_cali_ratio"), (self.image_ratio, "vis_cali_ratio")):
            if official in given:
                own.fill_(float(given[official]))

    def adapt(self, raw: Tensor) -> Tensor:
        return F.normalize(self.visual_adapter(raw, self.image_ratio), dim=-1)

    def text_features(self) -> Tensor:
        return F.normalize(self.text_adapter(self.raw_text_features(), self.text_ratio), dim=-1)

    @torch.no_grad()
    def grow_ratios(self) -> None:
        """Stronger surgery for larger prompts."""
        text, image = self.gram_norms()
        if len(text):
            self.text_ratio += TEXT_STEP * text.mean()
            self.image_ratio += IMAGE_STEP * image.mean()

    def end_epoch(self, epoch: int, epochs: int) -> None:
        if epoch == epochs // 3:
            self.grow_ratios()


class RESTOREIVLP(ShiftConsistency, IVLP):
    """IVLP whose towers are kept moving in step, without surgery (the official repository's second trainer).

    The official code takes the 11 inner layers of ViT-B/16 for granted; here all that are prompted in both towers.
    """

    info = MethodInfo(
        name="restore-ivlp",
        title="RESTORE on IVLP",
        summary="Learns words and places beside the image patches independently, like IVLP, but keeps both sides moving"
        " equally far away from what the model knew. It is the simplest form of RESTORE.",
        when="You want to see what keeping both sides in step does by itself.",
        paper=RESTORE.info.paper,
        cost="minutes",
        parity="Features of both towers, sizes of the prompts, both terms of the loss, every gradient and every prompt"
        " after 5 steps equal the official code's to 1e-4 (3 layers, moved prompts).",
        reported="The paper's tables could not be read, so nothing is quoted.",
    )
    Config = RESTOREIVLPConfig
    config: RESTOREIVLPConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = IVLP.presets
