"""The words of a caption, and which of a text model's tokens each of them became."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.errors import ConfigError

_APART = re.compile(r"""[^\s,.;:!?()\[\]{}"“”„«»…]+""")
_EDGES = "'’`´-–—*_/\\<>|"
_NO_ADJECTIVE = re.compile(
    "a|an|the|this|that|these|those|its|his|her|their|my|some|no|one"
    "|and|or|with|without|of|in|on|at|by|to|from|near|under|over|behind",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word, or several that stand together and mean one thing."""

    text: str
    positions: tuple[int, ...]
    """Of its tokens among the text states, the start token being 0; only those that the model reads."""
    cut: bool = False
    """Whether the model does not read all of it, because the caption is too long."""


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption as a text model reads it."""

    text: str
    words: tuple[Word, ...]
    unread: str
    """The end of the caption that the model does not read, because there is no room; often empty."""

    def find(self, name: str | int) -> Word:
        """A word by its text (blanks join words that mean one thing, such as "school bus") or by its number.

        Of several equal words the first is meant; a number tells them apart.

        Raises:
            ConfigError: the caption has no such word, or the model does not read it.
        """
        found = self._numbered(name) if isinstance(name, int) else self._named(name)
        if found.cut:
            raise ConfigError(
                f"The caption is too long: the model stops reading before the end of “{found.text}”.",
                "Shorten the caption, or move this word to its beginning.",
            )
        if not found.positions:
            raise ConfigError(
                f"The model reads nothing where the caption has “{found.text}”.", "Choose another word of the caption."
            )
        return found

    def _numbered(self, number: int) -> Word:
        if not 0 <= number < len(self.words):
            raise ConfigError(
                f"The caption has {len(self.words)} words, so there is none with number {number}.",
                "Choose a word of the caption.",
            )
        return self.words[number]

    def _named(self, name: str) -> Word:
        wanted = [part.casefold() for part in split_words(name)]
        texts = [word.text.casefold() for word in self.words]
        for at in range(len(texts) - len(wanted) + 1 if wanted else 0):
            if texts[at : at + len(wanted)] == wanted:
                return _joined(self.words[at : at + len(wanted)])
        raise ConfigError(
            f"The caption does not contain “{name}”.",
            f"Choose among its words: {', '.join(dict.fromkeys(word.text for word in self.words))}."
            if self.words
            else "Type a caption that names what the image shows.",
        )


def split_words(caption: str) -> list[str]:
    """The words of a caption in their order, without punctuation; an emoji is a word."""
    return [caption[begin:end] for begin, end in _spans(caption)]


def adjectives_of(words: Sequence[str], nouns: Sequence[int]) -> dict[int, int]:
    """Number of each noun: of the word before it, where that may be its adjective, such as “red” in “a red ring”."""
    return {
        noun: noun - 1
        for noun in nouns
        if noun > 0 and noun - 1 not in nouns and not _NO_ADJECTIVE.fullmatch(words[noun - 1])
    }


def read_caption(caption: str, tokenizer: Any, room: int) -> Caption:
    """Which tokens the words of a caption became.

    Args:
        caption: any text.
        tokenizer: CLIP's, of the transformers library.
        room: tokens that the model reads, start and end included; 77 for Stable Diffusion.
    """
    encoded = tokenizer(caption, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    pieces = [tuple(span) for span in encoded.offset_mapping]
    last = room - 2
    words = []
    for begin, end in _spans(caption):
        own = [at for at, (first, stop) in enumerate(pieces) if first < end and stop > begin]
        read = tuple(at + 1 for at in own if at < last)
        words.append(Word(caption[begin:end], read, cut=len(read) < len(own)))
    unread = caption[pieces[last][0] :] if len(pieces) > last else ""
    return Caption(caption, tuple(words), unread)


def _spans(caption: str) -> list[tuple[int, int]]:
    spans = []
    for match in _APART.finditer(caption):
        text = match[0]
        begin = match.start() + len(text) - len(text.lstrip(_EDGES))
        end = match.start() + len(text.rstrip(_EDGES))
        if begin < end:
            spans.append((begin, end))
    return spans


def _joined(words: Sequence[Word]) -> Word:
    positions = sorted({position for word in words for position in word.positions})
    return Word(" ".join(word.text for word in words), tuple(positions), any(word.cut for word in words))
