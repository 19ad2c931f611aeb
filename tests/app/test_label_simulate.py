"""The command that simulates labelling, as a person and as a program call it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from app.commands._label_simulate import simulate
from engines import jobs
from engines.data import ImportRequest, import_dataset
from engines.errors import PromptloupeError
from engines.jobs.presence import EngineFile
from engines.store import Workspace
from tests.runs.conftest import write_shapes

QUICK = ["--data", "shapes", "--rounds", "2", "--seeds", "1", "--set", "epochs=2"]
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("simulate")
    workspace = Workspace.open(folder / "clinic")
    import_dataset(workspace, ImportRequest(source=str(write_shapes(folder / "shapes"))))
    yield folder
    jobs.stop_engine(workspace, wait=0)
    assert EngineFile(workspace.path).read() is None
    workspace.close()


@pytest.fixture
def run(home: Path) -> Run:
    cli = typer.Typer()
    cli.command()(simulate)

    def call(*arguments: str) -> Result:
        environment = {"PROMPTLOUPE_WORKSPACE": str(home / "clinic"), "COLUMNS": "200", "NO_COLOR": "1"}
        return CliRunner().invoke(cli, [*QUICK, *arguments], env=environment)

    return call


def value(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output + str(result.exception)
    return dict(json.loads(result.stdout))


def test_both_kinds_side_by_side(run: Run, tmp_path: Path) -> None:
    found = value(run("--strategy", "random,entropy", "--imbalance", "4", "--json", "--out", str(tmp_path)))
    assert [(c["strategy"], c["balanced"]) for c in found["cells"]] == [
        (strategy, balanced) for strategy in ("random", "entropy") for balanced in (False, True)
    ]
    assert found["labelled"] == [4, 8]
    assert found["failed"] == {}
    assert found["cells"][0]["simulation"]["imbalance"] == 4
    assert {p.name for p in tmp_path.iterdir()} == {"table.csv", "table.md", "figure.html"}
    assert "Entropy + PCB" in (tmp_path / "table.md").read_text()
    assert "Plotly.newPlot" in (tmp_path / "figure.html").read_text()
    again = value(run("--strategy", "random,entropy", "--imbalance", "4", "--json", "--resume", "--out", str(tmp_path)))
    assert again["cells"] == found["cells"], "seconds included: nothing was done again"


def test_text(run: Run) -> None:
    said = run("--strategy", "entropy", "--pcb")
    assert said.exit_code == 0, said.output
    assert "Ready-made prompt" in said.output
    assert "Entropy + PCB" in said.output
    assert "Evenness" in said.output
    assert "figure:" in said.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--strategy", "guess"], "no strategy called “guess”"),
        (["--seeds", "one"], "no list of whole numbers"),
        (["--seeds", ""], "seeds"),
        (["--rounds", "0"], "rounds"),
        (["--start", "cold"], "start"),
        (["--set", "n_ctx=0"], "n_ctx"),
        (["--set", "speed=3"], "no setting called|has a setting"),
        (["--budget", "20"], "need 40 images"),
        (["--method", "linear-probe", "--paper"], "cannot be trained as in the paper"),
        (["--data", "nothing"], "no data set called"),
    ],
)
def test_what_does_not_fit_is_told(run: Run, arguments: list[str], reason: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, PromptloupeError)
    with pytest.raises(PromptloupeError, match=reason):
        raise result.exception
