"""Simulated labelling: what is drawn, what every round costs, and what a kill leaves."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from engines.data import ImportRequest, import_dataset
from engines.errors import Cancelled, ConfigError, DataError, PromptloupeError
from engines.runs import simulate as loop
from engines.runs import simulate_grid as grid
from engines.runs.perform import Observer
from engines.runs.simulate import evenness, imbalance_ratio, simulate
from engines.runs.simulate_grid import Cell, SimulationRequest, check_simulation, submit_simulation
from engines.runs.simulate_stage import long_tail, set_up
from engines.runs.simulate_table import ZERO_SHOT, make_table
from engines.store import Dataset, Job, JobState, Sample, Workspace

FAST = {"epochs": 2}


def request(dataset_id: int, **values: Any) -> SimulationRequest:
    basis = {"dataset_id": dataset_id, "strategies": ["entropy"], "rounds": 3, "budget": 4, "training": FAST}
    return SimulationRequest(**(basis | values))


def cell(ws: Workspace, dataset_id: int, folder: str, **values: Any) -> Cell:
    """The cell of `entropy` with balancing and seed 1, where `values` say nothing else."""
    chosen = {"strategy": "entropy", "balanced": True, "seed": 1} | {
        name: values.pop(name) for name in ("strategy", "balanced", "seed") if name in values
    }
    return Cell(simulation=check_simulation(ws, request(dataset_id, **values)), folder=folder, **chosen)


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    return found | {"rows": [{k: v for k, v in row.items() if k != "seconds"} for row in found["rows"]]}


# --- what is drawn ------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=8),
    imbalance=st.floats(1, 50),
    seed=st.integers(0, 2**31 - 1),
)
def test_long_tail(sizes: list[int], imbalance: float, seed: int) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    samples = [10 * place for place in range(len(labels))]
    kept = long_tail(samples, labels, imbalance, seed)
    assert kept == sorted(set(kept))
    assert set(kept) <= set(samples)
    assert kept == long_tail(samples, labels, imbalance, seed)
    counts = Counter(labels[sample // 10] for sample in kept)
    assert set(counts) == set(range(len(sizes)))
    largest, rarest = max(counts.values()), min(counts.values())
    assert largest <= imbalance * (rarest + 0.5) + 0.5
    if rarest > 1:
        assert largest >= imbalance * (rarest - 0.5) - 0.5


def test_a_long_tail_falls_evenly() -> None:
    labels = [label for label in range(5) for _ in range(81)]
    kept = long_tail(range(405), labels, 81, seed=3)
    assert sorted(Counter(labels[sample] for sample in kept).values()) == [1, 3, 9, 27, 81]
    ranks = {tuple(Counter(labels[s] for s in long_tail(range(405), labels, 81, n)).items()) for n in range(8)}
    assert len(ranks) > 1, "another seed makes another class rare"


@given(st.lists(st.integers(0, 30), min_size=2, max_size=9))
def test_evenness(counts: list[int]) -> None:
    value = evenness(counts)
    assert -1e-9 <= value <= 1 + 1e-9
    assert value == pytest.approx(evenness(counts[::-1]))
    if sum(counts):
        assert math.isclose(value, 1, abs_tol=1e-9) == (len(set(counts)) == 1)
        assert math.isclose(value, 0, abs_tol=1e-9) == (sum(n > 0 for n in counts) == 1)
    assert imbalance_ratio(counts) == (None if 0 in counts else max(counts) / min(counts))


def test_the_test_images_stay_as_they_are(ws: Workspace, dataset_id: int) -> None:
    even, tail = (set_up(ws, dataset_id, imbalance, seed=1) for imbalance in (1.0, 8.0))
    assert even.test == tail.test
    assert len(even.test) == 24
    assert len(even.pool) == 32
    counts = Counter(tail.labels[sample] for sample in tail.pool)
    assert max(counts.values()) == 8
    assert min(counts.values()) == 1
    assert not even.set_aside


def test_without_test_images_some_are_set_aside_by_group(shapes: Path, tmp_path: Path) -> None:
    own = Workspace.open(tmp_path / "clinic")
    import_dataset(own, ImportRequest(source=str(shapes)))
    with own.session() as session:
        session.execute(update(Sample).values(split="train"))
        seen: Counter[int | None] = Counter()
        for sample in session.query(Sample):
            sample.group = f"patient {seen[sample.class_id] // 2} of {sample.class_id}"
            seen[sample.class_id] += 1
        dataset = session.query(Dataset).one().id
        groups = {sample.id: sample.group for sample in session.query(Sample)}
    stage, again = set_up(own, dataset, 1.0, seed=1), set_up(own, dataset, 4.0, seed=2)
    assert stage.set_aside
    assert stage.test == again.test
    assert len(stage.pool) + len(stage.test) == 56
    assert not {groups[s] for s in stage.test} & {groups[s] for s in stage.pool}
    counts = Counter(stage.labels[sample] for sample in stage.test)
    assert list(counts.values()) == [6] * 4, "a third of 14 images, two of a patient at a time"
    own.close()


# --- rounds -------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["random", "entropy", "margin", "coreset", "badge"])
@pytest.mark.parametrize("balanced", [False, True])
def test_rounds_keep_the_budget(ws: Workspace, dataset_id: int, tmp_path: Path, strategy: str, balanced: bool) -> None:
    asked = cell(ws, dataset_id, str(tmp_path), strategy=strategy, balanced=balanced, imbalance=4, budget=3)
    found = simulate(ws, asked, Observer())
    assert [len(part) for part in found["picks"]] == [3, 3, 3]
    labelled = [sample for part in found["picks"] for sample in part]
    assert len(set(labelled)) == 9
    stage = set_up(ws, dataset_id, 4, 1)
    assert set(labelled) <= set(stage.pool)
    for number, row in enumerate(found["rows"]):
        counts = Counter(stage.labels[sample] for sample in labelled[: 3 * (number + 1)])
        assert row["labelled"] == 3 * (number + 1)
        assert row["counts"] == [counts[place] for place in range(4)]
        assert row["evenness"] == pytest.approx(evenness(row["counts"]))
        assert row["missing"] == 4 - len(counts)
        assert 0 <= row["accuracy"] <= 1
    assert found["images_tested"] == 24


def test_seeds_reproduce_and_strategies_begin_alike(ws: Workspace, dataset_id: int, tmp_path: Path) -> None:
    one = simulate(ws, cell(ws, dataset_id, str(tmp_path / "a")), Observer())
    again = simulate(ws, cell(ws, dataset_id, str(tmp_path / "b")), Observer())
    assert without_times(one) == without_times(again)
    other = simulate(ws, cell(ws, dataset_id, str(tmp_path / "a"), strategy="random", balanced=False), Observer())
    assert other["picks"][0] == one["picks"][0]
    assert without_times(other)["rows"][0] == without_times(one)["rows"][0]
    third = simulate(ws, cell(ws, dataset_id, str(tmp_path / "a"), seed=2), Observer())
    assert third["picks"][0] != one["picks"][0]


def test_a_warm_start_goes_on_from_the_round_before(
    ws: Workspace, dataset_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    plain = loop.create_method

    def create(name: str, *rest: Any, **named: Any) -> Any:
        made.append(name)
        return plain(name, *rest, **named)

    monkeypatch.setattr(loop, "create_method", create)
    simulate(ws, cell(ws, dataset_id, str(tmp_path / "warm"), start="warm"), Observer())
    assert made.count("coop") == 1
    made.clear()
    simulate(ws, cell(ws, dataset_id, str(tmp_path / "fresh")), Observer())
    assert made.count("coop") == 3


@pytest.mark.parametrize("training", [{"views": 2, "augmentation": "crops"}, {"views": 0, "augmentation": "crops"}])
def test_training_views(ws: Workspace, dataset_id: int, tmp_path: Path, training: dict[str, Any]) -> None:
    plain = simulate(ws, cell(ws, dataset_id, str(tmp_path / "plain"), rounds=1), Observer())
    asked = cell(ws, dataset_id, str(tmp_path / "views"), rounds=1, training=FAST | training)
    assert simulate(ws, asked, Observer())["picks"] == plain["picks"]


# --- kills --------------------------------------------------------------------


@pytest.mark.parametrize("start", ["fresh", "warm"])
def test_a_cell_that_was_stopped_goes_on(
    ws: Workspace, dataset_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    calm = simulate(ws, cell(ws, dataset_id, str(tmp_path / "calm"), start=start), Observer())
    hurt = cell(ws, dataset_id, str(tmp_path / "hurt"), start=start)
    trained: list[int] = []
    plain = loop.train

    def train(method: Any, examples: Any, *rest: Any, **named: Any) -> Any:
        trained.append(len(examples.labels))
        if trained == [4, 8]:
            raise Cancelled
        return plain(method, examples, *rest, **named)

    monkeypatch.setattr(loop, "train", train)
    with pytest.raises(Cancelled):
        simulate(ws, hurt, Observer())
    assert hurt.result(ws) is None, "what is not finished does not count"
    assert without_times(simulate(ws, hurt, Observer())) == without_times(calm)
    assert trained == ([4, 8, 8, 12] if start == "fresh" else [4, 8, 4, 8, 12])
    assert hurt.result(ws) is not None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"rows": 3, "picks": []}', '{"rows": [], "picks": [[987654]]}'])
def test_a_damaged_file_is_begun_anew(ws: Workspace, dataset_id: int, tmp_path: Path, damage: str) -> None:
    asked = cell(ws, dataset_id, str(tmp_path), rounds=2)
    asked.file(ws).parent.mkdir(parents=True)
    asked.file(ws).write_text(damage)
    assert asked.result(ws) is None
    assert len(simulate(ws, asked, Observer())["rows"]) == 2


# --- the grid -----------------------------------------------------------------


@pytest.fixture
def queued(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Cells that were given a job; no worker is started."""
    given: list[Cell] = []

    def submit(workspace: Workspace, kind: str, payload: Cell) -> str:
        given.append(payload)
        job = Job(id=f"job{len(given)}", kind=kind, title=payload.title, payload=payload.model_dump(mode="json"))
        with workspace.session() as session:
            session.add(job)
        return job.id

    monkeypatch.setattr(grid.jobs, "submit", submit)
    with ws.session() as session:
        session.query(Job).delete()
    return given


