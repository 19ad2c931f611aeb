"""CLIP's causal text tower with the common prefix of all prompts computed once.

No token of a causal tower sees the tokens behind it. Two consequences save most of the work of a prompt step:

* everything behind the end token is dead weight, so prompts are cut at the longest one's end (23 tokens instead of 77);
* start token and context are the same for every class, so they are computed once, and every class's own tokens
  attend to the keys and values of that prefix, block by block.

The prefix stream [G, P, d] and the suffix stream [G, C, S, d] therefore run in lockstep; G is the number of contexts
(one, or one for each image in CoCoOp). Deep prompts overwrite rows of the prefix stream between blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from engines.backbones.attention import are_plain, project, residual
from engines.backbones.layout import PromptLayout
from engines.backbones.open_clip_text import OpenClipTextTower


def is_causal_clip(module: Any) -> bool:
    """Whether an open_clip text module is CLIP's: causal mask, feature at the end token, plain blocks."""
    pool = getattr(module, "pool_type", None) or getattr(module, "text_pool_type", "")
    return (
        module.attn_mask is not None
        and getattr(module, "cls_emb", None) is None
        and pool in ("argmax", "eos")
        and are_plain(module.transformer.resblocks)
    )


class CausalTextTower(OpenClipTextTower):
    """Text tower whose prompts share their prefix; equal to the plain path in value and gradient up to rounding."""

    causal = True

    def encode_prompts(
        self, layout: PromptLayout, context: Tensor, deep: Sequence[Tensor] | None = None, per_group: bool = False
    ) -> Tensor:
        deep = self._check(layout, context, deep, per_group)
        n_classes = len(layout.class_names)
        if context.ndim - per_group == 3:  # class-specific: only the start token is shared, whatever the group
            own = context.reshape(-1, *context.shape[-2:])
            features = self._suffixes(layout, own, layout.embeddings[:1, : layout.start], layout.start)[0]
            return features.view(-1, n_classes, features.shape[-1]) if per_group else features
        size = self.groups_at_once(layout)

        def encode(i: int, part: Tensor) -> Tensor:
            prefix = layout.rows(part[:, None], [0], stop=layout.prefix)[:, 0]
            inner = [d if d.ndim == 2 else d[i * size : i * size + size] for d in deep]
            return self._suffixes(layout, part[:, None], prefix, layout.prefix, inner)

        parts = (context if per_group else context[None]).split(size)
        if len(parts) > 1 and torch.is_grad_enabled():  # one part fills the memory: the others are computed anew
            encode = partial(checkpoint, encode, use_reentrant=False, preserve_rng_state=False)
        features = torch.cat([encode(i, part) for i, part in enumerate(parts)])
        return features if per_group else features[0]

    def _suffixes(
        self, layout: PromptLayout, context: Tensor, prefix: Tensor, begin: int, deep: Sequence[Tensor] = ()
    ) -> Tensor:
        """Features of all classes behind a shared prefix.

        Args:
            context: [G, 1, M, d], or [N, M, d] class-specific, N a multiple of C.
            prefix: [G, P, d] embedding rows in front of token `begin`, without positions.
        Returns:
            [G, N, D].
        """
        n_classes = len(layout.class_names)
        with self.runtime.autocast():
            shared = self._prefix(prefix, deep)
        # Short prompts first: parts then hold prompts of like length and carry little padding.
        n = n_classes if context.ndim == 4 else len(context)
        order = sorted(range(n), key=lambda i: layout.lengths[i % n_classes])

        def encode(part: Sequence[int]) -> Tensor:
            classes = [i % n_classes for i in part]
            stop = layout.lengths[classes[-1]]
            rows = layout.rows(context if context.ndim == 4 else context[list(part)], classes, begin, stop)
            end = torch.tensor([layout.lengths[c] - 1 - begin for c in classes], device=rows.device)
            rows = rows if rows.ndim == 4 else rows[None]
            return self._suffix(rows + self._positions[begin:stop], end, shared).transpose(0, 1)

        length = layout.ids.shape[1]
        per_class = len(prefix) * (length - begin) * self._bytes_per_token(length)
        features = torch.cat(self._in_parts(encode, order, per_class)).transpose(0, 1)
        back = torch.tensor(order, device=features.device).argsort()
        return features[:, back]

    def _prefix(self, rows: Tensor, deep: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Keys and values [G, H, P, d/H] of the prefix in every block."""
        x = rows + self._positions[: rows.shape[1]]
        start = len(self.tokenizer.start)
        keys_and_values = []
        for i, block in enumerate(self.blocks):
            if 1 <= i <= len(deep):
                inner = deep[i - 1].expand(len(x), *deep[i - 1].shape[-2:])
                x = torch.cat([x[:, :start], inner.to(x.dtype), x[:, start + inner.shape[1] :]], dim=1)
            q, k, v = (t.transpose(1, 2) for t in project(block, block.ln_1(x), 0, 3))
            keys_and_values.append((k, v))
            if i < self.depth - 1:
                seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                x = residual(block, x, seen.transpose(1, 2))
        return keys_and_values

    def _suffix(self, x: Tensor, end: Tensor, shared: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """[G, C, S, d] rows with positions, [C] indices of the end tokens -> [G, C, D]."""
        length = x.shape[2]
        hidden = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        for block, prefix in zip(self.blocks[:-1], shared[:-1], strict=True):
            q, k, v = (t.permute(0, 3, 1, 2, 4) for t in project(block, block.ln_1(x), 0, 3))
            x = residual(block, x, _attend(q, k, v, *prefix, hidden).permute(0, 2, 3, 1, 4))
        # Only the end token's output is used: in the last block all others serve as keys and values.
        block, at = self.blocks[-1], (slice(None), torch.arange(x.shape[1], device=x.device), end)
        normed = block.ln_1(x)
        k, v = (t.permute(0, 3, 1, 2, 4) for t in project(block, normed, 1, 3))
        (q,) = (t[:, :, None].permute(0, 3, 1, 2, 4) for t in project(block, normed[at], 0, 1))
        hidden = (torch.arange(length, device=x.device) > end[:, None])[:, None]
        seen = _attend(q, k, v, *shared[-1], hidden).permute(0, 2, 3, 1, 4)
        return self._head(residual(block, x[at], seen[:, :, 0]))


def _attend(q: Tensor, k: Tensor, v: Tensor, prefix_k: Tensor, prefix_v: Tensor, hidden: Tensor) -> Tensor:
    """Attention of every class's queries to the shared prefix and to the class's own tokens, one softmax over both.

    Args:
        q: [G, H, C, Q, e]; k, v: [G, H, C, S, e]; prefix_k, prefix_v: [G, H, P, e], not expanded over classes.
        hidden: bool, broadcast to [C, Q, S]: own tokens a query must not see.
    """
    shape, n_prefix = q.shape, prefix_k.shape[2]
    q = q * shape[-1] ** -0.5
    to_prefix = (q.flatten(2, 3) @ prefix_k.transpose(-1, -2)).unflatten(2, shape[2:4])
    to_own = (q @ k.transpose(-1, -2)).masked_fill(hidden, float("-inf"))
    weight = torch.cat([to_prefix, to_own], dim=-1).softmax(-1).to(v.dtype)
    from_prefix = (weight[..., :n_prefix].flatten(2, 3) @ prefix_v).view(shape)
    return from_prefix + weight[..., n_prefix:] @ v
