"""Maps of runs, for pages and commands. Torch-free; made by `map_of_run.py`.

found = read_map(workspace, MapRequest(run_id=run_id))     # None until the job "inspect_map" made it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from engines.inspection.keeping import kept, key_of
from engines.store import Workspace

KIND = "map"
FITTED = "map-fitted"
"""Kind of the answers that hold what new points are placed by."""
VERSION = 1
PER_IMAGE = (
    "samples",
    "labels",
    "images_before",
    "images_after",
    "images_moved",
    "said_before",
    "said_after",
)
"""Arrays of a map with one row an image."""
Points = NDArray[np.float32]


class MapRequest(BaseModel):
    """Which map of a run."""

    run_id: str
    layout: Literal["umap", "pca", "tsne"] = "umap"
    seed: int = Field(1, ge=0, le=2**31 - 1)
    keep_gap: bool = False
    """Whether words and images stay as far apart as the towers put them (the modality gap). Otherwise each tower's
    features are taken from their mean before the prompt, so that words lie among the images that they stand for."""

    def key(self) -> str:
        return key_of(VERSION, self.run_id, self.layout, self.seed, self.keep_gap)


@dataclass(frozen=True)
class RunMap:
    """Images and words of a run before and after its prompt, on one map. N images, C classes."""

    run_id: str
    layout: str
    """How it was laid out; `pca` where there were too few points for anything else."""
    mark: str
    """Of the layout; differs where it was laid out anew."""
    classes: list[str]
    groups: list[str]
    """Of each class: `base`, `new`, or empty where the run has no new classes."""
    notes: list[str]
    samples: NDArray[np.int64]
    """[N] sample ids."""
    labels: NDArray[np.int64]
    """[N] true classes, positions in the data set."""
    images_before: Points
    """[N, 2]"""
    images_after: Points
    words_before: Points
    """[C, 2]; not a number where the words depend on the image and the class has none. (Otherwise they are the mean
    over the images.)"""
    words_after: Points
    images_moved: NDArray[np.float32]
    """[N] 1 - cos of the features before and after."""
    words_moved: NDArray[np.float32]
    """[C]"""
    said_before: NDArray[np.int64]
    """[N] the ready-made prompt's answer when the run was tested; -1 where it is not known."""
    said_after: NDArray[np.int64]
    """[N] the learned prompt's."""


def read_map(workspace: Workspace, request: MapRequest) -> RunMap | None:
    """The map that was asked for; None where it was not made yet."""
    found = kept(workspace, KIND, request.key())
    if found is None:
        return None
    try:
        values: dict[str, Any] = {**found.values, **found.arrays}
        return RunMap(**values)
    except TypeError:  # of another version of the program
        return None


def rows_of(found: RunMap) -> list[dict[str, Any]]:
    """One row for every image and class, for tables: where it lies before and after, and how far it moved."""
    rows: list[dict[str, Any]] = []
    for place, sample in enumerate(found.samples.tolist()):
        label = int(found.labels[place])
        rows.append(
            {"what": "image", "sample": sample, "class": found.classes[label], "group": found.groups[label]}
            | _places(found.images_before[place], found.images_after[place], found.images_moved[place])
        )
    for place, name in enumerate(found.classes):
        rows.append(
            {"what": "words", "sample": None, "class": name, "group": found.groups[place]}
            | _places(found.words_before[place], found.words_after[place], found.words_moved[place])
        )
    return rows


def _places(before: Points, after: Points, moved: np.float32) -> dict[str, float | None]:
    numbers = {"x_before": before[0], "y_before": before[1], "x_after": after[0], "y_after": after[1], "moved": moved}
    return {name: float(value) if np.isfinite(value) else None for name, value in numbers.items()}
