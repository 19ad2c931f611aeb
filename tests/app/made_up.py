"""A workspace with made-up results, for tests of what pages say about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from engines.prompts.metrics import harmonic_mean, summarise
from engines.runs.tables import write_predictions
from engines.store import Dataset, LabelClass, Metric, Run, Sample, Workspace

CLASSES = ["basophil", "blast", "<i>monocyte</i>", "neutrophil"]
IMAGES = 5
"""Test images of each class."""
BEGAN = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    sample_id: int


def make_workspace(folder: Path) -> Workspace:
    """One data set: four classes with five test images each, without image files."""
    workspace = Workspace.open(folder)
    with workspace.session() as session:
        dataset = Dataset(
            name="cells", reader="folder", classes=[LabelClass(position=i, name=n) for i, n in enumerate(CLASSES)]
        )
        session.add(dataset)
        session.flush()
        for label, each in enumerate(dataset.classes):
            for number in range(IMAGES):
                place = label * IMAGES + number
                session.add(
                    Sample(
                        dataset_id=dataset.id,
                        position=place,
                        name=f"{label}-{number}.png",
                        file="",
                        sha256=f"{place:064x}",
                        width=8,
                        height=8,
                        split="test",
                        class_id=each.id,
                    )
                )
        dataset.size = len(CLASSES) * IMAGES
    return workspace


def guesses(wrong: dict[int, int], classes: list[int], sure: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities, true labels) of the test images of `classes`; `wrong` maps places to what they are taken for."""
    true = np.repeat(np.arange(len(classes)), IMAGES)
    shares = np.full((len(true), len(classes)), (1 - sure) / (len(classes) - 1))
    for place, label in enumerate(true):
        shares[place, wrong.get(place, label)] = sure - place / 1000  # every image has a sureness of its own
    return shares, true


def add_run(
    workspace: Workspace,
    method: str = "coop",
    seed: int = 1,
    wrong: dict[int, int] | None = None,
    state: str = "done",
    experiment: str = "first",
    hours: float = 0,
    **columns: Any,
) -> str:
    """A run of the data set `cells`; ready-made prompts get 10 of the 20 images right. Returns its id."""
    summary: dict[str, Any] = {}
    shares, true = guesses(wrong or {}, list(range(len(CLASSES))))
    if state == "done":
        ready, _ = guesses(dict.fromkeys(range(IMAGES, 3 * IMAGES), 0), list(range(len(CLASSES))))
        zero_shot = summarise(ready, true, CLASSES)
        summary = summarise(shares, true, CLASSES) | {"zero_shot": zero_shot, "images_trained": 64, "notes": []}
    row = {
        "name": f"{method} on cells",
        "dataset_id": 1,
        "backbone": "mini-clip",
        "protocol": "few-shot",
        "shots": 16,
        "config": {"settings": {}, "training": {}},
    }
    run = Run(
        **row | columns,
        method=method,
        seed=seed,
        experiment=experiment,
        state=state,
        summary=summary,
        created_at=BEGAN + timedelta(hours=hours),
    )
    with workspace.session() as session:
        session.add(run)
        session.flush()
        ids = [row.id for row in session.query(Sample).order_by(Sample.position)]
    if state == "done":
        rows = [([Row(i) for i in ids], true.tolist(), shares, list(range(len(CLASSES))), ready)]
        write_predictions(workspace.run_folder(run.id) / "predictions.parquet", rows, CLASSES)
    return run.id


def add_base_to_new(workspace: Workspace) -> str:
    """A run that was trained on the first two classes (9 of 10 right) and tested on the others (5 of 10 right)."""
    run_id = add_run(workspace, experiment="both", protocol="base-to-new")
    base_shares, true = guesses({0: 1}, [0, 1])
    new_shares, _ = guesses(dict.fromkeys(range(IMAGES), 1), [2, 3])
    base, new = summarise(base_shares, true, CLASSES[:2]), summarise(new_shares, true, CLASSES[2:])
    both = {"base_accuracy": 0.9, "new_accuracy": 0.5, "harmonic_mean": harmonic_mean(0.9, 0.5)}
    summary = base | both | {"new": new | {"zero_shot": new}, "zero_shot": base | both, "notes": []}
    with workspace.session() as session:
        session.get_one(Run, run_id).summary = summary
    return run_id


def add_metrics(workspace: Workspace, run_id: str, name: str, values: list[float]) -> None:
    with workspace.session() as session:
        session.add_all(Metric(run_id=run_id, name=name, step=n, value=v) for n, v in enumerate(values, 1))
