"""A training in the background that is killed ends with the same result as an undisturbed one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engines import jobs
from engines.data import ImportRequest, import_dataset
from engines.jobs.kinds.train import submit_training
from engines.jobs.presence import EngineFile
from engines.runs.request import TrainRequest
from engines.store import Dataset, Job, JobState, Metric, Run, Workspace
from tests.jobs.conftest import end, ended, row, until


@pytest.fixture
def ws(shapes: Path, tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace.open(tmp_path / "clinic")
    import_dataset(workspace, ImportRequest(source=str(shapes)))
    yield workspace
    end(workspace)


def start(ws: Workspace, epochs: int) -> tuple[str, str]:
    """(run, job) of a training of `epochs` passes."""
    with ws.session() as session:
        dataset = session.query(Dataset).one().id
    training = {"epochs": epochs, "views": 2, "batch_size": 8}
    (run,) = submit_training(ws, TrainRequest(dataset_id=dataset, shots=4, seeds=[1], training=training))
    with ws.session() as session:
        return run.id, session.query(Job).filter_by(run_id=run.id).one().id


def worker_of(ws: Workspace, job_id: str) -> psutil.Process:
    until(lambda: row(ws, job_id).worker.startswith("process "))
    return psutil.Process(int(row(ws, job_id).worker.split()[1]))


def result(ws: Workspace, run_id: str) -> tuple[dict[str, object], list[tuple[int, float]]]:
    with ws.session() as session:
        run = session.get_one(Run, run_id)
        assert run.state == "done"
        losses = session.query(Metric.step, Metric.value).filter_by(run_id=run_id, name="loss").order_by(Metric.step)
        return {key: run.summary[key] for key in ("accuracy", "ece", "confusion")}, [tuple(pair) for pair in losses]


def test_killed_and_undisturbed_trainings_agree(ws: Workspace) -> None:
    epochs = 150
    calm, calm_job = start(ws, epochs)
    assert ended(ws, calm_job, 180).state is JobState.DONE
    hurt, hurt_job = start(ws, epochs)
    until(lambda: row(ws, hurt_job).progress > 0.3)
    worker_of(ws, hurt_job).kill()
    until(lambda: row(ws, hurt_job).attempt == 2)
    until(lambda: row(ws, hurt_job).progress > 0.3)
    engine = EngineFile(ws.path).read()
    assert engine is not None
    family = [psutil.Process(engine.pid), *psutil.Process(engine.pid).children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=15)
    jobs.ensure_engine(ws)
    job = ended(ws, hurt_job, 180)
    assert job.state is JobState.DONE, job.error
    assert job.attempt >= 2
    assert result(ws, hurt) == result(ws, calm)
    assert len(result(ws, hurt)[1]) == epochs


def test_cancelled_training_and_retry(ws: Workspace) -> None:
    run, job = start(ws, 5000)
    until(lambda: row(ws, job).progress > 0.26)
    jobs.cancel(ws, job)
    assert ended(ws, job, 10).state is JobState.CANCELLED
    with ws.session() as session:
        assert session.get_one(Run, run).state == "cancelled"
    again = jobs.retry(ws, job)
    until(lambda: "Training" in row(ws, again).message)
    with ws.session() as session:
        assert session.get_one(Run, run).state == "running"
    jobs.cancel(ws, again)
    ended(ws, again, 10)
