"""What a first start prepares, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app import first_start
from engines import jobs
from engines.jobs.kinds import train
from engines.runs.request import TrainRequest
from engines.store import Dataset, Job, JobState, Run, Workspace, now


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "ws")


@pytest.fixture
def asked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the engine; the sample is drawn at once."""
    said: list[str] = []

    def submit(_: Workspace, kind: str, payload: dict[str, Any]) -> str:
        said.append(f"{kind} {payload['sample']}")
        with workspace.session() as session:
            session.add(Dataset(name="Blood smear", reader="folder", source=f"sample:{payload['sample']}"))
            job = Job(kind=kind, state=JobState.DONE)
            session.add(job)
            session.flush()
            return job.id

    def submit_training(_: Workspace, request: TrainRequest) -> None:
        said.append(f"{request.method} {request.shots} {request.seeds}")

    monkeypatch.setattr(jobs, "submit", submit)
    monkeypatch.setattr(jobs, "ensure_engine", lambda _: said.append("engine"))
    monkeypatch.setattr(train, "submit_training", submit_training)
    return said


def test_a_new_workspace_gets_the_sample_and_two_results(workspace: Workspace, asked: list[str]) -> None:
    first_start.prepare(workspace)
    assert asked == ["sample blood-smear", "zero-shot 16 [1]", "coop 16 [1]"]


def test_results_that_were_cut_off_are_made_at_the_next_start(workspace: Workspace, asked: list[str]) -> None:
    first_start.prepare(workspace)
    first_start.prepare(workspace)
    assert asked[3:] == ["engine", "zero-shot 16 [1]", "coop 16 [1]"]


@pytest.mark.parametrize(
    "row",
    [
        Run(name="mine", backbone="mini-clip", method="coop", deleted_at=now()),
        Job(kind="train"),
        Dataset(name="mine", reader="folder", source="cells"),
    ],
    ids=["a run in the bin", "a training at work", "own images"],
)
def test_a_workspace_in_use_is_left_alone(workspace: Workspace, asked: list[str], row: Any) -> None:
    with workspace.session() as session:
        session.add(Dataset(name="Blood smear", reader="folder", source="sample:blood-smear"))
        session.add(row)
    first_start.prepare(workspace)
    assert asked == ["engine"]


def test_a_sample_in_the_bin_is_left_there(workspace: Workspace, asked: list[str]) -> None:
    with workspace.session() as session:
        session.add(Dataset(name="Blood", reader="folder", source="sample:blood-smear", deleted_at=now()))
    first_start.prepare(workspace)
    assert asked == ["engine"]


def test_a_sample_that_cannot_be_drawn_ends_it(
    workspace: Workspace, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Workspace, kind: str, payload: dict[str, Any]) -> str:
        with workspace.session() as session:
            job = Job(kind=kind, state=JobState.FAILED)
            session.add(job)
            session.flush()
            return job.id

    monkeypatch.setattr(jobs, "submit", fail)
    first_start.prepare(workspace)
    assert asked == []
