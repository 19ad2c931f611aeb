"""Which token of a source caption a token of the edited caption looks where.

Prompt-to-Prompt (Hertz et al., arXiv:2208.01626, section 3.2): a word swap takes the maps of the words that stand at
the same place, a refinement the maps of the words that stayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from engines.diffusion.words import Caption
from engines.errors import ConfigError

Share = float | tuple[float, float]
"""Of the steps: the part until which (0.8), or the part from which until which (0.2, 0.6)."""


@dataclass(frozen=True, slots=True)
class TokenMapping:
    """For each token of the edited caption the tokens of the source whose maps it takes."""

    matrix: Tensor
    """[T, T], rows source, columns edited. A column sums to 1, or is 0 for a token that is new."""

    @property
    def kept(self) -> Tensor:
        """[T]: 1 for tokens that take maps of the source, 0 for new ones."""
        return self.matrix.sum(dim=0).round()

    def apply(self, source: Tensor, own: Tensor) -> Tensor:
        """Maps [..., T] of the edited caption: those of the source, and `own` for new tokens."""
        matrix, kept = self.matrix.to(source), self.kept.to(source)
        return source @ matrix + own * (1 - kept)

    def bound(self, positions: Sequence[int]) -> TokenMapping:
        """The same, but tokens at some positions take the maps of the source's at the same positions.

        As `adj_indice` of DPL's official code: an adjective that was exchanged looks where the old one looked.
        """
        matrix = self.matrix.clone()
        matrix[:, list(positions)] = 0
        matrix[list(positions), list(positions)] = 1
        return TokenMapping(matrix)

    def same_tokens(self, source_ids: Sequence[int], edited_ids: Sequence[int]) -> dict[int, int]:
        """Edited position: source position, of tokens that stand in both captions."""
        found = {}
        for edited, at in enumerate(edited_ids):
            source = int(self.matrix[:, edited].argmax())
            if self.matrix[source, edited] == 1 and source < len(source_ids) and source_ids[source] == at:
                found[edited] = source
        return found


def identity(room: int) -> TokenMapping:
    """Every token takes the map of the token at its own position, whatever stands there."""
    return TokenMapping(torch.eye(room))


def replacement(source: Caption, edited: Caption, room: int) -> TokenMapping:
    """Words take the maps of the words at their places.

    A word of as many tokens takes them one by one. Of another number of tokens, each takes the mean of all maps of the
    old word: columns are normalised (the official code divides by the number of new tokens, whatever the old one had),
    and what stands behind is read where it stands in the source.

    Args:
        source: caption of the image.
        edited: with as many words.
        room: T, tokens that the model reads.

    Raises:
        ConfigError: the captions have different numbers of words.
    """
    if len(source.words) != len(edited.words):
        raise ConfigError(
            f"Words can only be swapped one for one; the caption has {len(source.words)} words and the edited one "
            f"{len(edited.words)}.",
            "Write as many words, or add words instead of swapping them.",
        )
    matrix = torch.zeros(room, room)
    pieces = zip(_segments(source, room), _segments(edited, room), strict=True)
    for old, new in pieces:
        if len(old) == len(new):
            matrix[old, new] = 1
        elif old and new:
            matrix[torch.tensor(old)[:, None], torch.tensor(new)] = 1 / len(old)
    _pair_tails(matrix, _end(source), _end(edited))
    return TokenMapping(matrix)


def refinement(source_ids: Sequence[int], edited_ids: Sequence[int], room: int) -> TokenMapping:
    """Tokens that stayed take their own maps; found by global alignment (Needleman and Wunsch, 1970).

    A gap costs nothing, a match brings 1, a mismatch -1.

    Args:
        source_ids: the source's tokens without padding, start and end included.
        edited_ids: the edited caption's.
        room: T, tokens that the model reads.
    """
    matrix = torch.zeros(room, room)
    for old, new in _aligned(source_ids, edited_ids):
        matrix[old, new] = 1
    for new in range(len(edited_ids), room):  # padding looks where padding looked
        matrix[max(new, min(len(source_ids), room - 1)), new] = 1
    return TokenMapping(matrix)


def schedule(
    caption: Caption, steps: int, room: int, share: Share, words: Mapping[str | int, Share] | None = None
) -> Tensor:
    """How much of each token's attention comes from the source, step by step: [steps, T] of 0 and 1.

    Args:
        caption: the edited one.
        steps: of the diffusion.
        room: T, tokens that the model reads.
        share: of the steps, for all tokens.
        words: another share for some words.

    Raises:
        ConfigError: a share is no part of 0..1, or a word is not in the caption.
    """
    found = torch.zeros(steps, room)
    found[_span(share, steps)] = 1
    for name, own in (words or {}).items():
        positions = list(caption.find(name).positions)
        found[:, positions] = 0
        found[_span(own, steps), positions] = 1
    return found


def scales(caption: Caption, weights: Mapping[str | int, float], room: int) -> Tensor:
    """Factors of all tokens' attention, [T]: 1 but for the tokens of some words.

    Raises:
        ConfigError: a factor is not between -20 and 20, or a word is not in the caption.
    """
    found = torch.ones(room)
    for name, factor in weights.items():
        word = caption.find(name)
        if not -20 <= factor <= 20:  # also what is no number
            raise ConfigError(
                f"“{word.text}” cannot be weighted {factor} times.",
                "Choose a factor between -20 and 20; 0.5 weakens a word, 2 strengthens it.",
            )
        found[list(word.positions)] = factor
    return found


def _span(share: Share, steps: int) -> slice:
    """Steps that a share stands for. The official code counts one level more than there are steps; so do we."""
    first, last = share if isinstance(share, tuple) else (0.0, share)
    if not 0 <= first <= last <= 1:
        raise ConfigError(f"{first} to {last} is no part of the steps.", "Choose two numbers from 0 to 1, rising.")
    return slice(*(int(edge * (steps + 1) + 1e-9) for edge in (first, last)))


def _segments(caption: Caption, room: int) -> list[list[int]]:
    """Positions of a caption's tokens: in front of the first word, the first word, between, the second, and so on."""
    edges = [0]
    for word in caption.words:
        if word.positions:
            edges += [max(word.positions[0], edges[-1]), max(word.positions[-1] + 1, edges[-1])]
        else:  # not read
            edges += [edges[-1]] * 2
    return [list(range(*pair)) for pair in pairwise(edges)]


def _end(caption: Caption) -> int:
    """Where the last word is over."""
    return max((word.positions[-1] + 1 for word in caption.words if word.positions), default=0)


def _pair_tails(matrix: Tensor, old: int, new: int) -> None:
    """What stands behind the last words, one by one; where the source's is over, its last token for all the rest."""
    last = len(matrix) - 1
    for step, position in enumerate(range(new, last + 1)):
        matrix[min(old + step, last), position] = 1


def _aligned(source: Sequence[int], edited: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of positions that a best alignment sets against each other.

    Of equally good alignments that with the latest new tokens is taken, as in the official code.
    """
    best = [[0] * (len(edited) + 1) for _ in range(len(source) + 1)]
    for old, one in enumerate(source, 1):
        for new, other in enumerate(edited, 1):
            matched = best[old - 1][new - 1] + (1 if one == other else -1)
            best[old][new] = max(best[old][new - 1], best[old - 1][new], matched)
    pairs, old, new = [], len(source), len(edited)
    while old and new:
        if best[old][new] == best[old][new - 1]:
            new -= 1
        elif best[old][new] == best[old - 1][new]:
            old -= 1
        else:
            old, new = old - 1, new - 1
            pairs.append((old, new))
    return pairs[::-1]
