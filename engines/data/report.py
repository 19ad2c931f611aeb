"""What an import tells: what came in, what was left out and why, and what to look at."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from pydantic import BaseModel, Field

from engines.data.base import ImportOptions
from engines.store.browse import NO_LABEL

LONGEST_LIST = 500


class ImportRequest(BaseModel):
    """What to import, and how."""

    source: str
    """A file or folder on this machine."""
    name: str | None = None
    """Name of the data set; the source's own where left out."""
    reader: str | None = None
    """Name of a reader; found by itself where left out."""
    options: ImportOptions = Field(default_factory=ImportOptions)


class LeftOutFile(BaseModel):
    file: str
    reason: str


class ImportReport(BaseModel):
    """The outcome of an import; also kept with the data set."""

    dataset_id: int = 0
    name: str
    reader: str
    seen: int
    """Images and other files looked at: those imported and those left out."""
    imported: int
    counts: dict[str, dict[str, int]]
    """Class, then split, to number of images; images without a label under “(no label)”."""
    reasons: dict[str, int] = Field(default_factory=dict)
    """Why files were left out, and how many."""
    left_out: list[LeftOutFile] = Field(default_factory=list)
    """The first 500 of them."""
    warnings: list[str] = Field(default_factory=list)
    template: str = ""
    """The sentence that published results of ready-made prompts were made with; empty where it is not known."""
    seconds: float = 0.0
    token: str = ""
    """Of the import, so that one that is repeated after a crash does not come in twice."""


class LeftOutList:
    """Collects what was left out: all reasons counted, the first files named."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.files: list[LeftOutFile] = []

    def add(self, file: str, reason: str) -> None:
        self.reasons[reason] += 1
        if len(self.files) < LONGEST_LIST:
            self.files.append(LeftOutFile(file=file, reason=reason))

    @property
    def count(self) -> int:
        return self.reasons.total()

    def sentence(self) -> str:
        """“12 × the file does not exist; 1 × empty (0 bytes)”, the most frequent first."""
        return "; ".join(f"{count:,} × {reason}" for reason, count in self.reasons.most_common(5))


def count_images(rows: list[Any], classes: list[str]) -> dict[str, dict[str, int]]:
    """Images by class (in label order, unlabelled ones last) and split (train, val, test, pool)."""
    found: dict[str | None, Counter[str]] = defaultdict(Counter)
    for row in rows:
        found[row.label][row.split] += 1
    order = {"train": 0, "val": 1, "test": 2, "pool": 3}
    keys: list[str | None] = [*classes, *([None] if None in found else [])]
    return {
        NO_LABEL if key is None else key: dict(sorted(found[key].items(), key=lambda pair: order[pair[0]]))
        for key in keys
    }
