"""What a prompt said of every test image, a page at a time, from the table that a run leaves behind. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import select

from engines.store.models import Sample
from engines.store.workspace import Workspace


@dataclass(frozen=True)
class Answer:
    """What a prompt said of one test image; classes as positions in the data set."""

    sample: Sample
    true: int
    predicted: int
    probability: float
    top: tuple[tuple[int, float], ...]
    """The most probable classes with their probabilities."""


@dataclass(frozen=True)
class AnswersPage:
    answers: list[Answer]
    total: int
    first: int
    """Place of the first answer among all that fit, counted from 0."""


def answers(
    workspace: Workspace,
    run_id: str,
    *,
    true: int | None = None,
    predicted: int | None = None,
    among: Sequence[int] | None = None,
    first: int = 0,
    limit: int = 24,
) -> AnswersPage:
    """Answers of a run's test images, the surest first: the wrong ones, or those of one cell of the confusion matrix.

    `among`: only images whose true class is one of these. A place beyond the end gives the last page. Images that
    are no longer in the workspace are left out.
    """
    table = _table(workspace, run_id)
    if table is None:
        return AnswersPage([], 0, 0)
    ids, truth, guess, sure, top_classes, top_shares = table
    if true is None and predicted is None:
        fits = truth != guess
    else:
        fits = np.ones(len(ids), dtype=bool)
        fits &= truth == true if true is not None else truth != guess
        fits &= guess == predicted if predicted is not None else truth != guess
    if among is not None:
        fits &= np.isin(truth, np.asarray(among, dtype=np.int64))
    places = np.flatnonzero(fits)
    places = places[np.argsort(-sure[places], kind="stable")]
    total = len(places)
    first = max(0, min(first, (total - 1) // limit * limit)) if total else 0
    page = [int(place) for place in places[first : first + limit]]
    with workspace.session() as session:
        wanted = select(Sample).where(Sample.id.in_([int(ids[place]) for place in page]))
        samples = {sample.id: sample for sample in session.scalars(wanted)}
    found = [
        Answer(
            samples[int(ids[place])],
            int(truth[place]),
            int(guess[place]),
            float(sure[place]),
            tuple(zip(top_classes[place], top_shares[place], strict=True)),
        )
        for place in page
        if int(ids[place]) in samples
    ]
    return AnswersPage(found, total, first)


Table = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], list[Any], list[Any]]
COLUMNS = ("sample_id", "true", "predicted", "probability")


def _table(workspace: Workspace, run_id: str) -> Table | None:
    file = workspace.path / "runs" / run_id / "predictions.parquet"
    return _read(file, file.stat().st_mtime_ns) if run_id.isalnum() and file.is_file() else None


@lru_cache(maxsize=8)
def _read(file: Path, _stamp: int) -> Table:
    table = pq.read_table(file)
    ids, true, predicted, probability = (table[name].to_numpy() for name in COLUMNS)
    return ids, true, predicted, probability, table["top_classes"].to_pylist(), table["top_probabilities"].to_pylist()
