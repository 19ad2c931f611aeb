"""Prompts from a text, one a line, and the noises that they are tried with."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

from engines.diffusion.model import TextToImage
from engines.errors import ConfigError, DataError

_LINE_END = re.compile(r"\r\n|\r|\n")
TOLD = 5
"""Line numbers that are named; of more only the count."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts in their order, each once."""

    texts: list[str]
    notes: list[str]
    """What was left out or is not read whole, in sentences."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A prompt and the seed of its noise."""

    prompt: str
    seed: int


def read_prompts(text: str, model: TextToImage) -> Prompts:
    """One prompt a line. Empty lines and repetitions are left out; of long lines the model reads the beginning.

    Raises:
        ConfigError: there is no prompt.
    """
    texts: dict[str, int] = {}
    empty, repeated = [], []
    # Only what editors count as lines: str.splitlines knows many more.
    for number, line in enumerate(_LINE_END.split(text.rstrip("\r\n")), 1):
        prompt = " ".join(line.split())
        if not prompt:
            empty.append(number)
        elif prompt in texts:
            repeated.append(number)
        else:
            texts[prompt] = number
    if not texts:
        raise ConfigError("There is no prompt.", "Type one prompt a line: what an image should show.")
    long = [number for prompt, number in texts.items() if model.caption(prompt).unread]
    notes = [
        f"{_lines(numbers)} {what}"
        for numbers, what in (
            (empty, "empty and left out."),
            (repeated, "repeated and left out."),
            (long, f"too long: the model reads only the first {model.room - 2} tokens."),
        )
        if numbers
    ]
    return Prompts(list(texts), notes)


def read_prompt_file(path: Path, model: TextToImage) -> Prompts:
    """The same of a text file in UTF-8.

    Raises:
        DataError: the file cannot be read, or is no text.
    """
    try:
        return read_prompts(path.read_bytes().decode("utf-8-sig"), model)
    except OSError as error:
        raise DataError(f"“{path.name}” cannot be read.", "Check the path and its permissions.", str(error)) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"“{path.name}” is no text in UTF-8.", "Save it as plain text with the encoding UTF-8.", str(error)
        ) from error


def trials(prompts: list[str], each: int = 1, seed: int = 0) -> list[Trial]:
    """Every prompt with `each` seeds of its own; the same ones whenever `seed` is the same.

    Prompts take turns, so that an early stop leaves all of them equally often tried.
    """
    draws = [random.Random(f"{seed}/{prompt}") for prompt in prompts]
    return [
        Trial(prompt, draw.getrandbits(32)) for _ in range(each) for prompt, draw in zip(prompts, draws, strict=True)
    ]


def _lines(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"Line {numbers[0]} is"
    if len(numbers) <= TOLD:
        return f"Lines {', '.join(map(str, numbers[:-1]))} and {numbers[-1]} are"
    return f"{len(numbers)} lines (the first is line {numbers[0]}) are"
