"""What pages read about runs: short queries that leave the large parts of a summary where they are. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, pstdev
from typing import Any

from sqlalchemy import func, select, update

from engines.store.models import Dataset, Job, Metric, Run, now
from engines.store.workspace import Workspace

UNFINISHED = ("queued", "running")
MOST_POINTS = 400
"""Points of a curve that are read; longer ones are thinned evenly."""


@dataclass(frozen=True)
class RunLine:
    """One run (one seed) of an experiment, without the bulk of its summary. Shares are fractions of 1."""

    id: str
    seed: int
    state: str
    created_at: datetime
    accuracy: float | None
    zero_shot: float | None
    harmonic_mean: float | None
    zero_shot_harmonic_mean: float | None


@dataclass(frozen=True)
class Experiment:
    """Runs that differ by the seed alone; of a seed that was run twice, the newer run that is done counts."""

    key: str
    name: str
    dataset_id: int | None
    dataset: str
    backbone: str
    method: str
    protocol: str
    shots: int
    config: dict[str, Any]
    """Settings of the method and of its training, as in `Run.config`."""
    lines: tuple[RunLine, ...]
    """One a seed, ascending."""
    all_ids: tuple[str, ...]
    """Every run, those that were overtaken included."""

    @property
    def created_at(self) -> datetime:
        return max(line.created_at for line in self.lines)

    @property
    def done(self) -> list[RunLine]:
        return [line for line in self.lines if line.state == "done"]

    @property
    def state(self) -> str:
        """`running`, `queued`, `done` (at least one seed is), `failed` or `cancelled`."""
        states = [line.state for line in self.lines]
        return next((s for s in ("running", "queued", "done", "failed", "cancelled") if s in states), states[0])

    @property
    def score(self) -> float | None:
        """Mean share right over the seeds; of both kinds of classes their harmonic mean."""
        values = [v for line in self.done if (v := _score(line)) is not None]
        return fmean(values) if values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the score over the seeds (by their number); None for fewer than two."""
        values = [v for line in self.done if (v := _score(line)) is not None]
        return pstdev(values) if len(values) > 1 else None

    @property
    def zero_shot(self) -> float | None:
        """The ready-made prompt's score on the same test images."""
        values = [v for line in self.done if (v := _zero_shot_score(line)) is not None]
        return fmean(values) if values else None


def experiments(workspace: Workspace, deleted: bool = False, limit: int = 2000) -> list[Experiment]:
    """The experiments of the newest `limit` runs, newest first; with `deleted` those in the bin."""
    binned = Run.deleted_at.is_not(None) if deleted else Run.deleted_at.is_(None)
    newest = _columns().where(binned).order_by(Run.created_at.desc(), Run.id).limit(limit)
    with workspace.session() as session:
        rows = session.execute(newest).all()
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row.experiment or row.id, []).append(row)
    found = [_experiment(key, group) for key, group in groups.items()]
    return sorted(found, key=lambda each: each.created_at, reverse=True)


def experiment(workspace: Workspace, key: str) -> Experiment | None:
    """The experiment called `key` (see `Experiment.key`), without what is in the bin."""
    wanted = _columns().where((Run.experiment == key) | (Run.id == key), Run.deleted_at.is_(None))
    with workspace.session() as session:
        rows = session.execute(wanted.order_by(Run.created_at.desc(), Run.id)).all()
    return _experiment(key, list(rows)) if rows else None


def runs_by_id(workspace: Workspace, run_ids: Sequence[str]) -> list[Run]:
    """Whole rows of runs that are not in the bin, in the order of `run_ids`."""
    with workspace.session() as session:
        rows = session.scalars(select(Run).where(Run.id.in_(run_ids), Run.deleted_at.is_(None)))
        found = {run.id: run for run in rows}
    return [found[run_id] for run_id in run_ids if run_id in found]


def unfinished_runs(workspace: Workspace) -> list[str]:
    """Ids of the runs at work or waiting that belong to the experiment that was started last, by seed."""
    with workspace.session() as session:
        rows = session.execute(
            select(Run.id, Run.experiment)
            .where(Run.state.in_(UNFINISHED), Run.deleted_at.is_(None))
            .order_by(Run.created_at.desc(), Run.seed)
        ).all()
    return [row.id for row in rows if row.experiment == rows[0].experiment]


def runs_stamp(workspace: Workspace) -> tuple[Any, ...]:
    """Changes when a run is added, moves to another state, or goes to the bin or back."""
    with workspace.session() as session:
        states = session.execute(
            select(Run.state, func.count(), func.count(Run.deleted_at)).group_by(Run.state).order_by(Run.state)
        ).all()
    return tuple(tuple(row) for row in states)


