"""The Descriptions tab as its handlers see it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.components.descriptions import ADD, REPLACE, Descriptions, state
from engines.errors import DataError
from engines.store import Dataset, LabelClass, Workspace

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "ws")


@pytest.fixture
def dataset(workspace: Workspace) -> int:
    with workspace.session() as session:
        added = Dataset(name="cells / 2", reader="folder")
        added.classes = [LabelClass(position=n, name=name) for n, name in enumerate(["blast", EVIL])]
        session.add(added)
        session.flush()
        return added.id


@pytest.fixture
def tab(workspace: Workspace) -> Descriptions:
    return Descriptions(SimpleNamespace(workspace=workspace))  # type: ignore[arg-type]


def press(name: str) -> Any:
    return SimpleNamespace(_data={"name": name, "value": ""})


def uploaded(tmp_path: Path, content: Any) -> str:
    (tmp_path / "sentences.json").write_text(json.dumps(content), "utf-8")
    return str(tmp_path / "sentences.json")


def test_it_says_what_happens_to_classes_without_a_description(tab: Descriptions, dataset: int) -> None:
    before = tab.show(tab.classes(dataset))[2]
    assert "No class is described yet." in before
    assert "such as “a photo of a blast.”" in before
    after, said, _ = tab.write(dataset, "blast", "large\n\nlarge\npale")
    assert "Saved: 2 for “blast”." in said
    assert "Not described yet: “&lt;img" in after
    assert "<img" not in after
    assert tab.read(dataset, "blast")[0] == "large\npale"
    after, _, _ = tab.write(dataset, EVIL, "odd")
    assert "All 2 classes are described, in 3 sentences." in after
    assert "no classes yet" in state([])


def test_a_file_is_taken_and_undone(tab: Descriptions, dataset: int, tmp_path: Path) -> None:
    tab.write(dataset, "blast", "large")
    file = uploaded(tmp_path, {"Blast": ["pale"], EVIL.upper() + "!": ["x"]})
    text, _, said, before = tab.take(dataset, "blast", file, ADD)
    assert text == "large\npale"
    assert "1 sentence for 1 class came in." in said
    assert "no class is called so" in said
    assert "<IMG" not in said
    assert tab.take(dataset, "blast", file, REPLACE)[0] == "pale"
    text, _, said, left = tab.undo(dataset, "blast", before, press("undo"))
    assert (text, left) == ("large", {})
    assert "Undone: 1 class as before." in said


@pytest.mark.parametrize("before", [None, {}, [], "x", {"dataset": 99, "sentences": {"blast": ["x"]}}])
def test_there_may_be_nothing_to_undo(tab: Descriptions, dataset: int, before: Any) -> None:
    tab.write(dataset, "blast", "large")
    tab.undo(dataset, "blast", before, press("undo"))
    tab.undo(dataset, "blast", {"dataset": dataset, "sentences": {"blast": []}}, press("else"))
    assert tab.read(dataset, "blast")[0] == "large"


def test_all_sentences_are_written_to_a_file(tab: Descriptions, dataset: int, workspace: Workspace) -> None:
    tab.write(dataset, "blast", "large")
    place = Path(tab.save_file(dataset)["value"])
    assert place.parent == workspace.folder("exports")
    assert place.name == "cells _ 2 descriptions.json"
    assert json.loads(place.read_text("utf-8")) == {"blast": ["large"], EVIL: []}


@pytest.mark.parametrize("chosen", [None, 999, "1", [], {}, -1])
def test_data_sets_that_the_browser_made_up(tab: Descriptions, dataset: int, tmp_path: Path, chosen: Any) -> None:
    assert "Choose a class first." in tab.write(chosen, "blast", "x")[1]
    assert tab.read(chosen, "blast")[0] == ""
    with pytest.raises(DataError, match="No data set is chosen"):
        tab.take(chosen, "blast", uploaded(tmp_path, {"blast": ["x"]}), ADD)
    with pytest.raises(DataError, match="No data set is chosen"):
        tab.save_file(chosen)
    assert tab.read(dataset, "blast")[0] == ""


@pytest.mark.parametrize("file", [None, ""])
def test_an_upload_that_did_not_arrive(tab: Descriptions, dataset: int, file: Any) -> None:
    with pytest.raises(DataError, match="No file arrived"):
        tab.take(dataset, "blast", file, ADD)


@pytest.mark.parametrize("name", [None, "neutrophil", [], {"a": 1}])
def test_classes_that_the_browser_made_up(tab: Descriptions, dataset: int, name: Any) -> None:
    assert "Choose a class first." in tab.write(dataset, name, "x")[1]


def test_a_sentence_that_is_too_long_is_not_cut(tab: Descriptions, dataset: int) -> None:
    with pytest.raises(DataError, match="longer than 1,000 characters"):
        tab.write(dataset, "blast", "x" * 1001)
