"""The Compare page on made-up results."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.components import compare as views
from engines.store import Workspace
from engines.store.agreement import READY_MADE
from tests.app.made_up import CLASSES, add_run, make_workspace

SET = "cells"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    workspace = make_workspace(tmp_path / "clinic")
    for seed in (1, 2):
        add_run(workspace, "coop", seed, wrong={0: 1}, experiment="a")
        add_run(workspace, "kgcoop", seed, wrong=dict.fromkeys(range(10, 10 + 4 * seed), 1), experiment="b")
    return workspace


def test_the_ready_made_prompt_is_always_there(ws: Workspace) -> None:
    found = views.compared(ws, ["a", "b", "a", "gone"], SET)
    assert [each.name for each in found] == ["Ready-made prompt", "CoOp, 16 per class", "KgCoOp, 16 per class"]
    assert views.compared(ws, ["gone"], SET) == []
    assert views.compared(ws, ["a"], "elsewhere") == []


def test_names_tell_results_apart(ws: Workspace) -> None:
    add_run(ws, experiment="c", config={"settings": {"n_ctx": 4}, "training": {}})
    names = [name for name, _ in views.offered(ws, SET)]
    assert len(set(names)) == len(names) == 3
    assert sum("Learned words" in name for name in names) == 1


def test_table_and_bars_are_sorted_and_show_uncertainty(ws: Workspace) -> None:
    listed, bars = views.ranking(views.compared(ws, ["b", "a"], SET))
    assert listed.index("CoOp, 16") < listed.index("KgCoOp, 16") < listed.index("Ready-made")
    assert "95.0%" in listed
    assert "±10.0" in listed
    assert all(low < high for low, high in bars["data"][0]["customdata"][1:])


def test_the_pair_in_words(ws: Workspace) -> None:
    ready, coop, kgcoop = views.compared(ws, ["a", "b"], SET)
    said = str(views.pair_sentence(ws, coop, ready))
    assert "“CoOp, 16 per class” is right on 10 images of 20 where “Ready-made prompt” is wrong, and wrong on 1" in said
    assert "surprising by chance (p = 0.012)" in said
    assert said == str(views.pair_sentence(ws, ready, coop))
    assert "may well be chance" in str(views.pair_sentence(ws, coop, kgcoop))


def test_results_without_a_common_seed(ws: Workspace) -> None:
    add_run(ws, "maple", 9, experiment="c")
    _, coop, maple = views.compared(ws, ["a", "c"], SET)
    assert "cannot be compared image by image" in str(views.pair_sentence(ws, coop, maple))


def test_classes_by_results(ws: Workspace) -> None:
    drawn = views.class_map(views.compared(ws, ["a", "b"], SET))
    assert drawn is not None
    assert len(drawn["data"][0]["y"]) == len(CLASSES)
    assert drawn["data"][0]["z"][0] == [1.0, 0.8, 1.0]
    assert "<i>" not in str(drawn["data"][0]["y"])


def test_images_that_differ_name_no_markup(ws: Workspace) -> None:
    from engines.store.agreement import disagreements

    _, coop, kgcoop = views.compared(ws, ["a", "b"], SET)
    ids = views.same_seed(coop, kgcoop)
    assert ids is not None
    found, total = disagreements(ws, ids)
    shown = str(views.differing(ws, found, total, 0, [coop, kgcoop], CLASSES))
    assert f"{total} images on which they do not agree" in shown
    assert "&lt;i&gt;monocyte" in shown
    assert views.same_seed(views.compared(ws, ["a"], SET)[0], coop) == (coop.runs[0].id, coop.runs[0].id)
    assert READY_MADE not in (ids)
