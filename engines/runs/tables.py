"""A run's answers image by image, as a Parquet table. Torch-free, so that pages can read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TOP = 3


def write_predictions(
    file: Path,
    parts: Iterable[tuple[Sequence[Any], Sequence[int], np.ndarray, Sequence[int], np.ndarray]],
    class_names: list[str],
) -> None:
    """Write one row an image: sample_id, true and predicted class position, probability, the top classes and theirs,
    and the class that the ready-made prompt says.

    Args:
        parts: (items with `sample_id`, true class positions [N], probabilities [N, C], class positions of the columns,
            probabilities [N, C] of the ready-made prompt).
    """
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("sample_id", "true", "predicted", "probability", "top_classes", "top_probabilities", "ready_made")
    }
    for items, true, probabilities, classes, ready_made in parts:
        columns["ready_made"] += [classes[int(c)] for c in ready_made.argmax(axis=1)] if len(items) else []
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
        for item, label, row, order in zip(items, true, probabilities, best, strict=True):
            columns["sample_id"].append(item.sample_id)
            columns["true"].append(label)
            columns["predicted"].append(classes[order[0]])
            columns["probability"].append(float(row[order[0]]))
            columns["top_classes"].append([classes[c] for c in order])
            columns["top_probabilities"].append([float(row[c]) for c in order])
    schema = pa.schema(
        [
            ("sample_id", pa.int64()),
            ("true", pa.int32()),
            ("predicted", pa.int32()),
            ("probability", pa.float32()),
            ("top_classes", pa.list_(pa.int32())),
            ("top_probabilities", pa.list_(pa.float32())),
            ("ready_made", pa.int32()),
        ]
    )
    partial = file.with_suffix(".partial")
    pq.write_table(pa.table(columns, schema=schema), partial)
    partial.replace(file)


def read_predictions(file: Path) -> list[dict[str, Any]]:
    """The rows of `write_predictions`; empty where the run left none."""
    return list(pq.read_table(file).to_pylist()) if file.is_file() else []
