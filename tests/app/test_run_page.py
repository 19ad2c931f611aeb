"""The Runs page on made-up results: the list, one result, its mistakes, the choice that repeats it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.components import run_page, runs
from app.components.choices import DEFAULTS, checked, choice_of, request_of, settings_fields
from app.components.figures import method_colour
from app.components.methods import method_cards, methods
from app.components.offers import fitting_targets, protocols_for
from app.components.run_page import NEVER, TRAINED, find_result
from app.components.runs_list import ANY, NEWEST, keys_of, listing, restore
from engines.errors import ConfigError
from engines.store import Job, JobState, Workspace
from engines.store.run_queries import experiment, experiments, move_to_bin
from tests.app.made_up import CLASSES, add_base_to_new, add_run, make_workspace

EVERYTHING = ["", ANY, ANY, False, NEWEST]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "clinic")


def table(ws: Workspace, *asked: object) -> str:
    return str(listing(ws, "", asked or EVERYTHING)[1])


def test_an_empty_list_says_what_to_do_next(ws: Workspace) -> None:
    shown = listing(ws, "", EVERYTHING)
    assert shown[0]["visible"] is False
    assert 'href="train"' in shown[1]


def test_the_table_shows_means_and_no_ids(ws: Workspace) -> None:
    ids = [add_run(ws, seed=1, wrong={0: 1}), add_run(ws, seed=2, wrong={0: 1, 1: 1, 2: 1})]
    shown = table(ws)
    assert "90.0%" in shown
    assert "±5.0" in shown
    assert "50.0%" in shown
    assert not any(run_id in shown for run_id in ids)


def test_rows_are_sorted_and_filtered(ws: Workspace) -> None:
    add_run(ws, experiment="good", method="coop")
    add_run(ws, experiment="bad", method="linear-probe", wrong={0: 1}, hours=1)
    found = experiments(ws)
    assert [e.key for e in runs.sorted_by(found, "right", True)] == ["good", "bad"]
    assert [e.key for e in runs.sorted_by(found, "started", True)] == ["bad", "good"]
    assert [e.key for e in runs.sorted_by(found, "method", False)] == ["good", "bad"]
    assert [e.key for e in runs.filtered(found, "PROBE cells", None, None)] == ["bad"]
    assert [e.key for e in runs.filtered(found, "", "cells", "coop")] == ["good"]
    assert runs.filtered(found, "", "another", None) == []


def test_settings_that_are_not_the_papers_are_named(ws: Workspace) -> None:
    add_run(ws, config={"settings": {"n_ctx": 4, "csc": False}, "training": {"epochs": 5}})
    assert runs.changed_settings(experiments(ws)[0]) == "Learned words: 4, Passes over the images: 5"


def test_names_of_classes_are_never_markup(ws: Workspace) -> None:
    run_id = add_run(ws, wrong={10: 0})
    assert run_id
    result = find_result(ws, "first")
    assert result is not None
    shown = run_page.mistakes(result, None, 0)
    assert "&lt;i&gt;monocyte&lt;/i&gt;" in shown
    assert "<i>monocyte" not in shown
    assert "<i>monocyte" not in str(run_page.mistakes_figure(result)["data"][0]["text"])


def test_the_sentence_comes_first(ws: Workspace) -> None:
    add_run(ws, seed=1, wrong={0: 1})
    add_run(ws, seed=2, wrong={0: 1, 1: 1, 2: 1})
    result = find_result(ws, "first", seed=2)
    assert result is not None
    assert result.run is not None
    assert result.run.seed == 2
    head = run_page.headline(result)
    assert "CoOp got 90.0% right (±5.0 over 2 seeds); the ready-made prompt 50.0%." in head


def test_a_failed_training_says_why(ws: Workspace) -> None:
    run_id = add_run(ws, state="failed")
    with ws.session() as session:
        session.add(Job(kind="train", run_id=run_id, state=JobState.FAILED, error="The disk is full.", detail="ENOSPC"))
    result = find_result(ws, "first")
    assert result is not None
    assert result.run is None
    head = run_page.headline(result)
    assert "The disk is full." in head
    assert head.index("ENOSPC") > head.index("<details")


def test_pressing_a_cell_shows_its_images(ws: Workspace) -> None:
    add_run(ws, wrong={5: 0, 6: 0, 12: 3})
    result = find_result(ws, "first")
    assert result is not None
    assert "3 images it got wrong" in run_page.mistakes(result, None, 0)
    assert "2 images: “blast” taken for “basophil”" in run_page.mistakes(result, [1, 0], 0)
    assert "3 images: “blast” answered rightly" in run_page.mistakes(result, [1, 1], 0)
    assert "There are no such images." in run_page.mistakes(result, [0, 3], 0)
    assert "3 images it got wrong" in run_page.mistakes(result, ["x", 99], 0)


def test_classes_are_listed_with_the_weakest_first(ws: Workspace) -> None:
    add_run(ws, wrong={5: 0, 6: 0, 0: 1})
    result = find_result(ws, "first")
    assert result is not None
    figure = run_page.per_class(result)
    assert figure["layout"]["yaxis"]["ticktext"][:2] == ["blast (5)", "basophil (5)"]
    assert figure["data"][0]["x"] == pytest.approx([0.6, 0.8, 1.0, 1.0])
    assert figure["data"][0]["marker"]["color"] == method_colour("coop")
    assert figure["data"][1]["x"] == pytest.approx([0.0, 1.0, 0.0, 1.0])


def test_classes_it_never_saw_have_a_view_of_their_own(ws: Workspace) -> None:
    add_base_to_new(ws)
    base, new = find_result(ws, "both", part=TRAINED), find_result(ws, "both", part=NEVER)
    assert base is not None
    assert new is not None
    assert base.both_parts
    assert base.summary["class_names"] == CLASSES[:2]
    assert new.summary["class_names"] == CLASSES[2:]
    assert new.position(1) == 3
    assert (base.shown_classes, new.shown_classes) == ([0, 1], [2, 3])
    assert "90.0% right on the classes it was trained on and 50.0% on classes it never saw" in run_page.headline(base)


def test_a_result_that_is_not_there_is_none(ws: Workspace) -> None:
    assert find_result(ws, "") is None
    assert find_result(ws, "nothing") is None


def test_undo_puts_back_what_went_to_the_bin(ws: Workspace) -> None:
    run_id = add_run(ws)
    move_to_bin(ws, [run_id])
    assert "runs-table" not in table(ws)
    assert "Put back" in table(ws, "", ANY, ANY, True, NEWEST)
    assert restore(ws, keys_of('["first", "unknown", 3]')) == ["first"]
    assert experiment(ws, "first") is not None
    assert keys_of("not json") == []


def test_answers_for_new_images_stand_beside_the_ready_made_prompts() -> None:
    learned = [{"class": "<b>blast</b>", "probability": 0.814}, {"class": "basophil", "probability": 0.1}]
    ready = [{"class": "basophil", "probability": 0.5}]
    answers = [{"learned": learned, "ready_made": ready}, {"error": "This file is not an image."}]
    shown = runs.asked(["data:image/png;base64,", ""], answers, "coop", True)
    assert "&lt;b&gt;blast&lt;/b&gt;" in shown
    assert "0.81" in shown
    assert "Ready-made prompt" in shown
    assert "This file is not an image." in shown


# --- the choice before a training ----------------------------------------------------


def test_what_the_browser_remembers_is_checked() -> None:
    kept = checked({"dataset_id": 7, "method": "gone", "shots": 3, "seeds": 1, "settings": "x", "more": 1})
    assert kept == DEFAULTS | {"dataset_id": 7, "seeds": 1}
    assert checked("nonsense") == DEFAULTS


def test_a_result_can_be_repeated(ws: Workspace) -> None:
    entry = methods()["coop"]
    training = entry.training_for("few-shot", 16) | {"epochs": 7}
    settings = {name: field["default"] for name, field in entry.schema["properties"].items()} | {"n_ctx": 4}
    add_run(ws, config={"settings": settings, "training": training})
    choice = choice_of(experiments(ws)[0])
    assert checked(choice) == choice
    assert choice["settings"] == {"n_ctx": 4, "epochs": 7}
    assert (choice["seeds"], choice["shots"], choice["dataset_id"]) == (1, 16, 1)


def test_settings_go_to_the_method_or_to_the_training() -> None:
    request = request_of(methods()["coop"], [1, "", "coop", 4, 3, "few-shot", []], {"n_ctx": 4, "epochs": 7})
    assert (request.settings, request.training) == ({"n_ctx": 4}, {"epochs": 7})
    assert (request.seeds, request.backbone) == ([1, 2, 3], "mini-clip")
    with pytest.raises(ConfigError):
        request_of(methods()["coop"], [1, "", "coop", 4, 10**9, "few-shot", []], {})


def test_methods_without_steps_have_no_training_settings() -> None:
    assert [f.name for f in settings_fields(methods()["linear-probe"], "few-shot", 16)] == list(
        methods()["linear-probe"].schema["properties"]
    )
    names = [f.name for f in settings_fields(methods()["coop"], "few-shot", 1)]
    assert names.index("n_ctx") < names.index("epochs")


def test_a_method_that_cannot_be_used_is_greyed_with_the_reason() -> None:
    entries = [methods()["zero-shot"], methods()["coop"]]
    shown = method_cards(entries, "coop", {"coop": "Needs <labels>."})
    card = shown[shown.index('data-value="coop"') :]
    assert "disabled" in card.split(">", 1)[0]
    assert "Needs &lt;labels&gt;." in card
    assert "disabled" not in shown[: shown.index('data-value="coop"')]


@pytest.mark.parametrize(
    ("method", "sites", "others", "offered"),
    [
        ("coop", 0, 0, ["few-shot", "base-to-new"]),
        ("coop", 2, 1, ["few-shot", "base-to-new", "domain-generalisation", "cross-dataset"]),
        ("linear-probe", 2, 1, ["few-shot", "domain-generalisation"]),
        ("tfup", 2, 1, ["base-to-new", "unsupervised"]),
        ("zero-shot", 0, 0, ["few-shot", "base-to-new"]),
    ],
)
def test_only_protocols_that_fit_are_offered(method: str, sites: int, others: int, offered: list[str]) -> None:
    assert list(protocols_for(methods()[method], sites, others).values()) == offered


def test_what_can_be_tested_on_is_kept_or_chosen() -> None:
    choices = [("Basel", "Basel"), ("Leiden", "Leiden")]
    assert fitting_targets(["Basel", "gone"], choices, "domain-generalisation") == ["Basel"]
    assert fitting_targets(None, choices, "domain-generalisation") == ["Leiden"]
    assert fitting_targets([], [("a", 1), ("b", 2)], "cross-dataset") == [1, 2]
    assert fitting_targets("nonsense", [], "few-shot") == []


def test_targets_reach_the_request() -> None:
    entry = methods()["coop"]
    sites = request_of(entry, [1, "", "coop", 4, 1, "domain-generalisation", ["Basel"]], {})
    assert (sites.target_domains, sites.test_datasets) == (["Basel"], [])
    sets = request_of(entry, [1, "", "coop", 4, 1, "cross-dataset", [2, 3]], {})
    assert (sets.target_domains, sets.test_datasets) == ([], [2, 3])
    assert request_of(entry, [1, "", "coop", 4, 1, "few-shot", ["Basel"]], {}).target_domains == []


def test_settings_of_a_protocol_are_the_papers() -> None:
    usual = {f.name: f.default for f in settings_fields(methods()["coop"], "base-to-new", 16)}
    assert (usual["n_ctx"], usual["ctx_init"]) == (4, "a photo of a")
    assert {f.name: f.default for f in settings_fields(methods()["maple"], "cross-dataset", 16)}["prompt_depth"] == 3
