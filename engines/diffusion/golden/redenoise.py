"""Re-denoise sampling: one step of denoising with strong guidance and back with weak guidance leaves the prompt's
meaning in the noise (Zhou et al., arXiv:2411.09502, section 3.1)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from engines.diffusion.golden.settings import RedenoiseSettings
from engines.diffusion.model import Conditions, TextToImage, guide


@torch.no_grad()
def golden_noise(
    model: TextToImage, noise: Tensor, conditions: Conditions, empty: Conditions, settings: RedenoiseSettings
) -> Tensor:
    """Golden noise [B, C, h, w] of noise, each for its own prompt.

    Not of unit variance, and not made so: NPNet is trained on it as it is.

    Args:
        noise: [B, C, h, w].
        conditions: B rows.
        empty: of no text, one row.
    """
    first, second = model.levels(settings.steps)[:2]
    gap = int(model.scheduler.config.num_train_timesteps) // settings.steps
    left, reached = (second, first) if settings.variant == "intended" else (second - gap, second)
    for _ in range(settings.rounds):
        down = _guided(model, noise, first, conditions, empty, settings.guidance)
        below = model.move(noise, down, first, second)
        # The model is told the upper level on the way back too.
        up = _guided(model, below, first, conditions, empty, settings.inverse_guidance)
        noise = model.move(below, up, left, reached)
    return noise


@torch.no_grad()
def sample(
    model: TextToImage, noise: Tensor, conditions: Conditions, empty: Conditions, settings: RedenoiseSettings
) -> Tensor:
    """Clean latents [B, C, h, w] of noise, by DDIM."""
    latents = noise
    for level, lower in pairwise(model.levels(settings.steps)):
        guided = _guided(model, latents, level, conditions, empty, settings.guidance)
        latents = model.move(latents, guided, level, lower)
    return latents


def _guided(
    model: TextToImage, latents: Tensor, level: int, conditions: Conditions, empty: Conditions, scale: float
) -> Tensor:
    if scale == 1:
        return model.predict(latents, level, conditions)
    both = Conditions.joined(empty.repeated(len(latents)), conditions)
    without, noise = model.predict(torch.cat([latents, latents]), level, both).chunk(2)
    return guide(without, noise, scale)
