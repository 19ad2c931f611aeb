"""From an image back to noise, and the empty prompt that leads from there to the image again under guidance.

DDIM inversion (Song et al., arXiv:2010.02502; Dhariwal and Nichol, arXiv:2105.05233, appendix F) and null-text
optimisation (Mokady et al., arXiv:2211.09794, algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.diffusion.descent import Descent
from engines.diffusion.model import Conditions, TextToImage, guide
from engines.diffusion.settings import NullSchedule as NullSchedule


def rising_levels(model: TextToImage, steps: int) -> list[tuple[int, int]]:
    """(lower, higher) levels of an inversion in their order."""
    return [(lower, higher) for higher, lower in reversed(list(pairwise(model.levels(steps))))]


@torch.no_grad()
def invert_step(model: TextToImage, latents: Tensor, conditions: Conditions, lower: int, higher: int) -> Tensor:
    """Latents one level noisier, without guidance. The UNet is told the level that is wanted."""
    return model.move(latents, model.predict(latents, higher, conditions), lower, higher)


@dataclass(frozen=True, slots=True)
class NullStep:
    """One level of null-text optimisation: what is given, and what should come out."""

    latents: Tensor
    """[1, C, h, w] at `level`, of the run that is being reconstructed."""
    target: Tensor
    """[1, C, h, w] at `lower`, of the inversion."""
    level: int
    lower: int
    conditions: Conditions
    """Of the caption, one row."""
    noise: Tensor
    """Predicted for them: it does not depend on the empty prompt."""


class EmptyPrompt:
    """The conditions of no text, learned so that guidance leads to the image.

    Args:
        start: one row; only its states are learned, not the pooled text of SDXL.
    """

    def __init__(self, start: Conditions) -> None:
        self._states = start.states.detach().clone().requires_grad_()
        self._pooled = start.pooled

    @property
    def conditions(self) -> Conditions:
        """A copy of them as they are now."""
        return Conditions(self._states.detach().clone(), self._pooled)

    def learn(self, model: TextToImage, given: NullStep, guidance: float, schedule: NullSchedule) -> Iterator[float]:
        """Updates at one level; yields the loss before each, the mean squared error of the lower latents.

        Where the best is kept, the last loss is that of the last update. The optimiser (Adam) begins anew.

        Args:
            model: frozen.
            given: the level.
            guidance: scale of classifier-free guidance.
            schedule: how long, and how.
        """
        optimizer = torch.optim.Adam([self._states], lr=schedule.learning_rate)
        descent = Descent(optimizer, model.dtype)
        least, best = math.inf, self._states.detach().clone()
        for number in range(schedule.steps + schedule.best):
            with torch.enable_grad():
                without, noise = self._predict(model, given, schedule.cached)
                reached = model.move(given.latents, guide(without, noise, guidance), given.level, given.lower)
                loss = F.mse_loss(reached, given.target)
            value = float(loss.detach())
            if value < least:
                least, best = value, self._states.detach().clone()
            enough = number == schedule.steps or (schedule.tolerance is not None and value < schedule.tolerance)
            if not enough:
                descent.step(loss)
            yield value
            if enough:
                break
        if schedule.best:
            with torch.no_grad():
                self._states.copy_(best)

    def _predict(self, model: TextToImage, given: NullStep, cached: bool) -> tuple[Tensor, Tensor]:
        """The noise without and with text."""
        empty = Conditions(self._states, self._pooled)
        if cached:
            return model.predict(given.latents, given.level, empty), given.noise
        both = Conditions.joined(empty, given.conditions)
        without, noise = model.predict(given.latents.repeat(2, 1, 1, 1), given.level, both).chunk(2)
        return without, noise
