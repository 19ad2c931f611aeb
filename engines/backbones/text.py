"""Text towers with soft prompts: the interface every method uses, and open_clip's own transformers.

Methods never ask which tower they hold: they make a layout of the class list once, and turn context vectors into
class features at every step. CLIP's causal towers share the prefix of the prompts (`causal.py`), Hugging Face towers
bring their own embeddings and masks (`hf_text.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engines.backbones.layout import PromptLayout, make_layout
from engines.backbones.runtime import Runtime
from engines.backbones.tokens import PromptTokenizer
from engines.errors import ConfigError

T = TypeVar("T")


class NearWord(NamedTuple):
    """A vocabulary entry near a context vector (Euclidean distance between token embeddings)."""

    word: str
    token_id: int
    distance: float


class TextTower(ABC):
    """A frozen text tower that accepts learned context vectors.

    Attributes:
        width: d, width of the token embeddings.
        embedding: module that looks up token embeddings, [..] int64 -> [.., d].
        causal: whether no token sees the tokens behind it, so that prompts share the work of their common prefix.
        deep_prompts: whether `encode_prompts` accepts `deep`.
    """

    causal = False
    deep_prompts = True

    def __init__(self, tokenizer: PromptTokenizer, embedding: nn.Module, width: int, runtime: Runtime) -> None:
        self.tokenizer = tokenizer
        self.embedding = embedding
        self.width = width
        self.runtime = runtime

    # -- what a tower of a kind must say -------------------------------------------------------------------------

    @property
    @abstractmethod
    def depth(self) -> int:
        """Number of transformer blocks."""

    @property
    def padded_length(self) -> int | None:
        """Length every prompt must be padded to, or None where padding has no influence and is cut off."""
        return None

    @abstractmethod
    def _encode(self, rows: Tensor, eot: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
        """[N, L, d] embedding rows without positions, [N] end indices, deep prompts [N, M, d] -> [N, D]."""

    @abstractmethod
    def _bytes_per_token(self, length: int) -> int:
        """Activations kept for the backward pass, per token of a prompt of `length` tokens."""

    # -- what methods use ----------------------------------------------------------------------------------------

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without start and end."""
        return len(self.tokenizer.pieces(text))

    def embed_words(self, words: str) -> Tensor:
        """[M, d] token embeddings of the M tokens of `words`."""
        ids = torch.tensor(self.tokenizer.pieces(words), dtype=torch.long, device=self.runtime.device)
        with torch.no_grad():
            return self.embedding(ids)

    def layout(
        self, class_names: Sequence[str], n_ctx: int = 16, position: str = "end", words: str | None = None
    ) -> PromptLayout:
        """Lay out one prompt `<context> <class name>.` per class.

        Args:
            class_names: C names; underscores become spaces.
            n_ctx: M, number of context vectors.
            position: of the class name, "end", "middle" (behind the first M // 2 vectors) or "front".
            words: the context in words. Its first M tokens give way to the context vectors, further tokens stay
                frozen behind them (as in MaPLe with two vectors for "a photo of a").
        Raises:
            ConfigError: a prompt is too long for the tower (prompts are never truncated), a name is empty, or
                `words` has fewer than M tokens.
        """
        return make_layout(
            self.tokenizer, self.embedding, class_names, n_ctx, position, words, pad_to=self.padded_length
        )

    def encode_prompts(
        self, layout: PromptLayout, context: Tensor, deep: Sequence[Tensor] | None = None, per_group: bool = False
    ) -> Tensor:
        """Text features of prompts around a learned context, not normalised.

        Args:
            layout: of the C classes.
            context: [M, d] for all classes; [C, M, d] class-specific; with `per_group` [G, M, d] or [G, C, M, d],
                one for each of G groups (an image in CoCoOp).
            deep: up to depth - 1 tensors [m, d] (or [G, m, d]), m <= M; the i-th replaces the first m of the context's
                rows in front of block i + 1 (MaPLe, section 3.3; m = M there). Only for position "end".
        Returns:
            [C, D], or [G, C, D] with `per_group`.
        """
        deep = self._check(layout, context, deep, per_group)
        n_classes = len(layout.class_names)
        groups = context.shape[0] if per_group else 1
        each = context.expand(groups, *context.shape) if not per_group else context  # [G, M, d] or [G, C, M, d]
        jobs = [(g, c) for g in range(groups) for c in range(n_classes)]
        eot = layout.eot

        def encode(part: Sequence[tuple[int, int]]) -> Tensor:
            g, c = [job[0] for job in part], [job[1] for job in part]
            chosen = each[g] if each.ndim == 3 else each[g, c]
            inner = [d.expand(groups, *d.shape[-2:])[g] for d in deep]
            return self._encode(layout.rows(chosen, c), eot[c], inner)

        length = layout.ids.shape[1]
        features = torch.cat(self._in_parts(encode, jobs, length * self._bytes_per_token(length)))
        return features.view(groups, n_classes, -1) if per_group else features

    def groups_at_once(self, layout: PromptLayout) -> int:
        """How many contexts of their own (`per_group`), each in the prompts of all classes, memory has room for."""
        length = layout.ids.shape[1]
        tokens = length - layout.prefix if self.causal else length
        return max(1, self.runtime.activation_budget // (len(layout.ids) * tokens * self._bytes_per_token(length)))

    def encode_embeddings(self, embeddings: Tensor, eot: Tensor) -> Tensor:
        """Features of whole prompts given as embedding rows: the plain path, without any sharing.

        Args:
            embeddings: [N, L, d] token embeddings, positions not yet added.
            eot: [N] int64 index of the end token; tokens behind it are padding.
        Returns:
            [N, D], not normalised.
        """
        with self.runtime.autocast():
            return self._encode(embeddings, eot).float()

    def encode(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        """[N, D] features of N texts, not normalised, without gradient; too long a text is refused, not truncated."""
        prompts = self._token_ids(texts)
        features = []
        with torch.no_grad():
            for i in range(0, len(prompts), batch):
                features.append(self.encode_embeddings(*self._embedded(prompts[i : i + batch])))
        return torch.cat(features)

    def embed_texts(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embedding rows [N, L, d] of whole texts without positions, and the index [N] of each end token."""
        return self._embedded(self._token_ids(texts))

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        prompts = [[*self.tokenizer.start, *self.tokenizer.pieces(t), *self.tokenizer.end] for t in texts]
        limit = self.tokenizer.context_length
        for text, ids in zip(texts, prompts, strict=True):
            if len(ids) > limit:
                raise ConfigError(
                    f"The text '{text[:60]}' has {len(ids)} tokens, but this text tower reads at most {limit}.",
                    "Shorten the text.",
                )
        return prompts

    def _embedded(self, prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        length = self.padded_length or max(map(len, prompts))
        table = torch.tensor([p + [self.tokenizer.pad] * (length - len(p)) for p in prompts])
        ends = torch.tensor([len(p) - 1 for p in prompts])
        with torch.no_grad():
            return self.embedding(table.to(self.runtime.device)), ends.to(self.runtime.device)

    def nearest_words(self, context: Tensor, k: int = 5) -> list[Any]:
        """The k vocabulary entries nearest to every context vector (CoOp, section 4.4), nearest first.

        Args:
            context: [M, d], or [C, M, d] class-specific.
        Returns:
            M lists of k NearWords; for [C, M, d], C lists of those.
        """
        if context.ndim > 2:
            return [self.nearest_words(part, k) for part in context]
        table = next(self.embedding.parameters())
        with torch.no_grad():
            near = torch.cdist(context.detach().to(table), table).topk(k, largest=False)
        return [
            [NearWord(self.tokenizer.word(i), i, d) for i, d in zip(ids, distances, strict=True)]
            for ids, distances in zip(near.indices.tolist(), near.values.tolist(), strict=True)
        ]

    # -- shared mechanics ----------------------------------------------------------------------------------------

    def _check(
        self, layout: PromptLayout, context: Tensor, deep: Sequence[Tensor] | None, per_group: bool
    ) -> Sequence[Tensor]:
        shape, n_classes = tuple(context.shape), len(layout.class_names)
        tail = (layout.n_ctx, self.width)
        fits = shape[1:] in (tail, (n_classes, *tail)) if per_group else shape in (tail, (n_classes, *tail))
        if not fits:
            raise ConfigError(
                f"A context of shape {list(shape)} does not fit {n_classes} classes with {layout.n_ctx} context "
                f"vectors of width {self.width}.",
                "Rebuild the prompt for this backbone and these classes.",
            )
        if not deep:
            return ()
        if not self.deep_prompts:
            raise ConfigError("This text tower cannot carry deep prompts.", "Choose another backbone or depth 1.")
        if layout.position != "end" or (context.ndim - per_group) != 2:
            raise ConfigError(
                "Deep prompts need the class name at the end and one context for all classes.",
                "Set the position to 'end' and switch class-specific context off.",
            )
        if any(inner.shape[-2] > layout.n_ctx for inner in deep):
            raise ConfigError(
                f"Deep prompts may not be longer than the {layout.n_ctx} context vectors whose places they take.",
                "Shorten them, or learn more context vectors.",
            )
        if len(deep) >= self.depth:
            raise ConfigError(
                f"Prompt depth {len(deep) + 1} exceeds the {self.depth} blocks of this text tower.",
                f"Choose a depth of at most {self.depth}.",
            )
        return deep

    def _in_parts(self, encode: Callable[[Sequence[T]], Tensor], jobs: Sequence[T], bytes_per_job: int) -> list[Tensor]:
        """Encode jobs so that memory stays bounded.

        All at once where the activations fit the budget, else part by part, and each part computed anew in the
        backward pass.
        """
        budget = self.runtime.activation_budget
        if not torch.is_grad_enabled():
            size = budget // 4 * self.depth // bytes_per_job  # without gradient only one block's activations live
        else:
            size = len(jobs) if len(jobs) * bytes_per_job <= budget else budget // 4 // bytes_per_job
        size = max(1, size)
        parts = [jobs[i : i + size] for i in range(0, len(jobs), size)]

        def run(part: Sequence[T]) -> Tensor:
            with self.runtime.autocast():
                return encode(part).float()

        if len(parts) == 1 or not torch.is_grad_enabled():
            return [run(part) for part in parts]
        return [checkpoint(run, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