def test_every_cell_is_a_job_and_resume_repeats_nothing(ws: Workspace, dataset_id: int, queued: list[Cell]) -> None:
    asked = request(dataset_id, strategies=["random", "entropy"], seeds=[1, 2], rounds=2, settings={"n_ctx": 5})
    first = submit_simulation(ws, asked)
    assert [(c.strategy, c.balanced, c.seed) for c in first.cells] == [
        (s, b, n) for n in (1, 2) for s in ("random", "entropy") for b in (False, True)
    ]
    assert queued == first.cells
    assert submit_simulation(ws, asked).waiting == first.waiting, "what waits already is not queued twice"
    with ws.session() as session:
        session.execute(update(Job).values(state=JobState.FAILED))
    simulate(ws, queued[0], Observer())
    again = submit_simulation(ws, asked, resume=True)
    assert again.kept == 1
    assert len(again.waiting) == 7
    assert [found["seed"] for found in again.results(ws)] == [1]
    with ws.session() as session:
        session.execute(update(Job).values(state=JobState.FAILED))
    more = submit_simulation(ws, request(**(asked.model_dump() | {"seeds": [1, 2, 3]})), resume=True)
    assert more.kept == 1, "further seeds belong to the same simulation"
    other = submit_simulation(ws, asked.model_copy(update={"rounds": 3}), resume=True)
    assert other.kept == 0, "other settings are another simulation"
    with ws.session() as session:
        session.execute(update(Job).values(state=JobState.FAILED))
    assert submit_simulation(ws, asked).results(ws) == [], "without resume everything is done anew"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"strategies": ["guess"]}, "no strategy called “guess”"),
        ({"method": "copo"}, "no method called"),
        ({"method": "maple"}, "how images are seen"),
        ({"method": "zero-shot"}, "nothing to simulate"),
        ({"settings": {"n_ctx": 0}}, "n_ctx"),
        ({"training": {"epochs": "many"}}, "epochs"),
        ({"budget": 20}, "need 60 images, but there are 32"),
        ({"imbalance": 8, "budget": 6}, "less imbalance"),
        ({"dataset_id": 999}, "no longer exists"),
    ],
)
def test_bad_requests_queue_nothing(
    ws: Workspace, dataset_id: int, queued: list[Cell], values: dict[str, Any], said: str
) -> None:
    with pytest.raises(PromptloupeError, match=said):
        submit_simulation(ws, request(**({"dataset_id": dataset_id} | values)))
    assert queued == []


