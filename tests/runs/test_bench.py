"""A grid of trainings: what it consists of, what it goes on from, and the table."""

from __future__ import annotations

import csv
import io
import itertools
from typing import Any

import pytest

from engines.errors import ConfigError, DataError
from engines.jobs.kinds import train as train_kind
from engines.runs import bench
from engines.runs.bench import BenchRequest, submit_bench
from engines.runs.bench_table import READY_MADE, make_table
from engines.store import Job, JobState, Run, Workspace

TITLES = {"coop": "CoOp", "kgcoop": "KgCoOp", "zero-shot": "Zero-shot CLIP"}
DATA = {1: "blood & bone", 2: "textile_%"}


@pytest.fixture
def queued(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs that were given a job; no worker is started."""
    numbers, given = itertools.count(), []

    def submit(workspace: Workspace, kind: str, payload: train_kind.TrainPayload, run_id: str) -> str:
        given.append(run_id)
        job = Job(id=f"job{next(numbers)}-{run_id[:4]}", kind=kind, run_id=run_id, title=payload.title)
        with workspace.session() as session:
            session.add(job)
        return job.id

    monkeypatch.setattr(bench.jobs, "submit", submit)
    with ws.session() as session:
        session.query(Job).delete()
        session.query(Run).delete()
    return given


def request(dataset_id: int, **values: Any) -> BenchRequest:
    return BenchRequest(**({"methods": ["coop", "kgcoop"], "datasets": [dataset_id], "shots": [1, 2]} | values))


def test_every_cell_is_a_run_with_a_job(ws: Workspace, dataset_id: int, queued: list[str]) -> None:
    grid = submit_bench(ws, request(dataset_id))
    cells = [(run.method, run.shots, run.seed) for run in grid.runs]
    assert cells == list(itertools.product(["coop", "kgcoop"], [1, 2], [1, 2, 3]))
    assert [run.id for run in grid.runs] == queued
    assert len(grid.waiting) == 12


def test_what_does_not_train_is_run_once(ws: Workspace, dataset_id: int, queued: list[str]) -> None:
    grid = submit_bench(ws, request(dataset_id, methods=["zero-shot"], shots=[1, 2, 4]))
    assert [(run.method, run.shots, run.seed) for run in grid.runs] == [("zero-shot", 0, 1)]


def test_resume_keeps_what_is_done_and_begins_the_rest(ws: Workspace, dataset_id: int, queued: list[str]) -> None:
    first = submit_bench(ws, request(dataset_id, methods=["coop"], shots=[1], seeds=[1, 2, 3]))
    done, running, failed = first.runs
    for run, state in ((done, JobState.DONE), (failed, JobState.FAILED)):
        with ws.session() as session:
            session.get_one(Run, run.id).state = state.value
            session.query(Job).filter_by(run_id=run.id).one().state = state
    again = submit_bench(ws, request(dataset_id, methods=["coop"], shots=[1], seeds=[1, 2, 3, 4]), resume=True)
    assert again.kept == 1
    assert [run.id for run in again.runs[:3]] == [done.id, running.id, failed.id]
    assert queued[3:] == [failed.id, again.runs[3].id]
    assert again.waiting[0] == first.waiting[1]
    afresh = submit_bench(ws, request(dataset_id, methods=["coop"], shots=[1]))
    assert afresh.kept == 0
    assert not {run.id for run in afresh.runs} & {run.id for run in again.runs}


def test_other_settings_are_another_cell(ws: Workspace, dataset_id: int, queued: list[str]) -> None:
    one = submit_bench(ws, request(dataset_id, methods=["coop"], shots=[1], seeds=[1]))
    with ws.session() as session:
        session.get_one(Run, one.runs[0].id).state = "done"
    other = request(dataset_id, methods=["coop"], shots=[1], seeds=[1], settings={"coop": {"n_ctx": 4}})
    assert submit_bench(ws, other, resume=True).kept == 0
    assert submit_bench(ws, request(dataset_id, methods=["coop"], shots=[1], seeds=[1]), resume=True).kept == 1


def test_all_methods_leaves_out_what_does_not_fit(ws: Workspace, dataset_id: int, queued: list[str]) -> None:
    grid = submit_bench(ws, request(dataset_id, methods=[], protocol="base-to-new", shots=[1], seeds=[1]))
    assert {"coop", "maple", "zero-shot"} <= {run.method for run in grid.runs}
    assert "linear-probe" not in {run.method for run in grid.runs}
    assert "cannot be used on others" in grid.refused["linear-probe"]


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        ({"methods": ["linear-probe"], "protocol": "base-to-new"}, ConfigError, "cannot be used on others"),
        ({"datasets": [999]}, DataError, "no longer exists"),
        ({"protocol": "cross-dataset"}, ConfigError, "Data sets to test on"),
        ({"protocol": "cross-dataset", "targets": [999]}, DataError, "to test on no longer exists"),
        ({"protocol": "domain-generalisation"}, DataError, "has no domain"),
        ({"protocol": "unsupervised"}, ConfigError, "learns from labels"),
        ({"settings": {"coop": {"n_ctx": -1}}}, ConfigError, "n_ctx"),
        ({"training": {"epochs": 0}}, ConfigError, "epochs"),
        ({"methods": ["copo"]}, ConfigError, "no method"),
    ],
)
def test_nothing_is_queued_where_something_does_not_fit(
    ws: Workspace, dataset_id: int, queued: list[str], values: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        submit_bench(ws, request(dataset_id, **values))
    assert queued == []


# --- the table ------------------------------------------------------------------------------------------------------


def cell(
    method: str, data: int, seed: int, summary: dict[str, Any], protocol: str = "few-shot", shots: int = 16
) -> Run:
    run = Run(name="", method=method, dataset_id=data, seed=seed, protocol=protocol, shots=shots, backbone="")
    run.summary, run.state = summary, "done"
    return run


def accuracy(value: float, zero_shot: float = 0.5) -> dict[str, Any]:
    return {"accuracy": value, "zero_shot": {"accuracy": zero_shot}}


def test_mean_and_deviation_over_seeds() -> None:
    runs = [cell("coop", 1, seed, accuracy(value)) for seed, value in ((1, 0.7), (2, 0.8), (3, 0.9))]
    table = make_table([*runs, cell("coop", 2, 1, accuracy(0.6, 0.4))], "few-shot", TITLES, DATA)
    assert table.columns == ["blood & bone", "textile_%", "Average"]
    assert table.lines() == [[READY_MADE, "50.0", "40.0", "45.0"], ["CoOp", "80.0 ± 8.2", "60.0", "70.0"]]


def test_harmonic_mean_is_of_the_averages() -> None:
    def halves(base: float, new: float) -> dict[str, Any]:
        own = {"base_accuracy": base, "new_accuracy": new, "harmonic_mean": 2 * base * new / (base + new)}
        return own | {"zero_shot": own}

    runs = [
        cell("coop", 1, 1, halves(0.9, 0.5), "base-to-new"),
        cell("coop", 1, 2, halves(0.7, 0.7), "base-to-new"),
        cell("coop", 2, 1, halves(0.4, 0.2), "base-to-new"),
    ]
    table = make_table(runs, "base-to-new", TITLES, DATA)
    both, average = (table.cell("CoOp", column, "harmonic_mean") for column in ("blood & bone", "Average"))
    assert both is not None
    assert average is not None
    assert both.mean == pytest.approx(2 * 0.8 * 0.6 / 1.4)
    assert average.mean == pytest.approx(2 * 0.6 * 0.4 / 1.0)
    assert both.std == pytest.approx((0.7 - 2 * 0.9 * 0.5 / 1.4) / 2)


def test_failed_cells_stay_empty_and_are_not_averaged() -> None:
    failed = cell("kgcoop", 2, 1, {})
    failed.state = "failed"
    runs = [cell("coop", 1, 1, accuracy(0.7)), cell("coop", 2, 1, accuracy(0.9)), cell("kgcoop", 1, 1, accuracy(0.8))]
    table = make_table([*runs, failed], "few-shot", TITLES, DATA)
    assert table.lines()[2] == ["KgCoOp", "80.0", "–", "–"]


def test_transfer_averages_targets_alone() -> None:
    summary = accuracy(0.9) | {"targets": {"a": accuracy(0.2), "b": accuracy(0.4)}}
    table = make_table([cell("coop", 1, 1, summary, "cross-dataset")], "cross-dataset", TITLES, DATA)
    assert table.columns == ["blood & bone (source)", "a", "b", "Average"]
    assert table.lines()[1] == ["CoOp", "90.0", "20.0", "40.0", "30.0"]


def test_held_out_domains_are_columns() -> None:
    runs = [
        cell("coop", 1, 1, accuracy(0.9) | {"targets": {site: accuracy(value)}}, "domain-generalisation")
        for site, value in (("Basel", 0.6), ("Leiden", 0.8))
    ]
    table = make_table(runs, "domain-generalisation", TITLES, {1: "slides"})
    assert table.lines()[1] == ["CoOp", "60.0", "80.0", "70.0"]


def test_formats_hold_the_same_numbers() -> None:
    runs = [cell("coop", d, s, accuracy(0.5 + 0.1 * d + 0.01 * s)) for d in (1, 2) for s in (1, 2)]
    table = make_table(runs, "few-shot", TITLES, DATA)
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert {(r["method"], r["data"]): float(r["mean"]) for r in rows}["CoOp", "Average"] == pytest.approx(0.665)
    assert "| CoOp | 61.5 ± 0.5 | 71.5 ± 0.5 | 66.5 |" in table.to_markdown()
    latex = table.to_latex()
    assert r"blood \& bone & textile\_\% & Average \\" in latex
    assert r"\textbf{61.5$\pm$0.5}" in latex


def test_several_numbers_of_images_are_rows() -> None:
    runs = [cell("coop", 1, 1, accuracy(0.1 * shots), shots=shots) for shots in (1, 2)]
    table = make_table([*runs, cell("zero-shot", 1, 1, accuracy(0.3), shots=0)], "few-shot", TITLES, DATA)
    assert table.rows == ["CoOp, 1 per class", "CoOp, 2 per class", "Zero-shot CLIP"]
