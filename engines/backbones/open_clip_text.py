"""open_clip's own text transformers, entered by embeddings: the plain path, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engines.backbones.layout import PromptLayout
from engines.backbones.runtime import Runtime
from engines.backbones.text import TextTower
from engines.backbones.tokens import PromptTokenizer


class OpenClipTextTower(TextTower):
    """A text transformer of open_clip as it is: causal or not, with or without CoCa's class token.

    Args:
        module: open_clip's CLIP (which holds the text tower's parts itself) or its TextTransformer.
    """

    def __init__(self, module: Any, tokenizer: PromptTokenizer, runtime: Runtime) -> None:
        super().__init__(tokenizer, module.token_embedding, module.token_embedding.embedding_dim, runtime)
        self.blocks: Sequence[Any] = module.transformer.resblocks
        self._positions: Tensor = module.positional_embedding
        self._ln_final: nn.Module = module.ln_final
        self._projection: Tensor | nn.Linear | None = module.text_projection
        self._mask: Tensor | None = module.attn_mask
        self._pool: str = getattr(module, "pool_type", None) or module.text_pool_type
        self._cls: Tensor | None = getattr(module, "cls_emb", None)
        self._pads_masked: bool = self._cls is not None or getattr(module, "use_pad_mask", False)
        self._module = module

    @property
    def depth(self) -> int:
        return len(self.blocks)

    @property
    def padded_length(self) -> int | None:
        causal_to_the_end = self._mask is not None and self._cls is None and self._pool in ("argmax", "eos")
        return None if causal_to_the_end else self.tokenizer.context_length

    def _bytes_per_token(self, length: int) -> int:
        block = self.blocks[0]
        heads = block.attn.num_heads
        return 4 * self.depth * (5 * self.width + block.mlp.c_fc.out_features + 2 * heads * length)

    def _encode(self, rows: Tensor, eot: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
        last = rows
        for x in self._states(rows, eot, deep):
            last = x
        return self._head(self._pooled(last, eot))

    def enter(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embedding rows [N, L, d] as they enter the first block, and the causal mask [L, L] (added to the scores)."""
        mask = None if self._mask is None else self._mask[: rows.shape[1], : rows.shape[1]]
        return rows + self._positions[: rows.shape[1]], mask

    def leave(self, x: Tensor, eot: Tensor) -> Tensor:
        """What leaves the last block, [N, L, d], as features [N, D], not normalised."""
        return self._head(self._pooled(x, eot)).float()

    def end_states(
        self, layout: PromptLayout, context: Tensor | None = None, deep: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """State of the pooled token behind every block, [C, d] each, on the plain path.

        Args:
            context: [M, d] or [C, M, d]; without one the prompts' own words and placeholders stand there.
            deep: as for `encode_prompts`.
        """
        n = len(layout.class_names)
        rows = layout.embeddings if context is None else layout.rows(context, range(n))
        with self.runtime.autocast():
            states = self._states(rows, layout.eot, [d.expand(n, *d.shape[-2:]) for d in deep])
            return [self._pooled(x, layout.eot).float() for x in states]

    def _states(self, rows: Tensor, eot: Tensor, deep: Sequence[Tensor]) -> Iterator[Tensor]:
        """What leaves each block, [N, L, d]."""
        n, length = rows.shape[:2]
        if self._cls is not None:
            rows = torch.cat([rows, self._cls.expand(n, 1, -1)], dim=1)
        x = rows + self._positions[: rows.shape[1]]
        mask = self._attention_mask(eot, length, x)
        start = len(self.tokenizer.start)
        for i, block in enumerate(self.blocks):
            if 1 <= i <= len(deep):
                inner = deep[i - 1]
                x = torch.cat([x[:, :start], inner.expand(n, -1, -1), x[:, start + inner.shape[-2] :]], dim=1)
            x = block(x, attn_mask=mask)
            yield x

    def _attention_mask(self, eot: Tensor, length: int, x: Tensor) -> Tensor | None:
        total = x.shape[1]
        mask = None if self._mask is None else self._mask[:total, :total]
        if self._pads_masked:
            # open_clip reads padding off the token ids: hand it ids that say only "padding or not".
            real = torch.arange(length, device=eot.device) <= eot[:, None]
            ids = torch.where(real, self._module.pad_id + 1, self._module.pad_id)
            padding = self._module._build_additive_mask(ids, total, x.dtype)
            mask = padding if mask is None else mask[None] + padding
        return mask

    def _pooled(self, x: Tensor, eot: Tensor) -> Tensor:
        if self._cls is not None or self._pool == "last":
            return x[:, -1]
        if self._pool == "first":
            return x[:, 0]
        return x[torch.arange(len(x), device=x.device), eot]

    def _head(self, pooled: Tensor) -> Tensor:
        """[..., d] last hidden state of the pooled token -> [..., D]."""
        x: Tensor = self._ln_final(pooled)
        if self._projection is None:
            return x
        return self._projection(x) if isinstance(self._projection, nn.Linear) else x @ self._projection