@pytest.mark.parametrize(
    "values",
    [
        {"rounds": 0},
        {"budget": -1},
        {"imbalance": 0.5},
        {"seeds": []},
        {"seeds": [-1]},
        {"strategies": []},
        {"start": "cold"},
        {"rule": "none"},
    ],
)
def test_values_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        request(1, **values)


def test_a_data_set_without_labels(ws: Workspace, shapes: Path, tmp_path: Path) -> None:
    own = Workspace.open(tmp_path / "clinic")
    import_dataset(own, ImportRequest(source=str(shapes)))
    with own.session() as session:
        session.execute(update(Sample).values(class_id=None))
        dataset = session.query(Dataset).one().id
    with pytest.raises(DataError, match="too few labels"):
        check_simulation(own, request(dataset))
    own.close()


def test_budget_is_the_number_of_classes_where_left_out(ws: Workspace, dataset_id: int) -> None:
    assert check_simulation(ws, request(dataset_id, budget=0)).budget == 4


def test_no_training_setting_is_left_open(ws: Workspace, dataset_id: int) -> None:
    """What a cell was trained with must not change with the program's defaults."""
    with pytest.raises(ConfigError):
        check_simulation(ws, request(dataset_id, training={"passes": 3}))
    training = check_simulation(ws, request(dataset_id, training={})).training
    assert training["augmentation"] == "none"
    assert training["views"] == 1
    assert training["learning_rate"] == 0.002


