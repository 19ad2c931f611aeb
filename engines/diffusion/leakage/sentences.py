"""Leakage in plain words, for pages and commands. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engines.diffusion.leakage.studies import Maps, Study, overlap

LITTLE = 0.005
"""Shares below are not worth a word."""


def leak_sentence(
    words: Sequence[str], word: int, figures: Mapping[str, Any] | None, rest: str = "on the background"
) -> str:
    """ "31% of “circle” falls on the star, 40% on the background, 29% on the circle itself."; or nothing.

    Args:
        rest: what is not on an object with a mask; see `rest_of`.
    """
    if figures is None:
        return ""
    others = [(share, f"on the {words[int(other)]}") for other, share in figures["others"].items() if share >= LITTLE]
    parts = [*sorted(others, reverse=True), (figures["background"], rest)]
    parts.append((figures["own"], f"on the {words[word]} itself"))
    (first, there), *more = parts
    said = [f"{_percent(first)} of “{words[word]}” falls {there}", *(f"{_percent(share)} {at}" for share, at in more)]
    return f"{', '.join(said)}."


def rest_of(study: Study, words: Sequence[int]) -> str:
    """Where attention falls that is on no object with a mask: the background, if every chosen word has a mask."""
    return "on the background" if all(study.mask_file(word) for word in words) else "elsewhere"


def change_sentence(words: Sequence[str], word: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """ "“circle” now keeps 62% of its attention on its object (29% before)."."""
    return (
        f"“{words[word]}” now keeps {_percent(after['own'])} of its attention on its object "
        f"({_percent(before['own'])} before)."
    )


def overlap_sentence(words: Sequence[str], one: int, other: int, maps: Maps) -> str:
    """ "“circle” and “star” look at the same places with 62% of their attention."; `maps` are [words, s, s]."""
    share = overlap(maps[one], maps[other])
    return f"“{words[one]}” and “{words[other]}” look at the same places with {_percent(share)} of their attention."


def pairs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Every two of the chosen words."""
    return [(one, other) for place, one in enumerate(numbers) for other in numbers[place + 1 :]]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
