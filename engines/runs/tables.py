"""A run's answers image by image, as a Parquet table. Torch-free, so that pages can read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TOP = 3
LEARNED = ("predicted", "probability", "true_probability", "top_classes", "top_probabilities")
READY_MADE = ("ready_made", *(f"ready_made_{name}" for name in LEARNED[1:]))
_TYPES = (pa.int32(), pa.float32(), pa.float32(), pa.list_(pa.int32()), pa.list_(pa.float32()))
SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("true", pa.int32()),
        *zip(LEARNED, _TYPES, strict=True),
        *zip(READY_MADE, _TYPES, strict=True),
    ]
)


def write_predictions(
    file: Path,
    parts: Iterable[tuple[Sequence[Any], Sequence[int], np.ndarray, Sequence[int], np.ndarray]],
    class_names: list[str],
) -> None:
    """Write one row an image: sample_id, true class position, and what the learned and the ready-made prompt say.

    Of the learned prompt `predicted`, `probability`, `true_probability` (of the true class), `top_classes` and
    `top_probabilities`; of the ready-made prompt its class `ready_made`, and the others behind that name.

    Args:
        parts: (items with `sample_id`, true class positions [N], probabilities [N, C], class positions of the columns,
            probabilities [N, C] of the ready-made prompt).
    """
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for items, true, learned, classes, ready_made in parts:
        columns["sample_id"] += [item.sample_id for item in items]
        columns["true"] += true
        own = np.array([classes.index(label) for label in true], dtype=np.int64)
        for names, shares in ((LEARNED, learned), (READY_MADE, ready_made)):
            best = np.argsort(-shares, axis=1, kind="stable")[:, :TOP]
            top = np.take_along_axis(shares, best, axis=1)
            said = np.asarray(classes)[best]
            values = (said[:, 0], top[:, 0], shares[np.arange(len(own)), own], said, top)
            for name, value in zip(names, values, strict=True):
                columns[name] += value.tolist()
    partial = file.with_suffix(".partial")
    pq.write_table(pa.table(columns, schema=SCHEMA), partial)
    partial.replace(file)


def read_predictions(file: Path) -> list[dict[str, Any]]:
    """The rows of `write_predictions`; empty where the run left none."""
    return list(pq.read_table(file).to_pylist()) if file.is_file() else []
