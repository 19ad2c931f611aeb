"""Labelling from the command line: a whole session, and mistakes told in a sentence."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import cli
from engines import jobs
from engines.store import Annotation, Workspace
from tests.runs.conftest import COLOURS, write_shapes


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace that all tests of this file share."""
    folder = tmp_path_factory.mktemp("label")
    write_shapes(folder / "shapes")
    yield folder
    workspace = Workspace.open(folder / "clinic")
    jobs.stop_engine(workspace, wait=0)
    workspace.close()


@pytest.fixture
def say(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """say("label", "status", …) -> exit code, standard output and standard error of `promptloupe`."""
    monkeypatch.setenv("PROMPTLOUPE_WORKSPACE", str(home / "clinic"))
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv("PROMPTLOUPE_READER", raising=False)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["promptloupe", *arguments])
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def run(say: Callable[..., Said]) -> Run:
    """As `say`, for `label … --json`: the value that was printed."""

    def call(*arguments: str) -> Any:
        said = say("label", *arguments, "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)

    return call


@pytest.fixture
def practice(say: Callable[..., Said], run: Run, home: Path) -> str:
    """A practice copy of the shapes, made once: its name."""
    if say("data", "show", "Shapes").code:
        assert say("data", "import", str(home / "shapes"), "--name", "Shapes").code == 0
        made = run("practice", "Shapes")
        assert made["name"] == "Shapes (practice)"
        assert made["images"] == 56
    return "Shapes (practice)"


def label_of(image: str) -> str:
    return next(name for name in COLOURS if name in image)


def test_a_session(say: Callable[..., Said], run: Run, practice: str, home: Path) -> None:
    assert run("settings", practice, "--set", "budget=6", "--set", "strategy=entropy")["budget"] == 6
    assert run("settings", practice)["budget"] == 6
    before = run("status", practice)
    assert (before["labelled"], before["number"], len(before["missing"])) == (0, 0, 4)
    assert "Nothing is waiting" in say("label", "show", practice, "--reader", "Anna").out

    picked = run("next", practice, "--reader", "Anna")
    assert picked["picked"] == 6
    queue = run("show", practice, "--reader", "Anna")
    assert queue["left"] == len(queue["images"]) == 6
    assert all(set(row) == {"image", "id", "occasion", "second"} for row in queue["images"]), "blind by default"
    run("settings", practice, "--set", "blind=false")
    assert all(row["why"] and "expected" in row for row in run("show", practice, "--reader", "Anna")["images"])

    for row in queue["images"]:
        kept = run("record", practice, "--image", row["image"], "--label", label_of(row["image"]), "--reader", "Anna")
        assert not kept["doubled"]
    after = run("status", practice, "--reader", "Anna")
    assert (after["labelled"], after["left"]) == (6, 0)
    status = say("label", "status", practice)
    assert "6 images labelled" in status.out

    first, second = queue["images"][0]["image"], queue["images"][1]["image"]
    run("record", practice, "--image", second, "--verdict", "flag", "--comment", "[/red] blurred", "--reader", "Böb")
    wrong = next(name for name in COLOURS if name != label_of(first))
    assert run("record", practice, "--image", first, "--label", wrong, "--reader", "Böb")["other_readers"] == ["Anna"]
    (dispute,) = [row for row in run("disputes", practice) if row["image"] == first]
    assert dispute["readers"] == {"Anna": label_of(first), "Böb": wrong}
    assert first in say("label", "disputes", practice).out.replace("\n", "")
    run("record", practice, "--image", first, "--label", label_of(first), "--reader", "Chief", "--adjudicate")
    assert first not in [row["image"] for row in run("disputes", practice)]
    assert first in [row["image"] for row in run("disputes", practice, "--all")]
    assert run("agreement", practice)["images"] == 1
    assert "read by at least two" in say("label", "agreement", practice).out

    assert run("undo", practice, "--reader", "Böb")["verdict"] == "label"
    assert run("redo", practice, "--reader", "Böb")["verdict"] == "label"
    assert run("redo", practice, "--reader", "Böb") is None
    history = run("history", practice, "--reader", "Böb")
    assert [row["verdict"] for row in history] == ["label", "undo", "label", "flag"]
    assert [row["row"] for row in run("history", practice, "--reader", "Böb", "--first", "1", "--limit", "2")] == [
        row["row"] for row in history[1:3]
    ]
    assert len(run("history", practice, "--image", first)) == 5
    assert "blurred" in say("label", "history", practice, "--reader", "Böb").out.replace("\n", "")
    assert run("check") == {"rows": 11, "broken": None, "unchained": 0}
    assert "11 verdicts are as they were written" in say("label", "check").out

    with Workspace.open(home / "clinic").session() as session:
        rounds = {row.round_id for row in session.query(Annotation).filter_by(annotator="Anna")}
    assert None not in rounds, "what was picked in a round says so"


def test_a_verdict_is_not_talked_over(say: Callable[..., Said], run: Run, practice: str) -> None:
    image = "train/red thing/7.png"
    how = ["record", practice, "--image", image, "--reader", "Dora", "--label"]
    run(*how, "red thing")
    assert run(*how, "RED THING")["doubled"]
    refused = say("label", *how, "blue thing")
    assert refused.code == 1
    assert "Dora said “red thing” of this image before" in refused.err
    assert not run(*how, "blue thing", "--replace")["doubled"]
    assert run("history", practice, "--reader", "Dora")[0]["label"] == "blue thing"


def test_search(say: Callable[..., Said], run: Run, practice: str) -> None:
    nothing = run("search", "Shapes", "red thing")
    assert (nothing["hits"], nothing["missing"]) == ([], 56)
    assert "56 images were not looked at yet" in say("label", "search", "Shapes", "red thing").err
    found = run("search", "Shapes", "red thing", "--limit", "8", "--look")
    assert found["missing"] == 0
    assert sum("red thing" in hit["image"] for hit in found["hits"]) >= 7
    alike = run("similar", "Shapes", "train/red thing/0.png", "--limit", "5")
    assert len(alike["hits"]) == 5
    assert "train/red thing/0.png" not in [hit["image"] for hit in alike["hits"]]
    assert "likeness" in say("label", "similar", "Shapes", "train/red thing/0.png").out
    assert run("search", "Shapes", "red thing", "--unlabelled")["searched"] == 0


def test_hints(say: Callable[..., Said], run: Run, practice: str) -> None:
    run("record", "Shapes", "--image", "train/red thing/1.png", "--label", "blue thing", "--reader", "Anna")
    found = run("hints", "Shapes")
    (hint,) = [hint for hint in found["hints"] if "red thing/1.png" in hint["image"]]
    assert (hint["label"], hint["rather"]) == ("blue thing", "red thing")
    assert "may be wrong" in say("label", "hints", "Shapes").out


def test_out_and_in(say: Callable[..., Said], run: Run, practice: str, home: Path) -> None:
    report = run("export", "Shapes", "--format", "csv", "--audit")
    table = home / "clinic" / report["files"][0]
    with table.open(encoding="utf-8-sig", newline="") as file:
        labels = {row["name"]: row["label"] for row in csv.DictReader(file)}
    assert len(labels) == 56
    assert "Written: " in say("label", "export", "Shapes", "--format", "coco").out
    copy = run("practice", "Shapes", "--per-class", "3")
    assert copy["images"] == 24 + 12
    came = run("import", copy["name"], str(table), "--as", "labels", "--reader", "registry")
    assert came["added"] == 36
    assert came["reasons"] == {"no image of the data set has this content (SHA-256)": 20}
    again = say("label", "import", copy["name"], str(table), "--as", "labels", "--reader", "registry")
    assert "36 were known already" in again.out
    assert run("status", copy["name"])["labelled"] == 12


def test_classes(say: Callable[..., Said], run: Run, practice: str) -> None:
    made = run("practice", "Shapes", "--per-class", "1")["name"]
    assert run("classes", made, "--add", "[bold]odd[/] thing")[-1] == "[bold]odd[/] thing"
    assert "[bold]odd[/] thing" in say("label", "classes", made).out
    assert "so far" not in say("label", "status", made).err


def test_simulate_is_one_of_them(say: Callable[..., Said]) -> None:
    assert "--rounds" in say("label", "simulate", "--help").out


BAD: list[tuple[list[str], int, str]] = [
    (["status", "Nothing"], 1, "no data set called"),
    (["status"], 2, "NAME"),
    (["settings", "Shapes", "--set", "budget"], 1, "name=value"),
    (["settings", "Shapes", "--set", "budget=0"], 1, "budget"),
    (["settings", "Shapes", "--set", "colour=red"], 1, "colour"),
    (["settings", "Shapes", "--set", "strategy=magic"], 1, "no strategy called “magic”"),
    (["settings", "Shapes", "--set", "method=magic"], 1, "no method called"),
    (["classes", "Shapes", "--add", " "], 1, "needs a name"),
    (["classes", "Shapes", "--all", "one"], 1, "at least two classes"),
    (["next", "Nothing"], 1, "no data set called"),
    (["show", "Shapes", "--limit", "0"], 2, "--limit"),
    (["record", "Shapes", "--image", "1.png", "--reader", "A"], 1, "either a label or another verdict"),
    (["record", "Shapes", "--image", "1.png", "--reader", "A", "--label", "a", "--verdict", "skip"], 1, "either"),
    (["record", "Shapes", "--image", "1.png", "--reader", "A", "--verdict", "maybe"], 1, "no verdict “maybe”"),
    (["record", "Shapes", "--image", "1.png", "--reader", "A", "--verdict", "skip"], 1, "several images"),
    (["record", "Shapes", "--image", "no.png", "--reader", "A", "--verdict", "skip"], 1, "no image of the data set"),
    (["record", "Shapes", "--image", "red thing/1.png", "--verdict", "skip"], 1, "several images"),
    (["record", "Shapes", "--image", "train/red thing/1.png", "--verdict", "skip"], 1, "--reader NAME"),
    (
        ["record", "Shapes", "--image", "train/red thing/1.png", "--reader", "A", "--label", "pink"],
        1,
        "no class “pink”",
    ),
    (["record", "Shapes", "--image", "train/red thing/1.png", "--reader", "A", "--verdict", "flag"], 1, "comment"),
    (["record", "Shapes", "--image", "train/red thing/1.png", "--reader", "x" * 101, "--verdict", "skip"], 1, "100"),
    (["record", "Shapes", "--reader", "A", "--verdict", "skip"], 2, "--image"),
    (["undo", "Shapes"], 1, "--reader NAME"),
    (["redo", "Shapes"], 1, "--reader NAME"),
    (["history", "Shapes", "--image", "no.png"], 1, "no image of the data set"),
    (["history", "Shapes", "--first", "-1"], 2, "--first"),
    (["search", "Shapes", ""], 1, "nothing to search for"),
    (["search", "Shapes", "word " * 2000], 1, "too long"),
    (["search", "Shapes", "red", "--limit", "100000"], 1, "cannot be shown at once"),
    (["search", "Shapes", "red", "--backbone", "no-such-model"], 1, "no-such-model"),
    (["similar", "Shapes", "no.png"], 1, "no image of the data set"),
    (["export", "Shapes", "--format", "pdf"], 1, "no export format"),
    (["import", "Shapes", "/no/such/file.csv"], 1, "file.csv"),
    (["import", "Shapes", "x.csv", "--as", "truth"], 1, "Choose suggestions or labels"),
    (["import", "Shapes", str(Path(__file__))], 1, "not a kind of file"),
    (["practice", "Nothing"], 1, "no data set called"),
    (["practice", "Shapes", "--per-class", "0"], 1, "at least one image"),
    (["simulate", "--data", "Nothing"], 1, "no data set called"),
    (["nothing"], 2, "nothing"),
]


@pytest.mark.parametrize(("arguments", "code", "told"), BAD, ids=[" ".join(bad[0])[:60] for bad in BAD])
def test_mistakes_are_told_in_a_sentence(
    say: Callable[..., Said], practice: str, arguments: list[str], code: int, told: str
) -> None:
    said = say("label", *arguments)
    assert said.code == code, said.err
    assert told in " ".join(said.err.split())
    assert said.out == ""


def test_a_changed_history_is_told(say: Callable[..., Said], run: Run, practice: str, home: Path) -> None:
    import sqlite3

    run("record", practice, "--image", "train/blue thing/2.png", "--label", "blue thing", "--reader", "Eve")
    connection = sqlite3.connect(home / "clinic" / "workspace.db")
    guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    try:
        for guard, _ in guards:
            connection.execute(f'DROP TRIGGER "{guard}"')
        connection.execute("UPDATE annotation SET annotator = 'Adam' WHERE annotator = 'Eve'")
        connection.commit()
        said = say("label", "check")
    finally:
        connection.execute("UPDATE annotation SET annotator = 'Eve' WHERE annotator = 'Adam'")
        for _, sql in guards:
            connection.execute(sql)
        connection.commit()
        connection.close()
    assert said.code == 1
    assert "changed outside this program" in said.err
    assert run("check")["broken"] is None
