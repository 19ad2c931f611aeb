"""DPL-style decoupled attention of prompts and instance tokens (after Xu et al., arXiv 2308.10061; reconstruction)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from open_clip.transformer import ResidualAttentionBlock
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.backbones.attention import project, residual
from engines.backbones.causal import CausalTextTower
from engines.prompts.base import MethodInfo, PromptMethod
from engines.prompts.deep import PromptDepth, PromptLength, drawn_prompts
from engines.prompts.fields import PLAIN, Sentence
from engines.prompts.settings import MethodConfig


class DPLDecoupledConfig(MethodConfig):
    n_ctx: PromptLength = Field(
        4, title="Learned places", description="How many learned places each of both sides gets, in every layer."
    )
    prompt_depth: PromptDepth = 9
    template: Sentence = PLAIN
    mode: Literal["decoupled", "exact"] = Field(
        "decoupled",
        title="How attention is split",
        description="Decoupled adds what the learned places say to what the model would do anyway; exact mixes both as"
        " ordinary prompting does.",
    )
    gain: float = Field(
        0.1, ge=-10, le=10, title="Weight at first", description="How much the learned places count before training."
    )
    per_head: bool = Field(
        False,
        title="A weight for every head",
        description="Learn one weight for each attention head instead of one for each layer.",
        json_schema_extra={"advanced": True},
    )
    prompts_see_inputs: bool = Field(
        False,
        title="Learned places see the input",
        description="Let the learned places look at the image or sentence, so that they differ for each.",
        json_schema_extra={"advanced": True},
    )
    weaken_inputs: bool = Field(
        False,
        title="Weaken the model’s own view",
        description="Keep the loss of weight of the model’s own attention that ordinary prompting brings.",
        json_schema_extra={"advanced": True},
    )


class DPLDecoupled(PromptMethod):
    """Attention of instance rows X and prompt rows P in four parts, each with a weight of its own.

    With A(a, S) the softmax attention of row a over the set S alone and l(a) = Z_P / (Z_X + Z_P), ordinary attention is
    o_x = (1 - l) A(x, X) + l A(x, P) and o_p = (1 - m) A(p, P) + m A(p, X), exactly (mode “exact”). Decoupled: o_x =
    A(x, X) + g A(x, P) with one learned g per block and tower, o_p = A(p, P). At g = 0 both towers are the untouched
    model's. Prompts travel: p_{i+1} = block_i(p_i) + q_{i+1}, q_i learned for the first J blocks, behind which they
    are left out. Text rows are those of the whole sentence; prompts are further keys and values that every row sees.

    RECONSTRUCTION: only the paper's abstract could be read. Which parts it strengthens, and how, is not known.
    """

    info = MethodInfo(
        name="dpl-decoupled",
        title="DPL-style (reconstruction)",
        summary="Lets learned places speak beside what the model sees and reads, without weakening either."
        " With their weight at nothing, the model is as it was; training turns them up where that helps.",
        when="You want to change the model as gently as possible; our reading of an idea, not the paper's method.",
        paper="After Xu, Zhu, Zhang, Shen, Liao, Chen, Wu, Wang, “DPL: Decoupled Prompt Learning for Vision-Language"
        " Models”, arXiv 2308.10061",
        cost="minutes",
        parity="There is no official code. Mode “exact” equals ordinary prompting with travelling prompts to 1e-5, and"
        " a weight of 0 equals the untouched model to 1e-6.",
        reported="Nothing is quoted: the numbers could not be read, and this is a reconstruction.",
    )
    Config = DPLDecoupledConfig
    config: DPLDecoupledConfig
    frozen_images = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "few-shot": {"epochs": 20, "batch_size": 4, "learning_rate": 0.0025}
    }

    @classmethod
    def refuse(cls, backbone: Backbone) -> str:
        plain = all(isinstance(block, ResidualAttentionBlock) for block in backbone.vision.blocks)
        if backbone.vision.reason or not plain or not isinstance(backbone.text, CausalTextTower):
            return "It works inside the attention of CLIP's own towers. Choose a CLIP model with a ViT image tower."
        return ""

    def build(self) -> None:
        config, text, vision = self.config, self.backbone.text, self.backbone.vision
        assert isinstance(text, CausalTextTower)
        self.tower = text
        depth = min(config.prompt_depth, text.depth, vision.depth)
        self.text = drawn_prompts(depth, config.n_ctx, text.width)
        self.image = drawn_prompts(depth, config.n_ctx, vision.width)
        heads = [b[0].attn.num_heads if config.per_head else 1 for b in (text.blocks, vision.blocks)]
        self.text_gain, self.image_gain = (nn.Parameter(torch.full((depth, h, 1, 1), config.gain)) for h in heads)
        names = [name.replace("_", " ") for name in self.class_names]
        self.rows, self.eot = text.embed_texts([config.template.replace("{}", name) for name in names])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay would pull the weights of the prompts to nothing."""
        gains = [self.text_gain, self.image_gain]
        return [{"params": [*self.text, *self.image]}, {"params": gains, "weight_decay": 0.0}]

    def image_features(self, pixels: Tensor) -> Tensor:
        vision = self.backbone.vision
        with self.backbone.runtime.autocast():
            x = vision.embed(pixels.to(self.backbone.device))
            return F.normalize(vision.pool(self._through(vision.blocks, x, self.image, self.image_gain)), dim=-1)

    def text_features(self) -> Tensor:
        with self.backbone.runtime.autocast():
            x, mask = self.tower.enter(self.rows)
            # What prompts may see of each sentence, where they see it: the tokens up to its end.
            seen = torch.arange(x.shape[1], device=x.device) <= self.eot[:, None]
            x = self._through(self.tower.blocks, x, self.text, self.text_gain, mask, seen[:, None, None])
            return F.normalize(self.tower.leave(x, self.eot), dim=-1)

    def _through(
        self,
        blocks: Any,
        x: Tensor,
        prompts: nn.ParameterList,
        gains: Tensor,
        mask: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Rows [N, T, d] behind all blocks; prompts [m, d] are at work in the first of them."""
        p = torch.zeros_like(prompts[0])[None]
        for i, block in enumerate(blocks):
            if i < len(prompts):
                x, p = self._block(block, x, p + prompts[i], gains[i], mask, seen)
            else:
                x = block(x, attn_mask=mask)
        return x

    def _block(
        self, block: Any, x: Tensor, p: Tensor, gain: Tensor, mask: Tensor | None, seen: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One block on instance rows x [N, T, d] and prompt rows p [1 or N, m, d]."""
        config, exact = self.config, self.config.mode == "exact"
        xq, xk, xv = (t.transpose(1, 2) for t in project(block, block.ln_1(x), 0, 3))
        pq, pk, pv = (t.transpose(1, 2) for t in project(block, block.ln_1(p), 0, 3))
        own, other = _attend(xq, xk, xv, mask), _attend(xq, pk, pv)
        if exact or config.weaken_inputs:
            share = torch.sigmoid(_log_sum(xq, pk) - _log_sum(xq, xk, mask))
            own = (1 - share) * own
            gain = share if exact else gain
        attended = _attend(pq, pk, pv)
        if exact:
            share = torch.sigmoid(_log_sum(pq, xk, seen) - _log_sum(pq, pk))
            attended = (1 - share) * attended + share * _attend(pq, xk, xv, seen)
        elif config.prompts_see_inputs:
            attended = attended + _attend(pq, xk, xv, seen)
        p = p.expand(len(attended), -1, -1)
        return residual(block, x, (own + gain * other).transpose(1, 2)), residual(block, p, attended.transpose(1, 2))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """[N, H, T, e] queries over [N or 1, H, S, e] keys and values."""
    n = max(len(q), len(k))
    q, k, v = (t.expand(n, -1, -1, -1) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _log_sum(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """log of the sum of exp(scores) over the keys, [N, H, T, 1]."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return scores.logsumexp(dim=-1, keepdim=True)
