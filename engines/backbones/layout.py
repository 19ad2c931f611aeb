"""Where everything stands in the prompts of a class list: `<context> <class name>.` and its variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.backbones.tokens import PromptTokenizer
from engines.errors import ConfigError

POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True, eq=False)
class PromptLayout:
    """The frozen side of C prompts of at most L tokens in a text tower of width d.

    Attributes:
        class_names: as given, underscores already spaces.
        n_ctx: M, the number of context vectors.
        position: of the class name: "end", "middle" or "front" of the context (CoOp, section 3.2).
        ids: [C, L] int64 token ids, padded behind the end token; places of context vectors hold an ordinary word.
        slots: [C, L] int64, index of the context vector that stands there, or -1.
        embeddings: [C, L, d] token embeddings of `ids`.
        lengths: tokens of each prompt, start and end included.
        name_lengths: tokens of each class name.
        start: number of tokens in front of the context, n_start (1 for CLIP).
        prefix: number of leading tokens that are the same for every class.
    """

    class_names: tuple[str, ...]
    n_ctx: int
    position: str
    ids: Tensor
    slots: Tensor
    embeddings: Tensor
    lengths: tuple[int, ...]
    name_lengths: tuple[int, ...]
    start: int
    prefix: int

    @property
    def eot(self) -> Tensor:
        """[C] int64 index of every prompt's end token."""
        return torch.tensor(self.lengths, device=self.ids.device) - 1

    def rows(
        self, context: Tensor, classes: Sequence[int] | None = None, begin: int = 0, stop: int | None = None
    ) -> Tensor:
        """Embedding rows `begin` to `stop` of the prompts of `classes`, with the context put in.

        Args:
            context: [M, d] for all; [N, M, d] one for each of the N `classes`; [G, 1, M, d] one for each group.
        Returns:
            [N, S, d], or [G, N, S, d] for groups.
        """
        chosen = torch.arange(len(self.lengths)) if classes is None else torch.tensor(classes)
        chosen = chosen.to(self.ids.device)
        slots, frozen = self.slots[chosen, begin:stop], self.embeddings[chosen, begin:stop]
        if begin >= self.prefix and self.position == "end":  # behind the context: nothing to put in
            return frozen.expand(*context.shape[: max(0, context.ndim - 3)], *frozen.shape)
        index = slots.clamp_min(0)
        if context.ndim == 2:
            learned = context[index]
        elif context.ndim == 3:
            learned = context[torch.arange(len(chosen), device=index.device)[:, None], index]
        else:
            learned = context[:, 0][:, index]
        return torch.where((slots >= 0)[..., None], learned.to(frozen.dtype), frozen)


def make_layout(
    tokenizer: PromptTokenizer,
    embedding: torch.nn.Module,
    class_names: Sequence[str],
    n_ctx: int,
    position: str,
    words: str | None,
    pad_to: int | None,
) -> PromptLayout:
    """Lay out `<context> <class name>.` for every class; see `TextTower.layout`."""
    names = tuple(name.replace("_", " ").strip() for name in class_names)
    _check(names, n_ctx, position)
    written = tokenizer.pieces(words) if words else [tokenizer.filler] * n_ctx
    if len(written) < n_ctx:
        raise ConfigError(
            f"The words '{words}' make {len(written)} tokens, but {n_ctx} context vectors are to start from them.",
            f"Set the number of context vectors to {len(written)} or write more words.",
        )
    placed, frozen, half = list(enumerate(written[:n_ctx])), [(-1, i) for i in written[n_ctx:]], n_ctx // 2
    before, behind = {
        "end": (placed + frozen, []),
        "middle": (placed[:half], placed[half:] + frozen),
        "front": ([], placed + frozen),
    }[position]
    start, end = [(-1, i) for i in tokenizer.start], [(-1, i) for i in tokenizer.end]
    prompts, name_lengths = [], []
    for name in names:
        tail, n_name = tokenizer.name_and_ending(words or "", name)
        spelled, ending = [(-1, i) for i in tail[:n_name]], [(-1, i) for i in tail[n_name:]]
        prompt = start + before + spelled + behind + ending + end
        if len(prompt) > tokenizer.context_length:
            raise ConfigError(
                f"The prompt of class '{_short(name)}' has {len(prompt)} tokens, but this text tower reads at most "
                f"{tokenizer.context_length}.",
                f"Shorten the class name (it alone makes {n_name} tokens) or use fewer than {n_ctx} context vectors.",
            )
        prompts.append(prompt)
        name_lengths.append(n_name)
    length = pad_to or max(map(len, prompts))
    table = torch.tensor([p + [(-1, tokenizer.pad)] * (length - len(p)) for p in prompts])
    device = next(embedding.parameters()).device
    ids, slots = table[..., 1].to(device).contiguous(), table[..., 0].to(device).contiguous()
    with torch.no_grad():
        embeddings = embedding(ids)
    return PromptLayout(
        class_names=names,
        n_ctx=n_ctx,
        position=position,
        ids=ids,
        slots=slots,
        embeddings=embeddings,
        lengths=tuple(map(len, prompts)),
        name_lengths=tuple(name_lengths),
        start=len(start),
        prefix=len(start) + len(before),
    )


def _check(names: tuple[str, ...], n_ctx: int, position: str) -> None:
    if not names:
        raise ConfigError("There is no class to write a prompt for.", "Give at least one class name.")
    if not all(names):
        raise ConfigError(f"Class {names.index('') + 1} has an empty name.", "Give every class a name in words.")
    if n_ctx < 1:
        raise ConfigError(f"A prompt needs at least one context vector, not {n_ctx}.", "Set n_ctx to 1 or more.")
    if position not in POSITIONS:
        raise ConfigError(f"'{position}' is no position of the class name.", "Choose end, middle or front.")


def _short(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:57]}..."
