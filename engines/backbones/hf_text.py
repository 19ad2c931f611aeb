"""Soft prompts in a Hugging Face text tower (BiomedCLIP's BERT, RoBERTa, T5 and others inside open_clip).

Attention is bidirectional, so nothing can be shared between classes; padding is masked and cut to the longest prompt.
The feature is pooled where the model pools (BERT: the first token), never at an end token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from engines.backbones.runtime import Runtime
from engines.backbones.text import TextTower
from engines.backbones.tokens import PromptTokenizer


class HuggingFaceTextTower(TextTower):
    """open_clip's HFTextEncoder, entered by embeddings instead of token ids."""

    def __init__(self, module: Any, tokenizer: PromptTokenizer, runtime: Runtime) -> None:
        embedding = module.transformer.get_input_embeddings()
        super().__init__(tokenizer, embedding, next(embedding.parameters()).shape[1], runtime)
        self._module = module
        self._layers = _layers(module.transformer)
        self.deep_prompts = self._layers is not None

    @property
    def depth(self) -> int:
        if self._layers is not None:
            return len(self._layers)
        return int(self._module.config.num_hidden_layers)

    def _bytes_per_token(self, length: int) -> int:
        # Attention in and out, a four times wider MLP, and the weights of all heads (of width 64).
        return 4 * self.depth * (12 * self.width + 2 * length * max(1, self.width // 64))

    def _encode(self, rows: Tensor, eot: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
        module, length = self._module, rows.shape[1]
        mask = (torch.arange(length, device=rows.device) <= eot[:, None]).long()
        start = len(self.tokenizer.start)
        with ExitStack() as stack:
            for inner, layer in zip(deep, (self._layers or [])[1:], strict=False):
                hook = layer.register_forward_pre_hook(_replace(inner, start), with_kwargs=True)
                stack.callback(hook.remove)
            out = module.transformer(inputs_embeds=rows, attention_mask=mask)
        features: Tensor = module.proj(module.pooler(out, mask))
        return features


def _layers(transformer: Any) -> Any:
    """The block list of an encoder whose blocks take hidden states first, or None."""
    encoder = getattr(transformer, "encoder", transformer)
    for name in ("layer", "block", "layers"):
        blocks = getattr(encoder, name, None)
        if isinstance(blocks, torch.nn.ModuleList):
            return list(blocks)
    return None


def _replace(inner: Tensor, start: int) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    """Hook that overwrites the context's rows in front of a block; positions were added once, in the embeddings."""

    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = args[0] if args else kwargs["hidden_states"]
        rows = inner.expand(len(hidden), *inner.shape[-2:]).to(hidden.dtype)
        hidden = torch.cat([hidden[:, :start], rows, hidden[:, start + rows.shape[1] :]], dim=1)
        return ((hidden, *args[1:]), kwargs) if args else ((), {**kwargs, "hidden_states": hidden})

    return hook
