"""The Shift page: what it offers, draws and says, on made-up answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from app.components import shift as views
from app.components import shift_figures as figures
from app.components import shift_map as maps
from app.components.plot import saved_as, selectable, selected_marks
from app.components.shift_results import asked_map, map_values, relation_values, shift_values
from engines.inspection.keeping import keep
from engines.inspection.map_answers import KIND, MapRequest, RunMap
from engines.inspection.shift_answers import (
    Average,
    ClassShift,
    GroupShift,
    ImageShift,
    ShiftAnswer,
    Snapshot,
    keep_shift,
)
from engines.store import Job, JobState, Run, Sample, Workspace
from tests.app.made_up import CLASSES, add_base_to_new, add_run, make_workspace

SET = "cells"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "clinic")


def average(mean: float) -> Average:
    return Average(mean, 0.02, mean - 0.01, mean + 0.01, 5)


def answer(run_id: str, gap: float = 0.2, moved: float = 0.1, **values: Any) -> ShiftAnswer:
    """Words moved by 0.3, 0.2, ...; images by `moved`; the last two classes are new."""
    words = [0.3, 0.2, 0.1, 0.05]
    classes = [
        ClassShift(name, place, "base" if place < 2 else "new", words[place], average(moved), 0.5)
        for place, name in enumerate(CLASSES)
    ]
    whole = GroupShift(average(moved), average(0.16), average(gap), None, None, None, None)
    samples = [ImageShift(sample, (sample - 1) // 5, moved, None, None, None, None) for sample in range(1, 21)]
    known = ShiftAnswer(
        run_id,
        "CoOp on cells",
        "CoOp",
        "few-shot",
        1,
        ["It moved <b>far</b>.", "And wide."],
        [],
        classes,
        {"all": whole},
        samples,
    )
    return replace(known, **values)


def run_map(run_id: str, moved: bool = True, groups: tuple[str, ...] = ("", "", "", "")) -> RunMap:
    """20 images in four islands; the first became right, the last wrong."""
    labels = np.repeat(np.arange(4), 5)
    before = np.stack([labels * 1.0, np.arange(20) % 5 / 10], axis=1).astype(np.float32)
    said = labels.copy()
    said_before, said_after = said.copy(), said.copy()
    said_before[0], said_after[19] = 1, 0
    words = np.stack([np.arange(4.0), np.full(4, 1.0)], axis=1).astype(np.float32)
    return RunMap(
        run_id=run_id,
        layout="umap",
        mark="m",
        classes=CLASSES,
        groups=list(groups),
        notes=[],
        samples=np.arange(1, 21),
        labels=labels,
        images_before=before,
        images_after=before + np.float32(0.3 if moved else 0),
        words_before=words,
        words_after=words + np.float32(0.5),
        images_moved=np.full(20, 0.1, np.float32),
        words_moved=np.full(4, 0.2, np.float32),
        said_before=said_before,
        said_after=said_after,
    )


def keep_map(ws: Workspace, found: RunMap) -> MapRequest:
    request = MapRequest(run_id=found.run_id)
    values = {name: value for name, value in vars(found).items() if not isinstance(value, np.ndarray)}
    arrays = {name: value for name, value in vars(found).items() if isinstance(value, np.ndarray)}
    keep(ws, KIND, request.key(), values, arrays)
    return request


# --- what is offered ---


def test_runs_are_offered_with_their_score_and_without_those_that_learn_no_words(ws: Workspace) -> None:
    first, second = add_run(ws, "coop", 1, experiment="a"), add_run(ws, "coop", 2, experiment="a")
    add_run(ws, "zero-shot", experiment="b")
    add_run(ws, "linear-probe", experiment="c")
    add_run(ws, "maple", state="failed", experiment="d")
    offered = {run: name for name, run in views.runs_offered(ws, SET)}
    assert set(offered) == {first, second}
    assert offered[first] == "CoOp, 16 per class, seed 1: 100.0%"
    assert views.results_offered(ws, SET) == [("CoOp, 16 per class", "a")]
    assert set(views.runs_of(ws, ["a", "c", 7])) >= {first, second}
    assert views.runs_of(ws, "nonsense") == []
    assert views.datasets_offered(ws) == [SET]
    assert views.runs_offered(ws, None) == []


def test_what_the_browser_sent_is_checked() -> None:
    assert asked_map("../x", "umap", 1, False) is None
    assert asked_map(None, "umap", 1, False) is None
    asked = asked_map("abc", "spiral", 1e99, "yes")
    assert asked is not None
    assert (asked.layout, asked.seed, asked.keep_gap) == ("umap", 2**31 - 1, True)
    assert asked_map("abc", "pca", None, None) == MapRequest(run_id="abc", layout="pca")


# --- jobs ---


def test_jobs_of_a_run_and_which_are_shown(ws: Workspace) -> None:
    with ws.session() as session:
        session.add(Job(kind="inspect_shift", title="Old", state=JobState.FAILED, payload={"run_ids": ["a", "b"]}))
        session.add(
            Job(kind="inspect_map", title="Map", state=JobState.RUNNING, payload={"run_id": "a", "layout": "pca"})
        )
        session.add(Job(kind="inspect_shift", title="Other", state=JobState.RUNNING, payload={"run_ids": ["c"]}))
        session.add(Job(kind="train", title="Training", state=JobState.RUNNING, payload={}))
    found = views.jobs_of(ws, "a")
    assert {job.title for job in found} == {"Old", "Map", "Other"}
    assert "Old" in views.working(found, set())
    assert "Old" not in views.working(found, {"inspect_shift"})
    assert "Map" in views.working(found, {"inspect_map"})
    assert views.being_measured(ws) == {"c"}
    assert not views.being_made(ws, MapRequest(run_id="a", layout="pca", seed=2))


# --- figures ---


def test_classes_are_dots_with_their_gap_and_new_ones_are_hollow(ws: Workspace) -> None:
    drawn = figures.class_figure(answer("a"), "coop")
    lines, words, images = drawn["data"]
    assert drawn["layout"]["yaxis"]["ticktext"] == ["basophil", "blast", "neutrophil", "&lt;i&gt;monocyte&lt;/i&gt;"]
    assert words["x"] == [0.3, 0.2, 0.05, 0.1]
    assert images["x"] == [0.1] * 4
    assert words["marker"]["color"] == [figures.WORDS, figures.WORDS, figures.CLEAR, figures.CLEAR]
    assert lines["x"][:3] == [0.3, 0.1, None]
    table = drawn["tools"]["save"]["table"]
    assert table[0][:2] == ["class", "group"]
    assert table[1] == ["basophil", "base", 0.3, 0.1, pytest.approx(0.09), 0.11, pytest.approx(0.2), 0.5]
    json.dumps(drawn, allow_nan=False)


def test_very_many_classes_show_those_with_the_largest_gap() -> None:
    many = [ClassShift(f"c{i}", i, "", i / 100, average(0.0), None) for i in range(60)]
    drawn = figures.class_figure(answer("a", classes=many), "coop")
    assert len(drawn["data"][1]["x"]) == figures.MOST_CLASSES
    assert drawn["data"][1]["x"][0] == 0.59
    assert len(drawn["tools"]["save"]["table"]) == 61


def test_a_course_needs_two_moments() -> None:
    steps = [Snapshot(0, 0.0, 0.0, 0.0), Snapshot(10, 0.1, 0.3, 0.2)]
    drawn = figures.course_figure(answer("a", trajectory=steps), "coop")
    assert drawn is not None
    assert [trace["y"] for trace in drawn["data"]] == [[0.0, 0.1], [0.0, 0.3], [0.0, 0.2]]
    assert figures.course_figure(answer("a", trajectory=steps[:1]), "coop") is None


def test_depth_has_bands_of_both_towers_and_gaps_below() -> None:
    blocks = [average(0.1), average(0.2)]
    drawn = figures.depth_figure(
        answer("a", image_blocks=[*blocks, average(0.3)], text_blocks=blocks, block_gaps=blocks), "x"
    )
    assert drawn is not None
    assert [trace["type"] for trace in drawn["data"]] == ["scatter"] * 4 + ["bar"]
    assert drawn["data"][0]["y"] == pytest.approx([0.12, 0.22, 0.32, 0.28, 0.18, 0.08])
    assert len(drawn["tools"]["save"]["table"]) == 4
    assert figures.depth_figure(answer("a"), "x") is None
    alone = figures.depth_figure(answer("a", image_blocks=blocks), "x")
    assert alone is not None
    assert len(alone["data"]) == 2


def test_gap_against_accuracy_shows_a_correlation_from_five_runs_on(ws: Workspace) -> None:
    runs = []
    for seed in range(1, 6):
        run = add_run(ws, "coop", seed, wrong=dict.fromkeys(range(10, 10 + 2 * seed), 1), experiment="a")
        keep_shift(ws, answer(run, gap=0.1 * seed))
        runs.append(run)
    drawing, said = relation_values(ws, runs[0], ["a"])
    assert "= -1.00 over 5 runs" in drawing
    assert "a larger gap goes with less accuracy" in said
    with ws.session() as session:
        session.get_one(Run, runs[4]).state = "failed"
    drawing, said = relation_values(ws, runs[0], ["a"])
    assert "Spearman" not in drawing
    assert "only the points are shown" in said
    assert relation_values(ws, None, None)[0] == ""


# --- what came out ---


def test_nothing_known_is_said_in_words(ws: Workspace) -> None:
    run = add_run(ws)
    shown, said, *rest = shift_values(ws, run)
    assert shown["visible"] is False
    assert "press “Measure what moved”" in said
    assert not any(isinstance(value, str) and value for value in rest)
    assert map_values(ws, MapRequest(run_id=run), "both", "class", making=False)[0]["visible"] is False
    assert "being made" in map_values(ws, MapRequest(run_id=run), "both", "class", making=True)[1]


def test_an_answer_is_told_and_what_is_missing_too(ws: Workspace) -> None:
    run = add_run(ws, wrong={19: 0})
    keep_shift(ws, answer(run, trajectory_reason="It does not learn in passes."))
    shown, said, classes, course_there, course, why, depth_there, depth, no_depth, most = shift_values(ws, run)
    assert shown["visible"]
    assert "It moved &lt;b&gt;far&lt;/b&gt;." in said
    assert "scatter" in classes
    assert course == depth == ""
    assert not course_there["visible"]
    assert not depth_there["visible"]
    assert "does not learn in passes" in why
    assert "cannot be told apart" in no_depth
    assert "neutrophil → basophil" in most
    assert "now wrong" in most
    assert "&lt;i&gt;monocyte" in most


def test_images_that_did_not_move_are_not_listed(ws: Workspace) -> None:
    run = add_run(ws)
    keep_shift(ws, answer(run, moved=0.0))
    assert "No image moved" in shift_values(ws, run)[-1]


# --- the map ---


def test_the_map_carries_sample_ids_pictures_and_arrows(ws: Workspace) -> None:
    found = run_map(add_run(ws))
    images = maps.named(ws, found)
    drawn = maps.map_figure(found, images)
    marks = [mark for trace in drawn["data"] for mark in trace.get("customdata", [])]
    assert sorted(marks) == sorted([*range(1, 21)] * 2)  # before and after
    arrows = drawn["data"][0]
    assert arrows["mode"] == "lines"
    assert len(arrows["x"]) == 60
    assert len(drawn["layout"]["annotations"]) == 4
    assert drawn["tools"]["select"] is True
    assert drawn["tools"]["pictures"]["files"]["1"].endswith(f"{0:064x}.jpg")
    table = drawn["tools"]["save"]["table"]
    assert len(table) == 1 + 20 + 4
    assert table[1][0] == "0-0.png"
    json.dumps(drawn, allow_nan=False)
    assert "<i>" not in json.dumps(drawn["data"])


@pytest.mark.parametrize(("shown", "height"), [("before", 0.0), ("after", 0.3)])
def test_before_or_after_alone(ws: Workspace, shown: str, height: float) -> None:
    found = run_map(add_run(ws))
    drawn = maps.map_figure(found, maps.named(ws, found), shown)
    assert not drawn["layout"]["annotations"]
    first = next(trace for trace in drawn["data"] if 1 in trace.get("customdata", []))
    assert first["y"][0] == pytest.approx(height)
    assert sum(len(trace.get("customdata", [])) for trace in drawn["data"]) == 20


def test_images_that_stay_are_drawn_once(ws: Workspace) -> None:
    found = run_map(add_run(ws), moved=False)
    drawn = maps.map_figure(found, maps.named(ws, found))
    assert sum(len(trace.get("customdata", [])) for trace in drawn["data"]) == 20


def test_colours_of_classes_never_seen_and_of_answers(ws: Workspace) -> None:
    found = run_map(add_base_to_new(ws), groups=("base", "base", "new", "new"))
    by_group = maps.map_figure(found, maps.named(ws, found), "after", maps.BY_GROUP)["data"]
    assert [trace["name"] for trace in by_group[:2]] == ["classes it was trained on", "classes it never saw"]
    assert [trace["marker"]["symbol"] for trace in by_group[:2]] == ["circle", "circle-open"]
    by_answer = maps.map_figure(found, maps.named(ws, found), "after", maps.BY_ANSWER)["data"]
    assert [len(trace["customdata"]) for trace in by_answer[:2]] == [19, 1]
    request = keep_map(ws, found)
    choice = map_values(ws, request, "both", maps.BY_GROUP, making=False)[-1]
    assert choice["value"] == maps.BY_GROUP
    request = keep_map(ws, run_map(found.run_id))
    choice = map_values(ws, request, "both", maps.BY_GROUP, making=False)[-1]
    assert choice["value"] == maps.BY_CLASS
    assert maps.BY_GROUP not in [value for _, value in choice["choices"]]


def test_the_sentence_counts_what_became_right_and_wrong() -> None:
    assert maps.map_sentence(run_map("a")).startswith("Of 20 images, 1 became right through the prompt and 1 became")


def test_selected_images_are_listed_paged_and_opened(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PAGE_SIZE", 8)
    found = run_map(add_run(ws))
    assert "Draw a loop" in views.selection(ws, found, [], 0, None)
    shown = views.selection(ws, found, [*range(1, 11), 999], 0, None)
    assert "10 images selected" in shown
    assert shown.count("data-value") >= 8
    assert "basophil: blast → basophil" in shown
    assert "1–8 of 10" in shown
    assert "9–10 of 10" in views.selection(ws, found, list(range(1, 11)), 8, None)
    with ws.session() as session:
        session.get_one(Sample, 1).file = "gone.png"
    assert "pl-viewer" in views.selection(ws, found, [1], 0, 1)


def test_marks_from_the_browser_are_numbers_each_once() -> None:
    def event(data: Any) -> gr.EventData:
        return gr.EventData(None, {"data": data})

    assert selected_marks(event([3, 1, 3, None, "4", True, 2.5])) == [3, 1]
    assert selected_marks(event(7)) == [7]
    assert selected_marks(event(None)) == []
    assert selected_marks(gr.EventData(None, None)) == []


def test_saved_tables_hold_no_formulas() -> None:
    drawn = saved_as({"data": []}, "x", ["class"], [["=1+1"], [3]])
    assert drawn["tools"]["save"]["table"] == [["class"], ["'=1+1"], [3]]
    both = selectable(drawn, "base/", {1: "a.jpg"})
    assert set(both["tools"]) == {"save", "select", "pictures"}
