"""What repaired attention should look like: losses on cross-attention maps, and when they are small enough.

DPL (Wang et al., arXiv:2309.15664, with the constants of its supplement) asks for maps that are disjoint, avoid the
background and stay strong. LocInv (Tang et al., arXiv:2405.01496) compares them with given masks instead.

Maps are [side, side, T], cross-attention averaged over heads and layers. A word of several tokens looks where any of
them looks: its map is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.diffusion.settings import LeakageSettings as LeakageSettings
from engines.diffusion.settings import MaskSettings as MaskSettings
from engines.diffusion.settings import TermSettings as TermSettings
from engines.diffusion.words import Word

SHARPNESS = 100.0
"""Factor in front of the softmax over tokens."""


@dataclass(frozen=True, slots=True)
class Term:
    """One of the losses that are optimised together."""

    name: str
    settings: TermSettings
    measure: Callable[[Tensor], Tensor]
    """From maps [side, side, T] to a scalar."""


@dataclass(frozen=True, slots=True)
class Objective:
    """All losses of a repair."""

    terms: tuple[Term, ...]

    def measure(self, maps: Tensor) -> dict[str, Tensor]:
        """The losses by name, scalars that carry gradients."""
        return {term.name: term.measure(maps) for term in self.terms}

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Their weighted sum."""
        return torch.stack([term.settings.weight * losses[term.name] for term in self.terms]).sum()

    def satisfied(self, losses: Mapping[str, Tensor], step: float) -> bool:
        """Whether every loss is under its threshold at this step of 50."""
        return all(float(losses[term.name].detach()) < term.settings.threshold(step) for term in self.terms)


def word_heat(maps: Tensor, words: Sequence[Word]) -> Tensor:
    """Where n words look: [n, side * side]."""
    return torch.stack([maps[..., list(word.positions)].sum(dim=-1).flatten() for word in words])


def strengths(maps: Tensor, words: Sequence[Word], smooth: bool = True) -> Tensor:
    """How much of the strongest pixel's attention each word has among all tokens: [n], in 0..1.

    The first and the last token are left out.
    """
    shares = (maps[..., 1:-1] * SHARPNESS).softmax(dim=-1)
    # A word whose token is the last one has no share left there.
    shares = F.pad(shares, (1, 1))
    heat = word_heat(shares, words).unflatten(1, maps.shape[:2])
    if smooth:
        padded = F.pad(heat[:, None], (1, 1, 1, 1), mode="reflect")
        heat = F.conv2d(padded, smoothing_kernel().to(heat)[None, None])[:, 0]
    return heat.flatten(1).amax(dim=1)


def smoothing_kernel() -> Tensor:
    """[3, 3], weights exp(-x²) of distance x, normalised."""
    line = torch.exp(-(torch.tensor([-1.0, 0.0, 1.0]) ** 2))
    line = line / line.sum()
    return torch.outer(line, line)


def balancing(
    maps: Tensor, words: Sequence[Word], reduce: Literal["max", "mean"] = "max", smooth: bool = True
) -> Tensor:
    """Attention balancing: 1 minus the strength of the weakest word (`max` of losses), or of all words' mean."""
    losses = 1 - strengths(maps, words, smooth)
    return losses.amax() if reduce == "max" else losses.mean()


def disjoint(maps: Tensor, words: Sequence[Word]) -> Tensor:
    """Disjoint object attention: mean cosine of the maps of every two words; 0 for fewer than two."""
    heat = word_heat(maps, words)
    pairs = list(combinations(range(len(words)), 2))
    if not pairs:
        return maps.new_zeros(())
    one, other = zip(*pairs, strict=True)
    return F.cosine_similarity(heat[list(one)], heat[list(other)], dim=1).mean()


def on_background(maps: Tensor, words: Sequence[Word], background: Tensor) -> Tensor:
    """Background leakage: mean cosine of the words' maps and the background's mask [side, side]."""
    mask = background.to(maps).flatten()[None]
    return F.cosine_similarity(word_heat(maps, words), mask, dim=1).mean()


def dissimilarity(maps: Tensor, words: Sequence[Word], masks: Tensor) -> Tensor:
    """LocInv's similarity loss: 1 - mean cosine of the words' maps and their masks [n, side, side]."""
    return 1 - F.cosine_similarity(word_heat(maps, words), masks.to(maps).flatten(1), dim=1).mean()


def outside(maps: Tensor, words: Sequence[Word], masks: Tensor) -> Tensor:
    """LocInv's overlap loss: mean share of the words' attention that falls outside their masks [n, side, side]."""
    heat = word_heat(maps, words)
    inside = (heat * masks.to(maps).flatten(1)).sum(dim=1)
    return 1 - (inside / heat.sum(dim=1).clamp(min=1e-12)).mean()


def unbound(maps: Tensor, adjectives: Sequence[Word], nouns: Sequence[Word]) -> Tensor:
    """LocInv's binding loss: 1 - mean cosine of adjectives' maps and those of the nouns that they belong to."""
    return 1 - F.cosine_similarity(word_heat(maps, adjectives), word_heat(maps, nouns), dim=1).mean()


def leakage_objective(words: Sequence[Word], background: Tensor | None, settings: LeakageSettings) -> Objective:
    """DPL's three losses, or two where no background is known."""
    terms = [
        Term("balancing", settings.balancing, lambda maps: balancing(maps, words)),
        Term("disjoint", settings.disjoint, lambda maps: disjoint(maps, words)),
    ]
    if background is not None:
        terms.append(Term("background", settings.background, lambda maps: on_background(maps, words, background)))
    return Objective(tuple(terms))


def mask_objective(
    words: Sequence[Word], masks: Tensor, bound: Sequence[tuple[Word, Word]], settings: MaskSettings
) -> Objective:
    """LocInv's losses for masks [n, side, side] of n words; `bound` are pairs of an adjective and its noun."""
    terms = [
        Term("similarity", settings.similarity, lambda maps: dissimilarity(maps, words, masks)),
        Term("overlap", settings.overlap, lambda maps: outside(maps, words, masks)),
    ]
    if bound:
        adjectives, nouns = zip(*bound, strict=True)
        terms.append(Term("binding", settings.binding, lambda maps: unbound(maps, adjectives, nouns)))
    return Objective(tuple(terms))
