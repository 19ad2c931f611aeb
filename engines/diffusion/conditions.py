"""Captions on their way to the UNet: as token embeddings, and as the states that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Embedded:
    """Captions as token embeddings, before the text encoders: one entry for each encoder."""

    ids: tuple[Tensor, ...]
    """[B, T]"""
    rows: tuple[Tensor, ...]
    """[B, T, W of the encoder], without positions."""

    def replaced(self, number: int, positions: Sequence[int], rows: Sequence[Tensor]) -> Embedded:
        """The same with other embeddings at some positions of caption `number`.

        Args:
            number: which of the B captions.
            positions: n of them.
            rows: for each encoder [n, W]; gradients flow back to them.
        """
        at = torch.tensor(positions, dtype=torch.long)
        where = (torch.full_like(at, number), at)
        changed = (
            old.index_put(tuple(index.to(old.device) for index in where), new.to(old))
            for old, new in zip(self.rows, rows, strict=True)
        )
        return Embedded(self.ids, tuple(changed))


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the UNet hears about the wanted images."""

    states: Tensor
    """[B, T, W]: one state per token, read by cross-attention."""
    pooled: Tensor | None = None
    """[B, P]: the whole text in one vector; SDXL only."""

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, rows: slice) -> Conditions:
        return Conditions(self.states[rows], None if self.pooled is None else self.pooled[rows])

    def repeated(self, count: int) -> Conditions:
        """Each row `count` times, in a block of its own."""
        return Conditions(
            self.states.repeat_interleave(count, 0),
            None if self.pooled is None else self.pooled.repeat_interleave(count, 0),
        )

    @staticmethod
    def joined(*parts: Conditions) -> Conditions:
        """All rows in one batch; parts of one layout."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Conditions(torch.cat([part.states for part in parts]), torch.cat(pooled) if pooled else None)
