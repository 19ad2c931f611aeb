"""The inside of open_clip's transformer blocks, for those who change how tokens attend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor


def are_plain(blocks: Iterable[Any]) -> bool:
    """Whether all are open_clip's plain pre-norm blocks, which the functions below take apart."""
    return all(type(block) is ResidualAttentionBlock and block.attn.in_proj_weight is not None for block in blocks)


def project(block: Any, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
    """Queries (0), keys (1), values (2) of x [..., d], each [..., H, d/H]."""
    attention, d = block.attn, x.shape[-1]
    part = slice(first * d, last * d)
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias[part]
    projected = F.linear(x, attention.in_proj_weight[part], bias)
    return projected.unflatten(-1, (last - first, attention.num_heads, -1)).unbind(-3)


def attended(block: Any, heads: Tensor) -> Tensor:
    """What a block's attention adds to its input: heads [..., H, d/H] -> [..., d]."""
    out = block.attn.out_proj
    added: Tensor = block.ls_1(F.linear(heads.flatten(-2), out.weight, out.bias))
    return added


def residual(block: Any, x: Tensor, heads: Tensor) -> Tensor:
    """The rest of a pre-norm block behind its attention: heads [..., H, d/H], x [..., d]."""
    x = x + attended(block, heads)
    return x + block.ls_2(_mlp(block.mlp, block.ln_2(x)))


def _mlp(mlp: Any, x: Tensor) -> Tensor:
    if not isinstance(mlp.gelu, QuickGELU):
        return mlp(x)
    # x sigmoid(1.702 x) = silu(1.702 x) / 1.702: one fused pass that keeps one tensor for backward instead of two.
    inner: Tensor = mlp.c_fc(x).mul_(1.702)
    return mlp.c_proj(F.silu(inner).mul_(1 / 1.702))
