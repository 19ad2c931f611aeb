"""Noise of a seed, and what it looks like in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class NoiseFacts:
    """Statistics of one noise."""

    mean: float
    std: float
    kurtosis: float
    """Excess kurtosis: 0 for Gaussian noise."""
    cosine: float
    """To the noise that it was made from: 1 for itself."""


def draw_noise(seed: int, shape: tuple[int, int, int, int]) -> Tensor:
    """Gaussian noise [1, C, h, w] of a seed: the same on every machine and in every batch."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noise_facts(noise: Tensor, source: Tensor) -> list[NoiseFacts]:
    """Statistics of every noise in a batch.

    Args:
        noise: [B, C, h, w].
        source: what it was made from, of the same shape.
    """
    flat, before = noise.detach().double().flatten(1), source.detach().double().flatten(1)
    means, spreads = flat.mean(dim=1), flat.std(dim=1, correction=0)
    centred = (flat - means[:, None]) / spreads[:, None].clamp(min=1e-12)
    kurtosis, cosine = centred.pow(4).mean(dim=1) - 3, F.cosine_similarity(flat, before)
    return [
        NoiseFacts(*values) for values in zip(*(x.tolist() for x in (means, spreads, kurtosis, cosine)), strict=True)
    ]
