"""promptloupe inspect map: points as a table and for machines, mistakes in a sentence."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import cli
from engines import jobs
from engines.data import ImportRequest, import_dataset
from engines.runs.perform import Observer, perform
from engines.runs.request import TrainRequest, create_runs
from engines.store import Run, Workspace
from tests.runs.conftest import COLOURS, write_shapes

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run_id(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A workspace and the one run in it."""
    folder = tmp_path_factory.mktemp("map")
    workspace = Workspace.open(folder / "clinic")
    import_dataset(workspace, ImportRequest(source=str(write_shapes(folder / "shapes", 3, 2))))
    training = {"epochs": 2, "views": 1, "learning_rate": 0.05}
    run = create_runs(workspace, TrainRequest(dataset_id=1, shots=2, seeds=[1], training=training))[0]
    summary = perform(workspace, run, Observer())
    with workspace.session() as session:
        row = session.get_one(Run, run.id)
        row.summary, row.state = summary, "done"
    yield folder / "clinic", run.id
    jobs.stop_engine(workspace, wait=0)
    workspace.close()


@pytest.fixture
def say(run_id: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    monkeypatch.setenv("PROMPTLOUPE_WORKSPACE", str(run_id[0]))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["promptloupe", "inspect", "map", *arguments])
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


def test_points_come_as_a_table_and_for_machines(say: Say, run_id: tuple[Path, str]) -> None:
    code, out, _ = say(run_id[1], "--layout", "pca", "--csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["what"] for row in rows] == ["image"] * 8 + ["words"] * 4
    assert {row["class"] for row in rows} == set(COLOURS)
    assert all(row["image"].endswith(".png") for row in rows[:8])
    code, out, _ = say(run_id[1], "--layout", "pca", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["layout"] == "pca"
    assert [point["x_after"] for point in found["points"]] == [float(row["x_after"]) for row in rows]
    code, out, _ = say(run_id[1], "--layout", "pca")
    assert code == 0
    assert "8 images and 4 classes are on the map" in out


def test_mistakes_are_told_in_a_sentence(say: Say, run_id: tuple[Path, str]) -> None:
    for arguments, words in (
        (["gone"], "There is no run “gone”."),
        ([run_id[1], "--layout", "spiral"], "layout"),
        ([run_id[1], "--csv", "--json"], "CSV and JSON at once"),
    ):
        code, _, err = say(*arguments)
        assert code == 1
        assert words in err
