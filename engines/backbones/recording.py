"""The attention of an image tower while it looks at images: its weights, which gradients reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from timm.layers import Attention as TimmAttention
from torch import Tensor

from engines.backbones.attention import are_plain, project
from engines.backbones.vision import OpenClipVisionTower, TimmVisionTower, VisionTower
from engines.errors import BackboneError


@contextmanager
def recorded_attention(tower: VisionTower) -> Iterator[list[Tensor]]:
    """Within the block, every pass through `tower` adds one tensor [B, H, T, T] a block: attention after softmax.

    Rows are queries. The result of the pass is the same but for rounding. With gradients switched on, each tensor
    takes part in the result, so `torch.autograd.grad(score, maps)` tells what raises a score.

    Raises:
        BackboneError: the attention of this tower cannot be read.
    """
    if reason := unreadable(tower):
        raise BackboneError(f"Where this model looks cannot be told: {reason}.", "Choose a model with a ViT.")
    maps: list[Tensor] = []
    with ExitStack() as undo:
        for block in tower.blocks:
            if isinstance(tower, TimmVisionTower):
                _record_timm(block.attn, maps, undo)
            else:
                block.attention = partial(_attend, block, maps)  # hides the method of the class
                undo.callback(delattr, block, "attention")
        yield maps


def unreadable(tower: VisionTower) -> str:
    """Why the attention of `tower` cannot be read, in words; empty where it can."""
    if isinstance(tower, OpenClipVisionTower) and are_plain(tower.blocks):
        return ""
    if isinstance(tower, TimmVisionTower) and all(type(block.attn) is TimmAttention for block in tower.blocks):
        return ""
    return tower.reason or "the blocks of its image tower are of an unusual kind"


def _record_timm(attention: Any, maps: list[Tensor], undo: ExitStack) -> None:
    undo.callback(setattr, attention, "fused_attn", attention.fused_attn)
    attention.fused_attn = False
    hook = attention.attn_drop.register_forward_hook(lambda module, given, weights: _noted(weights, maps))
    undo.callback(hook.remove)


def _attend(block: Any, maps: list[Tensor], q_x: Tensor, **others: Any) -> Tensor:
    """What open_clip's `ResidualAttentionBlock.attention` gives without a mask, step by step."""
    queries, keys, values = (part.transpose(1, 2) for part in project(block, q_x, 0, 3))  # [B, H, T, d/H]
    weights = (queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5).softmax(dim=-1)
    mixed = _noted(weights, maps) @ values
    added: Tensor = block.attn.out_proj(mixed.transpose(1, 2).flatten(-2))
    return added


def _noted(weights: Tensor, maps: list[Tensor]) -> Tensor:
    if torch.is_grad_enabled() and not weights.requires_grad:
        weights.requires_grad_()  # the tower is frozen: gradients begin here
    maps.append(weights)
    return weights
