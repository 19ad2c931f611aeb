"""A small workspace with trained results, for tests of what reports say about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.data import ImportRequest, import_dataset
from engines.runs.perform import Observer, perform
from engines.runs.request import TrainRequest, create_runs
from engines.store import Dataset, Job, JobState, Run, Sample, Workspace, now
from tests.runs.conftest import write_shapes

DATASET = "shapes <i>"
READER = "Dr Ada Lovelace"


def trained_workspace(folder: Path) -> Workspace:
    """Coloured shapes of six patients; two methods that are solved at once, and CoOp for two passes, seeds 1 and 2."""
    workspace = Workspace.open(folder / "clinic")
    import_dataset(workspace, ImportRequest(source=str(write_shapes(folder / "shapes"))))
    with workspace.session() as session:
        session.query(Dataset).one().name = DATASET
        for sample in session.query(Sample):
            sample.group = f"patient-{sample.position % 3 + (4 if sample.split == 'test' else 0)}"
            sample.name = f"patient-7-{sample.position}.png"
        session.add(Job(kind="sample", title="Sample data", state=JobState.CANCELLED))  # nobody wants the first tour
    train(workspace, method="linear-probe", shots=4, seeds=[1])
    train(workspace, method="tip-adapter", shots=4, seeds=[1])
    train(workspace, method="coop", shots=2, seeds=[1, 2], training={"epochs": 2, "views": 1})
    return workspace


def train(workspace: Workspace, **request: Any) -> list[Run]:
    """Carry a request out here and now."""
    done = []
    for run in create_runs(workspace, TrainRequest(dataset_id=1, **request)):
        summary = perform(workspace, run, Observer())
        with workspace.session() as session:
            row = session.get_one(Run, run.id)
            row.summary, row.state, row.finished_at = summary, "done", now()
            done.append(row)
    return done