# --- tables -------------------------------------------------------------------


def result(strategy: str, balanced: bool, seed: int, accuracies: list[float], ratio: float | None) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {"labelled": 4 * (number + 1), "accuracy": value, "class_accuracy": value, "evenness": value / 2}
        | {"ratio": ratio, "missing": 0}
        for number, value in enumerate(accuracies)
    ]
    ready_made = {"accuracy": 0.5, "class_accuracy": 0.4}
    return {"strategy": strategy, "balanced": balanced, "seed": seed, "rows": rows, "zero_shot": ready_made}


def name(strategy: str, balanced: bool) -> str:
    return f"{strategy} + PCB" if balanced else strategy


def test_table() -> None:
    results = [
        result("entropy", False, 1, [0.5, 0.6], 2.0),
        result("entropy", False, 2, [0.5, 0.8], None),
        result("entropy", True, 1, [0.5, 0.9], None),
        result("entropy", True, 2, [0.5, 0.9], None),
    ]
    table = make_table(results, name)
    assert table.lines("accuracy") == [
        [ZERO_SHOT, "50.0", "50.0"],
        ["entropy", "50.0 ± 0.0", "70.0 ± 10.0"],
        ["entropy + PCB", "50.0 ± 0.0", "90.0 ± 0.0"],
    ]
    assert table.lines("ratio") == [["entropy", "2.00", "2.00"], ["entropy + PCB", "–", "–"]]
    header, lines = table.side_by_side()
    assert len(header) == 7
    assert lines[0][:4] == ["entropy", "70.0 ± 10.0", "90.0 ± 0.0", "+20.0 ± 10.0"]
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    last = {(r["balanced"], r["measure"]): r for r in rows if r["round"] == "2"}
    assert float(last["0", "accuracy"]["mean"]) == pytest.approx(0.7)
    assert float(last["0", "accuracy"]["std"]) == pytest.approx(0.1)
    assert last["0", "ratio"]["seeds"] == "1"
    assert ("1", "ratio") not in last
    assert "| entropy + PCB | 50.0 ± 0.0 | 90.0 ± 0.0 |" in table.to_markdown()
    data = json.loads(json.dumps(table.as_data()))
    gains = {each["measure"]: each["mean"] for each in data["gains"]}
    assert gains["accuracy"] == pytest.approx(0.2)
    assert data["labelled"] == [4, 8]


def test_table_of_one_kind_alone() -> None:
    header, lines = make_table([result("random", True, 1, [0.5], 1.0)], name).side_by_side()
    assert len(header) == len(lines[0]) == 3
    assert lines[0][0] == "random + PCB"
