"""The command line as a person and as a program use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import jobs
from engines.store import Workspace
from tests.runs.conftest import COLOURS, draw, write_shapes

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace that all tests of this file share, with the coloured shapes imported."""
    folder = tmp_path_factory.mktemp("cli")
    write_shapes(folder / "shapes")
    yield folder
    workspace = Workspace.open(folder / "clinic")
    jobs.stop_engine(workspace, wait=0)
    workspace.close()


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PROMPTLOUPE_WORKSPACE": str(home / "clinic"), "COLUMNS": "200", "NO_COLOR": "1"},
            timeout=300,
        )
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    return call


def value(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def imported(run: Run, home: Path) -> dict[str, Any]:
    return dict(value(run("data", "import", str(home / "shapes"), "--name", "Shapes", "--json")))


@pytest.fixture(scope="module")
def trained(run: Run, imported: dict[str, Any]) -> list[dict[str, Any]]:
    quick = ["--set", "epochs=5", "--set", "n_ctx=4", "--set", "views=2"]
    return list(value(run("train", "--data", "Shapes", "--shots", "4", "--seed", "1", "--seed", "2", *quick, "--json")))


def test_import_and_look(run: Run, imported: dict[str, Any]) -> None:
    assert imported["imported"] == 56
    assert [d["name"] for d in value(run("data", "list", "--json"))] == ["Shapes"]
    shown = value(run("data", "show", "Shapes", "--json"))
    assert shown["classes"] == sorted(COLOURS)
    assert "Shapes" in run("data", "list").stdout
    assert "red thing" in run("data", "show", "Shapes").stdout


def test_describe(run: Run, imported: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('class,description\nRED_THING,it is red\nred thing,"warm, round"\ncat,furry\n')
    report = value(run("data", "describe", "Shapes", "--import", str(tmp_path / "in.csv"), "--json"))
    assert report["added"] == {"red thing": 2}
    assert report["unknown"] == {"cat": 1}
    run("data", "describe", "Shapes", "--export", str(tmp_path / "out.json"))
    assert json.loads((tmp_path / "out.json").read_text())["red thing"] == ["it is red", "warm, round"]
    (tmp_path / "less.json").write_text(json.dumps({"red thing": ["red"]}))
    said = run("data", "describe", "Shapes", "--import", str(tmp_path / "less.json"), "--replace").stdout
    assert "2 former sentences gave way" in said
    assert value(run("data", "describe", "Shapes", "--json"))["red thing"] == ["red"]
    run("data", "describe", "Shapes", "--import", str(tmp_path / "out.json"), "--replace")
    assert "red thing" in run("data", "describe", "Shapes").stdout
    exists = run("data", "describe", "Shapes", "--export", str(tmp_path / "out.json"), code=1)
    assert "exists already" in exists.stderr


def test_train_and_look(run: Run, trained: list[dict[str, Any]]) -> None:
    assert [result["seed"] for result in trained] == [1, 2]
    assert all(0 <= result["accuracy"] <= 1 for result in trained)
    first = trained[0]["run"]
    listed = value(run("runs", "--json"))
    assert {row["run"] for row in listed} == {result["run"] for result in trained}
    shown = run("runs", "show", first)
    assert "test images" in shown.stdout
    assert "red thing" in shown.stdout
    assert value(run("runs", "show", first, "--json"))["config"]["settings"]["n_ctx"] == 4
    compared = value(run("runs", "compare", *(result["run"] for result in trained), "--json"))
    assert len(compared) == 1
    assert compared[0]["seeds"] == [1, 2]
    assert compared[0]["accuracy"] == pytest.approx(sum(result["accuracy"] for result in trained) / 2)


def test_predict_and_export(run: Run, trained: list[dict[str, Any]], tmp_path: Path) -> None:
    draw(COLOURS["red thing"], 5).save(tmp_path / "=evil.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    answers = value(run("predict", trained[0]["run"], str(tmp_path), "--json"))
    assert len(answers) == 2
    assert sum("error" in answer for answer in answers) == 1
    assert "learned prompt" in run("predict", trained[0]["run"], str(tmp_path)).stdout
    assert Path(value(run("runs", "export", trained[0]["run"], "--json"))["path"]).is_file()


def test_jobs(run: Run, trained: list[dict[str, Any]]) -> None:
    listed = value(run("jobs", "--json"))
    assert {job["kind"] for job in listed} >= {"import", "train"}
    shown = run("jobs", "show", listed[0]["job"])
    assert "done" in shown.stdout
    assert "Attempt 1" in shown.stdout


def test_export_remove_restore(run: Run, home: Path, imported: dict[str, Any]) -> None:
    write_shapes(home / "more", train=2, test=1)
    run("data", "import", str(home / "more"), "--name", "More", "--json")
    assert (home / "clinic" / value(run("data", "export", "More", "--format", "csv", "--json"))["path"]).exists()
    removed = value(run("data", "remove", "More", "--json"))
    assert [d["name"] for d in value(run("data", "list", "--json"))] == ["Shapes"]
    run("data", "restore", str(removed["id"]))
    assert len(value(run("data", "list", "--json"))) == 2


def test_methods_and_backbones(run: Run) -> None:
    names = [method["name"] for method in value(run("methods", "--json"))]
    assert {"zero-shot", "linear-probe", "coop"} <= set(names)
    assert "class_token_position" in run("methods", "coop").stdout
    assert "CoOp" in run("methods").stdout
    assert "mini-clip" in [b["name"] for b in value(run("backbones", "--json"))]


def test_doctor(run: Run) -> None:
    checks = value(run("doctor", "--json"))
    assert checks["state"] in ("ok", "warn")
    assert any("torch" in check["finding"].lower() + check["name"].lower() for check in checks["checks"])


BAD = [
    (["train", "--data", "Nothing"], 1, "no data set called"),
    (["train", "--data", "Shapes", "--method", "copo"], 1, "no method called"),
    (["train", "--data", "Shapes", "--set", "n_ctx"], 1, "name=value"),
    (["train", "--data", "Shapes", "--set", "n_ctx=0"], 1, "at least 1"),
    (["train", "--data", "Shapes", "--set", "depth=3"], 1, "has a setting"),
    (["train", "--data", "Shapes", "--set", "epochs=0"], 1, "epochs"),
    (["train", "--data", "Shapes", "--protocol", "all"], 1, "protocol"),
    (["train", "--data", "Shapes", "--shots", "-1"], 2, "--shots"),
    (["train", "--data", "Shapes", "--shots", "many"], 2, "--shots"),
    (["train", "--data", "Shapes", "--seed", "1", "--seed", "1"], 1, "seeds"),
    (["train"], 2, "--data"),
    (["nothing"], 2, "nothing"),
    (["runs", "show", "nope"], 1, "no run"),
    (["runs", "compare", "nope", "nope"], 1, "no run"),
    (["runs", "export", "nope"], 1, "no run"),
    (["jobs", "show", "nope"], 1, "no job"),
    (["jobs", "cancel", "nope"], 1, "no such job"),
    (["jobs", "retry", "nope"], 1, "no such job"),
    (["predict", "nope", "."], 1, "no such run"),
    (["data", "import", "/no/such/folder"], 1, "no/such/folder"),
    (["data", "import", "sample:cats"], 1, "cats"),
    (["data", "import", "sample:digits", "--slides", "tiles"], 1, "as they are"),
    (["data", "import", ".", "--slides", "whole"], 2, "--slides"),
    (["data", "import", ".", "--tile-size", "0"], 2, "--tile-size"),
    (["data", "import", ".", "--window-width", "0"], 1, "--window-width"),
    (["data", "export", "Shapes", "--format", "tar"], 1, "no export format"),
    (["data", "restore", "999"], 1, ""),
    (["data", "describe", "Nothing"], 1, "no data set called"),
    (["data", "describe", "Shapes", "--import", "/no/such/file.json"], 1, "file.json"),
    (["data", "describe", "Shapes", "--import", "a.json", "--export", "b.json"], 1, "either imported or exported"),
    (["data", "describe", "Shapes", "--replace"], 1, "belongs to --import"),
    (["data", "describe", "Shapes", "--export", "/no/such/folder/a.json"], 1, "cannot be written"),
    (["methods", "copo"], 1, "no method called"),
    (["worker", "--scheduler", "tcp://127.0.0.1:9"], 1, "No scheduler answers"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), BAD, ids=[" ".join(bad[0]) for bad in BAD])
def test_mistakes_are_told_in_a_sentence(
    run: Run, imported: dict[str, Any], arguments: list[str], code: int, said: str
) -> None:
    assert said in run(*arguments, code=code).stderr


def test_standard_output_is_for_results(run: Run) -> None:
    assert run("runs", "show", "nope", code=1).stdout == ""


def test_unwritable_workspace(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot be written" in run("data", "list", "--workspace", str(tmp_path / "file" / "w"), code=1).stderr


def test_bench_survives_its_own_end(run: Run, home: Path, imported: dict[str, Any]) -> None:
    grid = ["bench", "--methods", "coop,kgcoop", "--datasets", "Shapes", "--shots", "2", "--seeds", "1,2"]
    quick = ["--set", "epochs=3", "--set", "views=2", "--set", "coop.n_ctx=4"]
    environment = {**os.environ, "PROMPTLOUPE_WORKSPACE": str(home / "clinic")}
    killed = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *grid, *quick],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert killed.stderr is not None
    assert b"4 trainings" in killed.stderr.readline()
    killed.kill()
    killed.wait()
    result = value(run(*grid, *quick, "--resume", "--json", "--out", str(home / "bench")))
    assert len(result["runs"]) == 4
    assert not result["failed"]
    assert {cell["method"] for cell in result["cells"]} == {"Ready-made prompt", "CoOp", "KgCoOp"}
    assert all(0 <= cell["mean"] <= 1 for cell in result["cells"])
    assert {file.name for file in (home / "bench").iterdir()} == {"table.csv", "table.md", "table.tex", "figure.html"}
    with_all = run(*grid, *quick, "--resume")
    assert "4 of them done already" in with_all.stderr
    assert "CoOp" in with_all.stdout
    known = {row["run"] for row in value(run("runs", "--json"))}
    assert set(result["runs"]) <= known


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "copo"], "no method"),
        (["--datasets", "nowhere"], "no data set"),
        (["--shots", "many"], "whole numbers"),
        (["--seeds", "1,1"], "different"),
        (["--seeds", ""], "seeds"),
        (["--protocol", "guess"], "protocol"),
        (["--protocol", "domain-generalisation"], "no domain"),
        (["--set", "coop.words=3"], "words"),
        (["--set", "epochs=none"], "epochs"),
        (["--set", "passes=3"], "passes"),
    ],
)
def test_bench_refuses_in_words(run: Run, imported: dict[str, Any], arguments: list[str], said: str) -> None:
    asked = {"--methods": "coop", "--datasets": "Shapes"} | dict(zip(arguments[::2], arguments[1::2], strict=True))
    failed = run("bench", *[part for pair in asked.items() for part in pair], code=1)
    assert said in failed.stderr


def test_names_that_look_like_markup_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.text import Text

    from app.commands._shared import table

    table(["class", "images>"], [["[/red]", 3], ["[bold]x[/bold]", None], [Text("✓", "green"), 1]], title="[nowhere")
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("[/red]", "[bold]x[/bold]", "✓", "[nowhere"))