def training_jobs(workspace: Workspace, run_ids: Sequence[str]) -> dict[str, Job]:
    """The newest training job of each run."""
    with workspace.session() as session:
        rows = session.scalars(
            select(Job).where(Job.run_id.in_(run_ids), Job.kind == "train").order_by(Job.created_at, Job.id)
        )
        return {str(job.run_id): job for job in rows}


def metrics_stamp(workspace: Workspace, run_ids: Sequence[str]) -> tuple[int, int]:
    """(rows, highest id): changes when the runs have new metrics."""
    with workspace.session() as session:
        count = select(func.count(), func.coalesce(func.max(Metric.id), 0)).where(Metric.run_id.in_(run_ids))
        rows, newest = session.execute(count).one()
    return int(rows), int(newest)


def curves(workspace: Workspace, run_ids: Sequence[str], names: Sequence[str]) -> dict[tuple[str, str], list[Any]]:
    """(run id, metric name) -> [(step, value)] by step, at most about `MOST_POINTS` each and the last one always."""
    wanted = select(Metric.run_id, Metric.name, Metric.step, Metric.value).where(
        Metric.run_id.in_(run_ids), Metric.name.in_(names)
    )
    found: dict[tuple[str, str], list[Any]] = {}
    with workspace.session() as session:
        for run_id, name, step, value in session.execute(wanted.order_by(Metric.run_id, Metric.name, Metric.step)):
            found.setdefault((run_id, name), []).append((step, value))
    return {key: _thinned(points) for key, points in found.items()}


def move_to_bin(workspace: Workspace, run_ids: Sequence[str]) -> int:
    """Move runs to the bin, where they stay for 30 days; returns how many."""
    return _set_deleted(workspace, run_ids, now())


def put_back(workspace: Workspace, run_ids: Sequence[str]) -> int:
    """Take runs out of the bin again; returns how many."""
    return _set_deleted(workspace, run_ids, None)


# --- helpers ------------------------------------------------------------------


def _columns() -> Any:
    def number(*path: str) -> Any:
        return Run.summary[path].as_float()

    return select(
        Run.id,
        Run.experiment,
        Run.name,
        Run.dataset_id,
        func.coalesce(Dataset.name, "").label("dataset"),
        Run.backbone,
        Run.method,
        Run.protocol,
        Run.shots,
        Run.config,
        Run.seed,
        Run.state,
        Run.created_at,
        number("accuracy").label("accuracy"),
        number("zero_shot", "accuracy").label("zero_shot"),
        number("harmonic_mean").label("harmonic_mean"),
        number("zero_shot", "harmonic_mean").label("zero_shot_harmonic_mean"),
    ).outerjoin(Dataset, Dataset.id == Run.dataset_id)


def _experiment(key: str, rows: list[Any]) -> Experiment:
    """`rows` newest first."""
    by_seed: dict[int, Any] = {}
    for row in rows:
        kept = by_seed.setdefault(row.seed, row)
        if row.state == "done" and kept.state not in ("done", *UNFINISHED):
            by_seed[row.seed] = row
    newest = rows[0]
    lines = [
        RunLine(
            row.id,
            row.seed,
            row.state,
            row.created_at,
            row.accuracy,
            row.zero_shot,
            row.harmonic_mean,
            row.zero_shot_harmonic_mean,
        )
        for _, row in sorted(by_seed.items())
    ]
    return Experiment(
        key,
        newest.name,
        newest.dataset_id,
        newest.dataset,
        newest.backbone,
        newest.method,
        newest.protocol,
        newest.shots,
        newest.config,
        tuple(lines),
        tuple(row.id for row in rows),
    )


def _score(line: RunLine) -> float | None:
    return line.accuracy if line.harmonic_mean is None else line.harmonic_mean


def _zero_shot_score(line: RunLine) -> float | None:
    return line.zero_shot if line.zero_shot_harmonic_mean is None else line.zero_shot_harmonic_mean


def _thinned(points: list[Any]) -> list[Any]:
    step = -(-len(points) // MOST_POINTS)
    return points if step == 1 else points[:-1][::step] + points[-1:]


def _set_deleted(workspace: Workspace, run_ids: Sequence[str], when: datetime | None) -> int:
    with workspace.session() as session:
        changed = session.execute(update(Run).where(Run.id.in_(run_ids)).values(deleted_at=when))
    return int(changed.rowcount)  # type: ignore[attr-defined]
