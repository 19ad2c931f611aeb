"""A grid of trainings, methods by data sets by seeds, as the papers run it. Torch-free.

Every cell of the grid is an ordinary run with its own job, so that the workers share the work and nothing is lost when
one is killed. `resume` keeps what earlier grids in the workspace have done already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from engines import jobs
from engines.errors import ConfigError, PromptloupeError
from engines.jobs.kinds.train import TrainPayload
from engines.prompts.catalog import method_catalog
from engines.prompts.settings import Protocol, parse
from engines.runs.request import TrainRequest, plan_runs
from engines.store import Dataset, Job, Run, Workspace
from engines.store.browse import domains

KEPT = ("done", "running", "queued")
"""States of earlier runs that `resume` does not begin anew."""


class BenchRequest(BaseModel):
    """A grid of trainings."""

    model_config = ConfigDict(extra="forbid")

    methods: list[str] = []
    """Registry names; every method that fits the protocol where empty."""
    datasets: list[int] = Field(min_length=1)
    """Data sets: a column each; the one to train on for cross-dataset and zero-shot-anomaly."""
    targets: list[int] = []
    """Data sets to test on, for cross-dataset and zero-shot-anomaly."""
    protocol: Protocol = "few-shot"
    backbone: str = "mini-clip"
    shots: list[int] = Field([16], min_length=1)
    seeds: list[int] = Field([1, 2, 3], min_length=1)
    settings: dict[str, dict[str, object]] = {}
    """By method: its settings where they differ from the defaults."""
    training: dict[str, object] = {}
    """Training settings that differ from the methods' own, for all of them."""


@dataclass
class Grid:
    """What a bench comes down to."""

    runs: list[Run] = field(default_factory=list)
    """Every cell, in the order of methods, data sets, numbers of images, seeds."""
    waiting: list[str] = field(default_factory=list)
    """Jobs that are not done yet."""
    kept: int = 0
    """Cells that an earlier bench had done already."""
    refused: dict[str, str] = field(default_factory=dict)
    """Methods that do not fit, and why."""


def submit_bench(workspace: Workspace, request: BenchRequest, resume: bool = False) -> Grid:
    """Check the whole grid, then queue a job for every cell that is not there yet.

    Raises:
        ConfigError, DataError: a method that was asked for by name does not fit; nothing was queued then.
    """
    grid = Grid()
    planned = _plan(workspace, request, grid)
    if not planned:
        raise ConfigError(
            f"No method can follow the protocol “{request.protocol}” here.",
            " ".join(dict.fromkeys(grid.refused.values())) or "Choose other methods or data sets.",
        )
    for run in planned:
        earlier = _earlier(workspace, run) if resume else None
        if earlier is not None and earlier.state == "done":
            grid.kept += 1
            grid.runs.append(earlier)
            continue
        if earlier is not None:
            run = earlier
        else:
            with workspace.session() as session:
                session.add(run)
        grid.runs.append(run)
        grid.waiting.append(_open_job(workspace, run) or _submit(workspace, run))
    return grid


def _plan(workspace: Workspace, request: BenchRequest, grid: Grid) -> list[Run]:
    planned: list[Run] = []
    for method in request.methods or [entry.name for entry in method_catalog()]:
        own: list[Run] = []
        try:
            for dataset in request.datasets:
                for part in _requests(workspace, request, method, dataset):
                    own += plan_runs(workspace, part)
        except PromptloupeError as error:
            if request.methods:
                raise
            grid.refused[method] = str(error)
        else:
            planned += own
    cells: dict[tuple[str, int], Run] = {}
    for run in planned:  # what does not depend on the number of images is planned once
        cells.setdefault((run.experiment, run.seed), run)
    return list(cells.values())


def _requests(workspace: Workspace, request: BenchRequest, method: str, dataset: int) -> list[TrainRequest]:
    """One request for each number of images and, for domain generalisation, each domain that is held out."""
    base = {
        "dataset_id": dataset,
        "backbone": request.backbone,
        "method": method,
        "seeds": request.seeds,
        "protocol": request.protocol,
        "settings": request.settings.get(method, {}),
        "training": request.training,
    }
    if request.protocol in ("cross-dataset", "zero-shot-anomaly"):
        base["test_datasets"] = [target for target in request.targets if target != dataset]
    held_out: list[list[str]] = [[]]
    if request.protocol == "domain-generalisation":
        held_out = [[name] for name in domains(workspace, dataset)] or [["?"]]
    return [
        parse(TrainRequest, base | {"shots": shots, "target_domains": out}, "the bench")
        for shots in request.shots
        for out in held_out
    ]


def _earlier(workspace: Workspace, run: Run) -> Run | None:
    """The best earlier run of the same cell: a finished one, else the newest."""
    same = (Run.experiment == run.experiment, Run.seed == run.seed, Run.deleted_at.is_(None))
    with workspace.session() as session:
        found = list(session.scalars(select(Run).where(*same).order_by(Run.created_at.desc())))
    return next((one for one in found if one.state == "done"), found[0] if found else None)


def _open_job(workspace: Workspace, run: Run) -> str | None:
    with workspace.session() as session:
        rows = session.scalars(select(Job).where(Job.run_id == run.id).order_by(Job.created_at.desc()))
        return next((job.id for job in rows if not job.state.ended), None)


def _submit(workspace: Workspace, run: Run) -> str:
    """A job for the run; one that was begun before goes on from its checkpoint."""
    payload = TrainPayload(run_id=run.id, title=f"{run.name} (seed {run.seed})")
    return jobs.submit(workspace, "train", payload, run_id=run.id)


def dataset_names(workspace: Workspace, ids: Sequence[int | None]) -> dict[int, str]:
    """Name of each data set by its number."""
    with workspace.session() as session:
        rows = session.scalars(select(Dataset).where(Dataset.id.in_([i for i in ids if i is not None])))
        return {row.id: row.name for row in rows}
