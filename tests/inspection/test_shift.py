"""Feature shift of runs: from training to the answer that pages read."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from app import cli
from app.commands import _inspect_shift
from engines import jobs
from engines.errors import Cancelled, ConfigError, DataError, PromptloupeError
from engines.inspection.shift import feature_shift
from engines.inspection.shift_answers import keep_shift, read_shift
from engines.inspection.shift_relation import shift_against_accuracy, spearman, surprise
from engines.jobs import JobContext, find_kind
from engines.runs import snapshots
from engines.runs.perform import Observer, perform
from engines.runs.request import TrainRequest, create_runs
from engines.store import Artifact, Job, LabelClass, Run, Workspace

SHORT = {"epochs": 3, "batch_size": 4}


def begin(ws: Workspace, dataset_id: int, method: str, seed: int = 1, **values: Any) -> Run:
    request = {"shots": 4, "seeds": [seed], "training": SHORT, "protocol": "base-to-new"} | values
    return create_runs(ws, TrainRequest(dataset_id=dataset_id, method=method, **request))[0]


def finish(ws: Workspace, run: Run, observer: Observer | None = None) -> Run:
    summary = perform(ws, run, observer or Observer())
    with ws.session() as session:
        done = session.get_one(Run, run.id)
        done.summary, done.state = summary, "done"
    return done


@pytest.fixture(scope="module")
def coop(ws: Workspace, dataset_id: int) -> Run:
    return finish(ws, begin(ws, dataset_id, "coop"))


@pytest.fixture(scope="module")
def maple(ws: Workspace, dataset_id: int) -> Run:
    return finish(ws, begin(ws, dataset_id, "maple", training={"epochs": 2, "batch_size": 8}))


@pytest.fixture
def fresh(ws: Workspace) -> None:
    """No answer of an earlier test."""
    for file in (ws.folder("inspections") / "shift").glob("*"):
        file.unlink()


def test_run_from_training_to_answer(ws: Workspace, coop: Run) -> None:
    answer = feature_shift(ws, coop.id)
    assert read_shift(ws, coop.id) == answer
    assert [row.name for row in answer.classes] == ["blue thing", "green thing", "grey thing", "red thing"]
    assert [row.group for row in answer.classes] == ["base", "base", "new", "new"]
    assert set(answer.groups) == {"all", "base", "new"}
    whole, base, new = (answer.groups[name] for name in ("all", "base", "new"))
    assert whole.images is not None
    assert whole.words is not None
    assert base.words is not None
    assert new.words is not None
    assert (whole.images.mean, whole.images.high, whole.images.count) == (0, 0, 24)
    assert whole.words.mean > 0
    assert whole.words.mean == pytest.approx((base.words.mean + new.words.mean) / 2)
    assert whole.words.mean == pytest.approx(np.mean([row.words for row in answer.classes]))
    assert whole.words.low <= whole.words.mean <= whole.words.high
    assert answer.block_gap is not None
    assert answer.image_blocks is not None
    assert all(each.mean == 0 for each in answer.image_blocks)
    assert "left the images where they were" in answer.sentences[0]
    assert len(answer.samples) == 24
    assert {row.class_position for row in answer.samples} == {0, 1, 2, 3}


def test_course_begins_at_the_sentence_and_ends_at_the_prompt(ws: Workspace, coop: Run) -> None:
    answer = feature_shift(ws, coop.id)
    assert [moment.epoch for moment in answer.trajectory] == [0, 1, 2, 3]
    start, *_, end = answer.trajectory
    assert start.words == pytest.approx(0, abs=1e-9)  # CoOp begins as “a photo of a” in this protocol
    whole = answer.groups["all"]
    assert whole.words is not None
    assert whole.gap is not None
    assert (end.words, end.gap, end.images) == pytest.approx((whole.words.mean, whole.gap.mean, 0))
    with ws.session() as session:
        (kept,) = session.query(Artifact).filter_by(run_id=coop.id, kind="snapshots")
    assert ws.resolve(kept.path).stat().st_size == kept.size


def test_both_towers(ws: Workspace, maple: Run) -> None:
    answer = feature_shift(ws, maple.id, images=10, seed=3)
    assert len(answer.samples) == 10
    shifts = [row.shift for row in answer.samples]
    assert shifts == sorted(shifts, reverse=True)
    assert answer.image_blocks is not None
    assert answer.text_blocks is not None
    assert answer.block_gaps is not None
    gaps = [abs(v.mean - t.mean) for v, t in zip(answer.image_blocks, answer.text_blocks, strict=False)]
    assert [gap.mean for gap in answer.block_gaps] == pytest.approx(gaps)
    assert answer.block_gap is not None
    assert answer.block_gap.mean == pytest.approx(np.mean(gaps))
    assert any(row.direction is not None and -1 <= row.direction <= 1 for row in answer.classes)
    assert len(answer.trajectory) == 3


def test_answer_is_given_again(ws: Workspace, coop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = feature_shift(ws, coop.id)

    def never(name: str) -> None:
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr("engines.inspection.shift.load_backbone", never)
    assert feature_shift(ws, coop.id) == answer
    with pytest.raises(AssertionError):
        feature_shift(ws, coop.id, images=5)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("when", [0, 1, 4])
def test_cancelled_leaves_nothing(ws: Workspace, coop: Run, when: int) -> None:
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked > when:
            raise Cancelled

    with pytest.raises(Cancelled):
        feature_shift(ws, coop.id, check_cancelled=stop)
    assert read_shift(ws, coop.id) is None
    assert not list(ws.folder("inspections").rglob("*.*"))


def test_ready_made_has_moved_nothing(ws: Workspace, dataset_id: int) -> None:
    run = finish(ws, begin(ws, dataset_id, "zero-shot", protocol="few-shot", shots=0))
    answer = feature_shift(ws, run.id)
    assert set(answer.groups) == {"all"}
    assert all(row.words == 0 and row.direction is None and row.group == "" for row in answer.classes)
    assert all(row.shift == 0 for row in answer.samples)
    assert answer.sentences == [
        "Zero-shot CLIP moved neither images nor words: both are as the untouched model sees them."
    ]
    assert "does not learn in passes" in answer.trajectory_reason
    assert not answer.trajectory


@pytest.mark.usefixtures("fresh")
def test_damaged_snapshots_cost_the_course_alone(ws: Workspace, coop: Run) -> None:
    file = ws.path / "runs" / coop.id / snapshots.FILE
    whole = file.read_bytes()
    try:
        for images, left in enumerate([None, whole[: len(whole) // 2], b"no tensors", b""], start=20):
            file.unlink() if left is None else file.write_bytes(left)
            answer = feature_shift(ws, coop.id, images)
            assert answer.trajectory == []
            assert "Train it again" in answer.trajectory_reason
            assert answer.groups["all"].words is not None
    finally:
        file.write_bytes(whole)


def test_what_cannot_be_looked_into_is_told(ws: Workspace, dataset_id: int, coop: Run) -> None:
    with pytest.raises(ConfigError, match="not finished"):
        feature_shift(ws, begin(ws, dataset_id, "coop", seed=9).id)
    with pytest.raises(ConfigError, match="no such run"):
        feature_shift(ws, "nothing")
    with pytest.raises(ConfigError, match="Choose 1 to 512"):
        feature_shift(ws, coop.id, images=0)
    with ws.session() as session:
        session.query(LabelClass).filter_by(name="blue thing").one().name = "navy thing"
    try:
        with pytest.raises(DataError, match="classes of the data set have changed"):
            feature_shift(ws, coop.id, images=7)
    finally:
        with ws.session() as session:
            session.query(LabelClass).filter_by(name="navy thing").one().name = "blue thing"


# --- moments of a training ------------------------------------------------------


def test_a_resumed_training_keeps_the_same_moments(ws: Workspace, dataset_id: int) -> None:
    calm, hurt = (begin(ws, dataset_id, "coop", seed=3, training={"epochs": 6, "batch_size": 4}) for _ in range(2))
    finish(ws, calm)

    def killed(fraction: float, message: str) -> None:
        if message.startswith("Training, step 9 "):  # in the middle of the fifth pass
            raise Cancelled

    with pytest.raises(Cancelled):
        finish(ws, hurt, Observer(progress=killed))
    assert list(snapshots.read(ws.path / "runs" / hurt.id / snapshots.FILE)) == [0, 1, 2, 3, 4]
    finish(ws, hurt)
    one, other = (snapshots.read(ws.path / "runs" / run.id / snapshots.FILE) for run in (calm, hurt))
    assert list(one) == list(other) == [0, 1, 2, 3, 4, 5]
    for epoch, tensors in one.items():
        assert all(tensor.equal(other[epoch][name]) for name, tensor in tensors.items())
    assert not one[5]["ctx"].equal(one[4]["ctx"])


@pytest.mark.parametrize(
    ("method", "moments"), [("promptkd", [1, 2]), ("tfup-t", [0, 1, 2]), ("restore", [0, 1, 2]), ("gram", [0, 1, 2])]
)
def test_course_of_methods_that_learn_more_than_prompts(
    ws: Workspace, dataset_id: int, method: str, moments: list[int]
) -> None:
    """A projector that is there from the first step on, a memory, surgery that grows, a rehearsal."""
    settings = {"settings": {"episodes": 2}} if method == "gram" else {}
    run = finish(ws, begin(ws, dataset_id, method, training={"epochs": 2, "batch_size": 16}, **settings))
    answer = feature_shift(ws, run.id, images=12)
    assert [moment.epoch for moment in answer.trajectory] == moments
    assert ("left out" in answer.trajectory_reason) == (method == "promptkd")
    whole = answer.groups["all"]
    assert whole.images is not None
    assert whole.words is not None
    end = answer.trajectory[-1]
    assert (end.images, end.words) == pytest.approx((whole.images.mean, whole.words.mean))
    assert end != answer.trajectory[-2]


@given(st.integers(1, 500), st.integers(1, 40 * 2**20))
def test_moments_are_few_and_fit(epochs: int, each: int) -> None:
    chosen = snapshots.moments(epochs, each)
    assert len(chosen) * each <= snapshots.LIMIT
    assert len(chosen) <= snapshots.MOST
    assert chosen == sorted(set(chosen))
    assert not chosen or (chosen[0] == 0 and chosen[-1] < epochs)


@pytest.mark.usefixtures("fresh")
def test_large_methods_are_not_kept(ws: Workspace, dataset_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "LIMIT", 100)
    run = finish(ws, begin(ws, dataset_id, "coop", seed=7, training={"epochs": 2}))
    assert not (ws.path / "runs" / run.id / snapshots.FILE).exists()
    answer = feature_shift(ws, run.id)
    assert "one moment takes" in answer.trajectory_reason
    assert answer.trajectory == []


# --- several runs -----------------------------------------------------------------


pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=20)


@given(pairs)
def test_rank_correlation_equals_scipy(values: list[tuple[int, int]]) -> None:
    x, y = zip(*values, strict=True)
    found = spearman(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(x, y).statistic)


def test_surprise_is_the_permutation_test() -> None:
    # Of the 120 orders of five, this one and its mirror alone are as extreme: p = 2 / 120.
    assert surprise(range(5), range(5)) == pytest.approx(2 / 120, abs=0.006)
    assert surprise([1, 2, 3, 4, 5], [2, 5, 1, 4, 3]) > 0.3


def made_up(ws: Workspace, answer: Any, gap: float, new: float) -> str:
    """A finished run with this gap and this accuracy on new classes."""
    with ws.session() as session:
        run = Run(name="Made up", backbone="mini-clip", method="coop", protocol="base-to-new", state="done")
        run.summary = {"accuracy": 0.9, "base_accuracy": 0.9, "new_accuracy": new}
        run.summary["zero_shot"] = {"accuracy": 0.5, "new_accuracy": 0.5}
        session.add(run)
        session.flush()
        run_id = run.id
    whole = answer.groups["all"]
    moved = replace(whole, gap=replace(whole.gap, mean=gap))
    keep_shift(ws, replace(answer, run_id=run_id, groups={"all": moved}, block_gap=None))
    return run_id


def test_gap_against_accuracy(ws: Workspace, coop: Run) -> None:
    answer = feature_shift(ws, coop.id)
    told = [(0.1, 0.8), (0.2, 0.7), (0.3, 0.75), (0.4, 0.5), (0.5, 0.4), (0.6, 0.3)]
    runs = [made_up(ws, answer, *each) for each in told]
    relation = shift_against_accuracy(ws, [*runs, "unknown"])
    assert relation.missing == ["unknown"]
    assert relation.measure == "new classes"
    assert relation.rho == pytest.approx(spearmanr(*zip(*told, strict=True)).statistic)
    assert relation.rho is not None
    assert relation.rho_difference == pytest.approx(-relation.rho)  # base accuracy is the same in all
    assert (relation.count, relation.rho_blocks, relation.count_blocks) == (6, None, 0)
    assert [point.over_ready_made for point in relation.points] == pytest.approx([new - 0.5 for _, new in told])
    assert "less accuracy on new classes" in relation.sentence
    assert "differ by the seed alone" not in relation.sentence
    with ws.session() as session:
        for run_id in runs[:2]:
            session.get_one(Run, run_id).experiment = "one"
    assert "differ by the seed alone" in shift_against_accuracy(ws, runs).sentence
    few = shift_against_accuracy(ws, runs[:4])
    assert few.rho is None
    assert len(few.points) == 4
    assert "fewer than 5" in few.sentence
    assert shift_against_accuracy(ws, []).points == []


def test_runs_without_new_classes_are_left_out(ws: Workspace, coop: Run) -> None:
    answer = feature_shift(ws, coop.id)
    runs = [made_up(ws, answer, 0.1 * place, 0.9 - 0.1 * place) for place in range(1, 7)]
    with ws.session() as session:
        for run_id in runs[:1]:
            run = session.get_one(Run, run_id)
            run.summary = {key: value for key, value in run.summary.items() if not key.startswith(("base", "new"))}
    relation = shift_against_accuracy(ws, runs)
    assert (relation.measure, relation.count) == ("new classes", 5)
    assert relation.missing == []
    assert "1 run was not tested on new classes and left out" in relation.sentence
    alone = shift_against_accuracy(ws, runs[:1])
    assert (alone.measure, alone.points[0].accuracy) == ("test images", 0.9)


# --- job and command ----------------------------------------------------------------


@pytest.mark.usefixtures("fresh")
def test_job_looks_into_each_run(ws: Workspace, coop: Run, maple: Run, dataset_id: int) -> None:
    open_run = begin(ws, dataset_id, "coop", seed=11)
    kind = find_kind("inspect_shift")
    result = kind.run(JobContext(ws), kind.parse({"run_ids": [coop.id, open_run.id, maple.id], "images": 8}))
    assert result["done"] == [coop.id, maple.id]
    assert "not finished" in result["failed"][open_run.id]
    assert read_shift(ws, maple.id) is not None
    with pytest.raises(ConfigError, match="not finished"):
        kind.run(JobContext(ws), kind.parse({"run_ids": [open_run.id]}))
    with pytest.raises(PromptloupeError, match="None of these runs"):
        kind.run(JobContext(ws), kind.parse({"run_ids": [open_run.id, "nothing"]}))


@pytest.fixture
def say(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """say("inspect", "shift", …) -> what was printed; the job is carried out in this process."""
    monkeypatch.setenv("PROMPTLOUPE_WORKSPACE", str(ws.path))
    monkeypatch.setenv("COLUMNS", "200")
    results: dict[str, Any] = {}

    def submit(workspace: Workspace, kind: str, payload: dict[str, Any]) -> str:
        known = find_kind(kind)
        results[kind] = known.run(JobContext(workspace), known.parse(payload))
        return kind

    monkeypatch.setattr(jobs, "submit", submit)
    monkeypatch.setattr(_inspect_shift, "wait", lambda ws, ids, quiet: [Job(result=results[ids[0]])])

    def run(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["promptloupe", "inspect", "shift", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out, said.err

    return run


def test_command(ws: Workspace, coop: Run, maple: Run, say: Callable[..., Any], tmp_path: Path) -> None:
    said, _ = say(coop.id)
    answer = read_shift(ws, coop.id)
    assert answer is not None
    assert said.splitlines()[0].startswith("CoOp moved the words by ")
    assert "blue thing" in said
    assert "left the images where they were" in said
    file = tmp_path / "shift.csv"
    told = json.loads(say(coop.id, maple.id, "--json", "--csv", str(file))[0])
    assert [each["run_id"] for each in told["runs"]] == [coop.id, maple.id]
    assert told["relation"]["rho"] is None
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    assert len(rows) == 8
    assert float(rows[0]["words"]) == answer.classes[0].words
    said, _ = say(coop.id, maple.id)
    assert said.splitlines()[0].startswith("Both is known of 2 runs")
