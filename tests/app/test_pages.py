"""Pages as their handlers see them: empty workspaces, and whatever a browser may send."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.pages import start
from app.pages.data import PAGE_SIZE, DataPage
from app.pages.jobs import draw
from engines.store import Dataset, Job, JobState, LabelClass, Sample, Workspace
from engines.store.browse import glance


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "ws")


@pytest.fixture
def dataset(workspace: Workspace) -> Dataset:
    """130 images of two classes without image files."""
    with workspace.session() as session:
        added = Dataset(name="cells", reader="folder", size=130, report={"reasons": {"empty": 1}})
        added.classes = [LabelClass(position=n, name=name) for n, name in enumerate(["blast", "monocyte"])]
        session.add(added)
        session.flush()
        for place in range(130):
            kept = {"split": "train" if place < 100 else "test", "class_id": added.classes[place % 2].id}
            named = {"name": f"{place}.png", "file": f"{place}.png", "sha256": f"{place:064x}"}
            session.add(Sample(dataset_id=added.id, position=place, width=8, height=8, **kept, **named))
    return added


def page(workspace: Workspace) -> DataPage:
    return DataPage(SimpleNamespace(workspace=workspace))  # type: ignore[arg-type]


def event(name: Any, value: Any) -> Any:
    return SimpleNamespace(_data={"name": name, "value": value})


def test_an_empty_workspace_says_what_to_do(workspace: Workspace) -> None:
    chosen, _, imports, empty, body, *rest = page(workspace).refresh(None, {})
    assert chosen is None
    assert imports.open
    assert "Use the blood-smear sample" in empty.value
    assert not body.visible
    assert len(rest) == 12
    assert "Imports, trainings and exports will be listed here" in draw(workspace, "all", 25, "")
    steps = start.steps(workspace, glance(workspace), [], [])
    assert [step.done for step in steps] == [False] * 4
    assert steps[0].state == "No images yet. Begin here."


def test_filters_and_pages_show_what_was_asked_for(workspace: Workspace, dataset: Dataset) -> None:
    view, gallery = page(workspace).filter(dataset.id, "test", dataset.classes[0].id, "")
    assert "1–15 of 15" in gallery
    assert gallery.count("<img") == 15
    view, gallery = page(workspace).act(dataset.id, {"dataset": dataset.id}, event("page", "120"))
    assert "121–130 of 130" in gallery
    assert view["first"] == 120


@pytest.mark.parametrize(
    "view",
    [
        None,
        [],
        "x",
        {"dataset": "1"},
        {"split": "; drop table", "class": "x", "domain": ["a"], "first": "NaN", "selected": {}},
        {"first": -5, "selected": -1, "class": 10**30},
        {"first": 10**9},
    ],
)
def test_a_view_that_the_browser_made_up_is_mended(workspace: Workspace, dataset: Dataset, view: Any) -> None:
    made_up = view | {"dataset": dataset.id} if isinstance(view, dict) and "dataset" not in view else view
    shown = page(workspace).refresh(dataset.id, made_up)
    assert shown[1]["first"] in (0, 120)
    assert "of 130" in shown[10]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("select", "1 or 1=1"),
        ("select", "99999999999999999999"),
        ("page", "-60"),
        ("page", "²"),
        ("run", "x"),
        (None, None),
    ],
)
def test_presses_that_the_browser_made_up_change_nothing(
    workspace: Workspace, dataset: Dataset, name: Any, value: Any
) -> None:
    view, gallery = page(workspace).act(dataset.id, {"dataset": dataset.id}, event(name, value))
    assert view["first"] == 0
    assert "1–60 of 130" in gallery
    assert gallery.count("<img") == PAGE_SIZE


def test_an_image_of_another_data_set_is_not_shown(workspace: Workspace, dataset: Dataset) -> None:
    with workspace.session() as session:
        other = Dataset(name="other", reader="folder", size=1)
        session.add(other)
        session.flush()
        hidden = Sample(dataset_id=other.id, position=0, name="h", file="h", sha256="0" * 64, width=1, height=1)
        session.add(hidden)
    _, gallery = page(workspace).act(dataset.id, {"dataset": dataset.id}, event("select", str(hidden.id)))
    assert "pl-viewer" not in gallery


def test_an_image_whose_file_is_gone_says_so(workspace: Workspace, dataset: Dataset) -> None:
    _, gallery = page(workspace).act(dataset.id, {"dataset": dataset.id}, event("select", "1"))
    assert "pl-viewer" in gallery
    assert "pl-problem" in gallery


def test_a_data_set_that_is_gone_gives_way_to_the_newest(workspace: Workspace, dataset: Dataset) -> None:
    for chosen in (999, "cells", None, {"x": 1}):
        assert page(workspace).refresh(chosen, {})[0] == dataset.id


def test_the_job_list_grows_on_demand(workspace: Workspace) -> None:
    with workspace.session() as session:
        session.add_all([Job(kind="train", title=f"Job {n}", state=JobState.DONE) for n in range(30)])
        session.add(Job(kind="import", title="At work", state=JobState.RUNNING))
    short = draw(workspace, "all", 25, "")
    assert short.count("<article") == 25
    assert "Show more" in short
    assert short.index("At work") < short.index("Job ")
    assert draw(workspace, "finished", 50, "").count("<article") == 30
    assert draw(workspace, "running", 25, "").count("<article") == 1
