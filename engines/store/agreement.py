"""Two results on the same test images: where they agree, where not, and whether that can be chance. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, lgamma, log
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import select

from engines.store.models import Sample
from engines.store.workspace import Workspace

READY_MADE = "ready-made"
"""In the place of a run: the ready-made prompt, whose answers every run carries with it."""
Column = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """Test images of two results, counted."""

    images: int
    both: int
    """Right in both."""
    first_only: int
    second_only: int
    neither: int

    @property
    def p_value(self) -> float:
        """Exact two-sided McNemar test: how likely so uneven a difference would be if both were equally good."""
        return mcnemar(self.first_only, self.second_only)


@dataclass(frozen=True)
class Disagreement:
    """One test image and what each of several results says of it; classes as positions in the data set."""

    sample: Sample
    true: int
    said: tuple[int, ...]


def mcnemar(first_only: int, second_only: int) -> float:
    """p of the exact two-sided test on discordant pairs (McNemar, Psychometrika 1947): binomial with share 1/2."""
    pairs, fewer = first_only + second_only, min(first_only, second_only)
    if not pairs or first_only == second_only:
        return 1.0
    whole = lgamma(pairs + 1) - pairs * log(2)
    tail = sum(exp(whole - lgamma(k + 1) - lgamma(pairs - k + 1)) for k in range(fewer + 1))
    return min(1.0, 2 * tail)


def agreement(workspace: Workspace, first: str, second: str) -> Agreement | None:
    """How often two runs (or a run and `READY_MADE`) were right on the test images that both saw; None without any."""
    table = _answers(workspace, [first, second])
    if table is None:
        return None
    _, true, (one, other) = table
    a, b = one == true, other == true
    counts = (int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum()))
    return Agreement(len(true), *counts)


def disagreements(
    workspace: Workspace, runs: Sequence[str], first: int = 0, limit: int = 24
) -> tuple[list[Disagreement], int]:
    """Test images on which `runs` do not all say the same, a page of them, and how many there are in all."""
    table = _answers(workspace, runs)
    if table is None:
        return [], 0
    ids, true, said = table
    places = np.flatnonzero((np.stack(said) != said[0]).any(axis=0))
    page = [int(place) for place in places[first : first + limit]]
    with workspace.session() as session:
        rows = session.scalars(select(Sample).where(Sample.id.in_([int(ids[place]) for place in page])))
        samples = {sample.id: sample for sample in rows}
    found = [
        Disagreement(samples[int(ids[place])], int(true[place]), tuple(int(column[place]) for column in said))
        for place in page
        if int(ids[place]) in samples
    ]
    return found, len(places)


def answers_to(workspace: Workspace, run: str, sample_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Sample id -> answers of the ready-made prompt (-1 where it is not known) and of `run`, positions of classes."""
    table = _table(workspace, run)
    if table is None:
        return {}
    ids, _, said, ready = table
    rows = np.flatnonzero(np.isin(ids, np.asarray(sample_ids, dtype=np.int64)))
    return {int(ids[row]): (int(ready[row]) if ready is not None else -1, int(said[row])) for row in rows}


def _answers(workspace: Workspace, runs: Sequence[str]) -> tuple[Column, Column, list[Column]] | None:
    """(sample ids, true classes, answers of each run) on the images that all of them were tested on."""
    tables = {run: table for run in runs if run != READY_MADE and (table := _table(workspace, run)) is not None}
    if len(tables) < len({run for run in runs if run != READY_MADE}) or not tables:
        return None
    shared = sorted(set.intersection(*(set(table[0].tolist()) for table in tables.values())))
    carrier = next(iter(tables.values()))
    if not shared or (READY_MADE in runs and carrier[3] is None):
        return None

    def column(table: _Table, which: int) -> Column:
        values = table[which]
        assert values is not None
        order = np.argsort(table[0], kind="stable")
        return values[order[np.searchsorted(table[0][order], shared)]]

    said = [column(carrier, 3) if run == READY_MADE else column(tables[run], 2) for run in runs]
    return np.asarray(shared), column(carrier, 1), said


_Table = tuple[Column, Column, Column, Column | None]


def _table(workspace: Workspace, run: str) -> _Table | None:
    file = workspace.path / "runs" / run / "predictions.parquet"
    return _read(file, file.stat().st_mtime_ns) if run.isalnum() and file.is_file() else None


@lru_cache(maxsize=24)
def _read(file: Path, _stamp: int) -> _Table:
    """Sample ids, true classes, answers, and the ready-made prompt's where an older run did not leave them out."""
    table = pq.read_table(file)
    ids, true, said = (table[name].to_numpy().astype(np.int64) for name in ("sample_id", "true", "predicted"))
    ready = table["ready_made"].to_numpy().astype(np.int64) if "ready_made" in table.column_names else None
    return ids, true, said, ready
