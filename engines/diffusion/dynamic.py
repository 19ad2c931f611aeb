"""Dynamic tokens: the input embeddings of chosen words, learned anew at every step of the diffusion (DPL).

The text encoder's table stays as it is. Rows are spliced in behind the look-up, so that only they have gradients, and
the positions of all tokens stay those of the caption. A word of several tokens has a row for each of them: it starts as
exactly what the model reads in the caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.diffusion.attention import AttentionRecorder
from engines.diffusion.descent import Descent
from engines.diffusion.losses import Objective
from engines.diffusion.model import Conditions, Embedded, TextToImage
from engines.diffusion.settings import TokenSchedule as TokenSchedule
from engines.diffusion.words import Word

Rows = tuple[Tensor, ...]
"""For each text encoder [n, W]: the embeddings of n tokens."""


@dataclass(frozen=True, slots=True)
class Attended:
    """What one look at the maps showed."""

    losses: dict[str, float]
    """Before the update."""
    maps: Tensor
    """[side, side, T], of which the losses are."""


class DynamicTokens:
    """Embeddings of some tokens of one caption.

    Args:
        embedded: the caption.
        words: whose tokens are learned.
        rows: their embeddings so far; by default the caption's own.
    """

    def __init__(self, embedded: Embedded, words: Sequence[Word], rows: Rows | None = None) -> None:
        self.positions = sorted({position for word in words for position in word.positions})
        start = rows or tuple(table[0, self.positions] for table in embedded.rows)
        self._embedded = embedded
        self._rows = tuple(row.detach().clone().requires_grad_() for row in start)

    @property
    def rows(self) -> Rows:
        """A copy of the embeddings as they are now."""
        return tuple(row.detach().clone() for row in self._rows)

    def spliced(self) -> Embedded:
        """The caption with these embeddings; gradients flow back to them."""
        return self._embedded.replaced(0, self.positions, self._rows)

    def learn(
        self, model: TextToImage, latents: Tensor, level: int, objective: Objective, schedule: TokenSchedule
    ) -> Iterator[Attended]:
        """Updates at one level of noise, until every loss is under its threshold.

        The optimiser (AdamW, whose decay is decoupled) begins anew at every level, as in the official code.

        Args:
            model: frozen.
            latents: [1, C, h, w] at `level`.
            level: timestep.
            objective: what the maps should look like.
            schedule: how long, and how.
        """
        optimizer = torch.optim.AdamW(self._rows, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
        descent = Descent(optimizer, model.dtype)
        reader = MapReader(model, latents, level, schedule.whole)
        for _ in range(schedule.steps):
            with torch.enable_grad():
                maps = reader.read(model.encode(self.spliced()))
                losses = objective.measure(maps)
                satisfied = objective.satisfied(losses, schedule.pace)
                if not satisfied:
                    descent.step(objective.total(losses))
            yield Attended({name: float(loss.detach()) for name, loss in losses.items()}, maps.detach())
            if satisfied:
                return


class MapReader:
    """Reads the cross-attention of one image at one level of noise, as often as wanted.

    The UNet is left behind the last layer that is read: in Stable Diffusion 1 at 512 pixels the two largest blocks are
    spared. Between two readings it is as it was.

    Args:
        model: frozen.
        latents: [1, C, h, w] at `level`.
        level: timestep.
        whole: run the UNet to its end all the same.
    """

    def __init__(self, model: TextToImage, latents: Tensor, level: int, whole: bool = False) -> None:
        self._model, self._latents, self._level = model, latents, level
        side = model.map_side(latents)
        read = [name for name, seen in model.attention_layers(latents.shape[-1], "cross").items() if seen == side]
        self._last = None if whole else model.unet.get_submodule(read[-1])
        self._recorder = AttentionRecorder(model.unet, [side])

    def read(self, conditions: Conditions) -> Tensor:
        """Maps [side, side, T], averaged over heads and layers; gradients flow back to the conditions, one row."""
        handle = self._last and self._last.register_forward_hook(_leave)
        try:
            with self._recorder, suppress(_Left):
                self._model.predict(self._latents, self._level, conditions)
        finally:
            if handle:
                handle.remove()
        return self._recorder.word_maps()[0].float()


class _Left(Exception):  # noqa: N818 - a way out, not an error
    """Leaves a network whose answer nobody needs."""


def _leave(*_: object) -> None:
    raise _Left
