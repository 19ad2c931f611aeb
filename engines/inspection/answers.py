"""What prompts said of the test images, side by side: read from the tables that runs leave behind. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engines.runs.tables import LEARNED, READY_MADE
from engines.store import Workspace

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """What one prompt said of N test images, by ascending sample id; classes as positions in the data set."""

    sample_ids: Ints
    true: Ints
    said: Ints
    sure: Floats | None
    """Probability of what it said. This and the following are None where the run is older than that they are kept."""
    true_share: Floats | None
    """Probability of the true class."""
    top_classes: Ints | None
    """[N, 3] (fewer for fewer classes), most probable first."""
    top_shares: Floats | None

    @property
    def right(self) -> Bools:
        return self.said == self.true

    def at(self, places: Any) -> Answers:
        """Those at some places."""
        kept = [None if column is None else column[places] for column in self._columns()]
        return Answers(*kept)  # type: ignore[arg-type]

    def _columns(self) -> tuple[Any, ...]:
        return (
            self.sample_ids,
            self.true,
            self.said,
            self.sure,
            self.true_share,
            self.top_classes,
            self.top_shares,
        )


def read_answers(workspace: Workspace, run_id: str, ready_made: bool = False) -> Answers | None:
    """The answers of a run, or of the ready-made prompt beside it; None where there are none."""
    file = workspace.path / "runs" / run_id / "predictions.parquet"
    if not run_id.isalnum() or not file.is_file():
        return None
    found = _read(file, file.stat().st_mtime_ns, ready_made)
    return found if found is not None and len(found.true) else None


def aligned(found: Sequence[Answers]) -> list[Answers]:
    """The same answers on the images that all of them are about, in one order; empty where they share none."""
    if not found:
        return []
    shared = found[0].sample_ids
    for each in found[1:]:
        shared = np.intersect1d(shared, each.sample_ids, assume_unique=True)
    if not len(shared):
        return []
    return [each.at(np.searchsorted(each.sample_ids, shared)) for each in found]


@lru_cache(maxsize=48)
def _read(file: Path, _stamp: int, ready_made: bool) -> Answers | None:
    said, *others = READY_MADE if ready_made else LEARNED
    names = pq.read_schema(file).names
    if said not in names:
        return None
    kept = [name for name in others if name in names]
    table = pq.read_table(file, columns=["sample_id", "true", said, *kept])
    ids, true, answered = (table[name].to_numpy().astype(np.int64) for name in ("sample_id", "true", said))
    order = np.argsort(ids, kind="stable")
    ids, first = np.unique(ids[order], return_index=True)
    places = order[first]
    extra = [_values(table[name])[places] if name in kept else None for name in others]
    return Answers(ids, true[places], answered[places], *extra)


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers [N], or of equally long lists of numbers [N, k]; integers stay so."""
    if not pa.types.is_list(column.type):
        return np.asarray(column.to_numpy(), dtype=np.float64)
    flat = pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type).to_numpy()
    kind = np.int64 if pa.types.is_integer(column.type.value_type) else np.float64
    return flat.reshape(len(column), -1).astype(kind) if len(column) else np.zeros((0, 0), kind)
