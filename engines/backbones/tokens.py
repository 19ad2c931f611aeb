"""Token ids of prompts, piece by piece: one interface over open_clip's two tokenisers.

A soft prompt is put together by hand (start, context, class name, full stop, end), so the tokeniser must tell its
special ids and the ids of a piece of text rather than of a finished, padded and possibly truncated sentence.
"""

from __future__ import annotations

from typing import Any, Protocol

from engines.errors import BackboneError


class PromptTokenizer(Protocol):
    """What a text tower needs to know of its tokeniser."""

    start: list[int]  # ids in front of every text, e.g. [49406]; empty for T5
    end: list[int]  # ids behind every text, e.g. [49407]
    pad: int
    context_length: int  # most ids of one text, start and end included
    filler: int  # an ordinary id that holds a place for a context vector

    def pieces(self, text: str) -> list[int]:
        """Ids of a text that stands at the beginning, without start and end."""

    def name_and_ending(self, words: str, name: str) -> tuple[list[int], int]:
        """Ids of "<name>." as they come out behind `words`, and how many of them are the name's."""

    def word(self, token_id: int) -> str:
        """The written form of one id."""


class ClipTokenizer:
    """CLIP's byte-pair encoding (open_clip's SimpleTokenizer)."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self._tokenizer = tokenizer
        self.start = [tokenizer.sot_token_id]
        self.end = [tokenizer.eot_token_id]
        self.pad = 0
        self.context_length = context_length
        self.filler = self.pieces("X")[0]

    def pieces(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text))

    def name_and_ending(self, words: str, name: str) -> tuple[list[int], int]:
        # CLIP splits at spaces first, so a name has the same pieces wherever it stands. The name's length is counted
        # on the name alone, as the official code does: in "stage (3)." the last bracket and the stop are one piece.
        ids = self.pieces(f"{name}.")
        return ids, min(len(self.pieces(name)), len(ids))

    def word(self, token_id: int) -> str:
        tokenizer = self._tokenizer
        written = tokenizer.decoder[token_id]
        if token_id in tokenizer.all_special_ids:
            return str(written)
        letters = written.removesuffix("</w>")
        return bytearray(tokenizer.byte_decoder[c] for c in letters).decode("utf-8", errors="replace")


class HuggingFaceTokenizer:
    """Any tokeniser of the transformers library, inside open_clip's HFTokenizer."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self._tokenizer = tokenizer.tokenizer
        self._clean = tokenizer.clean_fn
        self.pad = int(self._tokenizer.pad_token_id)
        self.context_length = context_length
        if tokenizer.tokenizer_mode == "clips":
            raise BackboneError(
                "This model puts a class token behind the padding (CLIPS), which prompts cannot be built around.",
                "Choose another backbone.",
            )
        plain = self.pieces("a")
        full = list(self._tokenizer("a").input_ids)
        at = next(i for i in range(len(full)) if full[i : i + len(plain)] == plain)
        self.start, self.end = full[:at], full[at + len(plain) :]
        if tokenizer.strip_sep_token:
            self.end = [0 if i == self._tokenizer.sep_token_id else i for i in self.end]
        self.filler = plain[0]

    def pieces(self, text: str) -> list[int]:
        return list(self._tokenizer(self._clean(text), add_special_tokens=False).input_ids)

    def name_and_ending(self, words: str, name: str) -> tuple[list[int], int]:
        # Pieces may carry the space in front of them (RoBERTa, SentencePiece), so the name is located by its letters
        # in the whole sentence rather than tokenised alone.
        begin = len(self._clean(words or "a")) + 1
        stop = begin + len(self._clean(name))
        encoded = self._tokenizer(
            self._clean(f"{words or 'a'} {name}."), add_special_tokens=False, return_offsets_mapping=True
        )
        tail = [(i, span) for i, span in zip(encoded.input_ids, encoded.offset_mapping, strict=True) if span[1] > begin]
        return [i for i, _ in tail], sum(span[0] < stop for _, span in tail)

    def word(self, token_id: int) -> str:
        return str(self._tokenizer.convert_ids_to_tokens(token_id))


def prompt_tokenizer(tokenizer: Any, context_length: int | None = None) -> PromptTokenizer:
    """Wrap one of open_clip's tokenisers; `context_length` is the tower's, where it is shorter than the tokeniser's."""
    length = min(n for n in (tokenizer.context_length, context_length) if n)
    if hasattr(tokenizer, "sot_token_id"):
        return ClipTokenizer(tokenizer, length)
    if hasattr(tokenizer, "tokenizer"):
        return HuggingFaceTokenizer(tokenizer, length)
    raise BackboneError(
        f"A tokeniser of type {type(tokenizer).__name__} is not known here.",
        "Pass the tokeniser that open_clip.get_tokenizer() returns for the model.",
    )
