"""Reading runs: experiments over seeds, curves, answers image by image, the bin."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.store import Job, JobState, Run, Workspace
from engines.store.answers import answers
from engines.store.run_queries import (
    MOST_POINTS,
    curves,
    experiment,
    experiments,
    metrics_stamp,
    move_to_bin,
    put_back,
    runs_by_id,
    runs_stamp,
    training_jobs,
    unfinished_runs,
)
from tests.app.made_up import add_base_to_new, add_metrics, add_run, make_workspace


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "clinic")


def test_seeds_of_an_experiment_are_averaged(ws: Workspace) -> None:
    add_run(ws, seed=1, wrong={0: 1, 1: 1})  # 18 of 20
    add_run(ws, seed=2, wrong={0: 1, 1: 1, 2: 1, 3: 1})  # 16 of 20
    (found,) = experiments(ws)
    assert found.score == pytest.approx(0.85)
    assert found.spread == pytest.approx(0.05)
    assert found.zero_shot == pytest.approx(0.5)
    assert [line.seed for line in found.lines] == [1, 2]
    assert (found.dataset, found.state) == ("cells", "done")


def test_one_seed_has_no_spread(ws: Workspace) -> None:
    add_run(ws)
    assert experiments(ws)[0].spread is None


def test_of_a_seed_that_was_run_twice_the_newer_result_counts(ws: Workspace) -> None:
    old = add_run(ws, wrong={0: 1})
    new = add_run(ws, hours=1)
    (found,) = experiments(ws)
    assert [line.id for line in found.lines] == [new]
    assert found.score == 1.0
    assert set(found.all_ids) == {old, new}


def test_a_result_is_not_hidden_by_a_later_failure(ws: Workspace) -> None:
    good = add_run(ws)
    add_run(ws, hours=1, state="failed")
    assert [line.id for line in experiments(ws)[0].lines] == [good]


def test_a_seed_at_work_shows_before_its_older_result(ws: Workspace) -> None:
    add_run(ws)
    running = add_run(ws, hours=1, state="running")
    found = experiments(ws)[0]
    assert [line.id for line in found.lines] == [running]
    assert found.state == "running"


def test_experiments_come_newest_first(ws: Workspace) -> None:
    add_run(ws, experiment="old")
    add_run(ws, experiment="new", hours=2)
    add_run(ws, experiment="", hours=1)
    assert [each.key for each in experiments(ws)][::2] == ["new", "old"]


def test_of_both_kinds_of_classes_the_harmonic_mean_counts(ws: Workspace) -> None:
    add_base_to_new(ws)
    assert experiments(ws)[0].score == pytest.approx(2 * 0.9 * 0.5 / 1.4)


def test_an_accuracy_over_no_images_breaks_no_list(ws: Workspace) -> None:
    run_id = add_run(ws)
    with ws.session() as session:
        session.get_one(Run, run_id).summary = {"accuracy": float("nan"), "images": 0, "zero_shot": {"accuracy": 0.5}}
    found = experiments(ws)[0]
    assert (found.score, found.zero_shot) == (None, 0.5)


def test_bin_and_back(ws: Workspace) -> None:
    run_id = add_run(ws)
    before = runs_stamp(ws)
    assert move_to_bin(ws, [run_id]) == 1
    assert experiments(ws) == []
    assert experiment(ws, "first") is None
    assert runs_by_id(ws, [run_id]) == []
    assert [each.key for each in experiments(ws, deleted=True)] == ["first"]
    assert runs_stamp(ws) != before
    assert put_back(ws, [run_id]) == 1
    assert [run.id for run in runs_by_id(ws, [run_id])] == [run_id]
    assert runs_stamp(ws) == before


def test_only_the_experiment_started_last_is_unfinished(ws: Workspace) -> None:
    add_run(ws, experiment="old", state="queued")
    second = add_run(ws, experiment="new", state="queued", seed=2, hours=1)
    first = add_run(ws, experiment="new", state="running", seed=1, hours=1)
    assert unfinished_runs(ws) == [first, second]


def test_the_newest_job_of_a_run_counts(ws: Workspace) -> None:
    run_id = add_run(ws, state="failed")
    with ws.session() as session:
        session.add(Job(kind="train", run_id=run_id, state=JobState.FAILED))
    with ws.session() as session:
        again = Job(kind="train", run_id=run_id)
        session.add(again)
        session.flush()
    assert training_jobs(ws, [run_id])[run_id].id == again.id


def test_curves_keep_their_ends_when_thinned(ws: Workspace) -> None:
    run_id = add_run(ws)
    add_metrics(ws, run_id, "loss", [1 / n for n in range(1, 1001)])
    add_metrics(ws, run_id, "learning_rate", [0.1])
    points = curves(ws, [run_id], ["loss"])
    assert set(points) == {(run_id, "loss")}
    found = points[run_id, "loss"]
    assert len(found) <= MOST_POINTS + 1
    assert found[0] == (1, 1.0)
    assert found[-1] == (1000, 0.001)


def test_the_stamp_changes_with_new_metrics(ws: Workspace) -> None:
    run_id = add_run(ws)
    before = metrics_stamp(ws, [run_id])
    add_metrics(ws, run_id, "loss", [0.5])
    assert metrics_stamp(ws, [run_id]) != before


def test_wrong_answers_come_with_the_surest_first(ws: Workspace) -> None:
    run_id = add_run(ws, wrong={7: 0, 2: 3, 12: 1})
    page = answers(ws, run_id)
    assert page.total == 3
    assert [(a.sample.position, a.true, a.predicted) for a in page.answers] == [(2, 0, 3), (7, 1, 0), (12, 2, 1)]
    assert page.answers[0].probability == pytest.approx(0.898)
    assert page.answers[0].top[0] == (3, pytest.approx(0.898))


def test_a_cell_of_the_confusion_matrix_has_its_images(ws: Workspace) -> None:
    run_id = add_run(ws, wrong={7: 0, 2: 3})
    assert [a.sample.position for a in answers(ws, run_id, true=1, predicted=0).answers] == [7]
    right = answers(ws, run_id, true=0, predicted=0)
    assert right.total == 4
    assert all(a.true == a.predicted == 0 for a in right.answers)


def test_answers_can_be_kept_to_some_classes(ws: Workspace) -> None:
    run_id = add_run(ws, wrong={7: 0, 2: 3, 12: 1})
    assert [a.true for a in answers(ws, run_id, among=[0, 1]).answers] == [0, 1]
    assert answers(ws, run_id, true=2, predicted=1, among=[0, 1]).total == 0


def test_answers_are_paged_and_never_beyond_the_end(ws: Workspace) -> None:
    run_id = add_run(ws, wrong={place: (place // 5 + 1) % 4 for place in range(10)})
    assert [a.sample.position for a in answers(ws, run_id, first=4, limit=4).answers] == [4, 5, 6, 7]
    last = answers(ws, run_id, first=400, limit=4)
    assert (last.first, [a.sample.position for a in last.answers]) == (8, [8, 9])


def test_a_run_without_answers_and_a_wrong_id_have_none(ws: Workspace) -> None:
    assert answers(ws, add_run(ws, state="failed")).total == 0
    assert answers(ws, "../../etc").total == 0
