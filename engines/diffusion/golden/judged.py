"""What standard, golden and predicted noise were judged to be, prompt by prompt. Torch-free."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.diffusion.golden.files import read_lines
from engines.diffusion.golden.statistics import Comparison, compare
from engines.diffusion.golden.study import Study, age

STANDARD, GOLDEN, NPNET = "standard", "golden", "NPNet"
"""Kinds of noise: as drawn, re-denoised (the target), and predicted by the network."""
FACTS = ("mean", "std", "kurtosis", "cosine")
"""Of a noise; the last one to the standard noise."""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt and seed with every kind of noise."""

    number: int
    prompt: str
    seed: int
    scores: dict[str, dict[str, float | None]]
    """By scorer and kind; None where an image could not be made."""
    noise: dict[str, dict[str, float | None]]
    """`FACTS` by kind."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A comparison of kinds of noise on the same prompts and seeds."""

    folder: Path
    kinds: list[str]
    scorers: dict[str, str]
    """Full name (with weights) of every scorer, by its name in `SCORERS`; the first one also chose the pairs."""
    total: int
    """Prompts and seeds that were asked for."""
    new_prompts: bool
    """Whether the network learnt from none of the prompts."""
    network: str
    """Key of the network's training; empty where there was none."""

    def rows(self) -> list[Row]:
        """Those that are done, in their order."""
        found = {str(row.get("number")): row for row in read_lines(self.folder / "judged.jsonl")}
        rows = [Row(**row) for row in found.values() if row.keys() == set(Row.__slots__)]
        return sorted(rows, key=lambda row: row.number)

    def picture(self, number: int, kind: str) -> Path:
        return self.folder / "pictures" / f"{number:05d}-{kind}.png"

    def scored(self, scorer: str, kind: str) -> tuple[list[str], list[float], list[float]]:
        """Prompts, scores of standard noise and scores of another kind, where both images could be made."""
        kept: list[tuple[str, float, float]] = []
        for row in self.rows():
            one, other = (row.scores.get(scorer, {}).get(each) for each in (STANDARD, kind))
            if one is not None and other is not None:
                kept.append((row.prompt, one, other))
        return [each[0] for each in kept], [each[1] for each in kept], [each[2] for each in kept]

    def comparison(self, scorer: str, kind: str) -> Comparison | None:
        """A kind of noise against the standard one; None where nothing was judged."""
        _, one, other = self.scored(scorer, kind)
        return compare(one, other) if one else None

    def mean_score(self, scorer: str, kind: str) -> float | None:
        """Over the images that could be made."""
        return _mean([row.scores.get(scorer, {}).get(kind) for row in self.rows()])

    def mean_fact(self, fact: str, kind: str) -> float | None:
        return _mean([row.noise.get(kind, {}).get(fact) for row in self.rows()])


def judgements(study: Study) -> list[Judgement]:
    """Those of a study, the newest last."""
    found = []
    for about in sorted((study.folder / "judged").glob("*/about.json"), key=age):
        try:
            found.append(Judgement(about.parent, **json.loads(about.read_bytes())))
        except (OSError, ValueError, TypeError):
            continue
    return found


def about(judgement: Judgement) -> bytes:
    """What `judgements` reads."""
    names = [name for name in Judgement.__slots__ if name != "folder"]
    return json.dumps({name: getattr(judgement, name) for name in names}, ensure_ascii=False, indent=1).encode()


def plain(value: float) -> float | None:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else None


def _mean(values: Sequence[Any]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
