"""The Golden noise page as its handlers see it: before there is anything, and whatever a browser may send."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from app.components import golden_results as results
from app.components import golden_vote as vote
from app.components.golden import notes, pairs_view
from app.components.golden_form import CollectForm, read_prompts
from app.components.golden_judge import verdict
from app.components.golden_training import training_figure, training_sentence
from engines.diffusion.golden.files import add_line
from engines.diffusion.golden.sample_prompts import scene_prompts
from engines.diffusion.golden.settings import CollectSettings
from engines.diffusion.golden.study import Curve, Shown, Study, StudyRequest, by_id, create, studies
from engines.diffusion.golden.votes import Votes
from engines.errors import BackboneError, ConfigError, DataError
from engines.store import Workspace
from tests.diffusion.golden.test_votes import judged

HARMFUL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "ws")


@pytest.fixture
def study(workspace: Workspace) -> Study:
    """A collection of 30 pairs, golden noise better in 20 of them."""
    made = create(workspace, StudyRequest(name=HARMFUL, model="tiny", prompts=HARMFUL, scorer="scenes"))
    for number in range(30):
        made.show(Shown(f"k{number}", f"{HARMFUL} {number}", number, 0.5, 0.6 if number % 3 else 0.4))
    return made


def event(name: Any, value: Any) -> Any:
    return SimpleNamespace(_data={"name": name, "value": value})


def test_before_there_is_anything(workspace: Workspace) -> None:
    stamps, *shown = results.values(workspace, {}, None, None, "x", 5)
    assert not stamps["there"]
    assert [part for part in shown if isinstance(part, str) and part] == []
    again = results.values(workspace, stamps, None, None, None, None)
    assert again[0] == stamps


def test_only_what_has_changed_is_drawn_again(workspace: Workspace, study: Study) -> None:
    stamps, *first = results.values(workspace, {}, study, {}, {}, "golden")
    assert "20 of 30" in first[7]
    skipped = results.values(workspace, stamps, study, {}, {}, "golden")[8]
    assert skipped == gr.skip()
    study.show(Shown("new", "a new one", 1, 0.1, 0.2))
    assert "21 of 31" in results.values(workspace, stamps, study, {}, {}, "golden")[8]


def test_the_gallery_has_pages_and_hurts_nobody(study: Study) -> None:
    page = pairs_view(study, 0, "k29", busy=False)
    assert "Golden won 20 of 30 pairs, 95% interval 47–83%" in page
    assert page.count("<img") == 2 * 24 + 2
    assert HARMFUL not in page
    assert pairs_view(study, 10**9, "nobody", busy=True).count("<img") == 2 * 6
    assert pairs_view(None, 0, "", busy=False) == ""


@pytest.mark.parametrize("view", [None, "x", [], {"first": "1", "opened": 5}, {"first": -7}, {"opened": None}])
def test_views_that_the_browser_made_up_are_mended(workspace: Workspace, study: Study, view: Any) -> None:
    assert "30 pairs" in results.pairs(workspace, study, view)
    turned = results.turned(view, event("page", "²"))
    assert turned == {"first": 0, "opened": ""}
    assert results.turned({"first": 24, "opened": "a"}, event("open", "a")) == {"first": 24, "opened": ""}


def test_votes_that_the_browser_made_up_count_for_nothing(tmp_path: Path) -> None:
    judgement = judged(tmp_path, 3)
    assert "Vote blind: standard or NPNet" in vote.voting(judgement)
    vote.answer(judgement, "begin", "golden")
    shown = vote.voting(judgement)
    assert "Pair 1 of 3" in shown
    assert "golden" not in shown
    assert shown.count("data:image/png") == 2
    for value in ("", "0", "0:0", "0:0:up", "0:9:left", "x:y:left", "²:0:left", "0:0:left:and:more"):
        vote.answer(judgement, "vote", value)
    vote.answer(judgement, "nothing", "")
    assert Votes(judgement).rounds()[-1].votes == ["left"], "the last one is a vote with something behind it"
    with pytest.raises(ConfigError, match="No images of the noise"):
        vote.answer(judged(tmp_path / "other", 1), "begin", HARMFUL)


def test_an_image_that_is_gone_is_said(tmp_path: Path) -> None:
    judgement = judged(tmp_path, 1)
    vote.answer(judgement, "begin", "golden")
    judgement.picture(0, "golden").unlink()
    assert "gone from the disk" in vote.voting(judgement)


def test_a_verdict_says_what_flatters(tmp_path: Path) -> None:
    judgement = judged(tmp_path, 2)
    told = verdict(judgement)
    assert "All 2 pairs were tied" in told
    assert "so it flatters" in told
    add_line(judgement.folder / "judged.jsonl", {"number": "torn"})
    assert verdict(judgement) == told


def test_a_network_that_learnt_nothing_is_called_so() -> None:
    def curve(*held_out: float) -> Curve:
        return Curve(Path("x"), [0.1] * len(held_out), list(held_out), 0.05, 3, 90, 10, ["a"])

    assert "50.0% nearer to golden noise than changing nothing does, after pass 2 of 2" in training_sentence(
        curve(0.04, 0.025)
    )
    assert "no nearer to golden noise" in training_sentence(curve(0.06))
    assert training_sentence(curve()) == ""
    assert training_figure(curve()) is None
    figure = training_figure(curve(0.04, 0.025))
    assert figure is not None
    assert figure["layout"]["shapes"][0]["y0"] == 0.05


def test_a_form_is_asked_before_anything_is_made(workspace: Workspace, study: Study) -> None:
    with gr.Blocks():
        form = CollectForm(workspace)
    offered = form.offer({}, study)
    settings = [part["value"] for part in offered[6:]]
    for values, error, message in (
        (["", "tiny", "clip", "mini-clip", "", " \n"], ConfigError, "There is no prompt"),
        (["", "none", "clip", "mini-clip", "", "a cat"], BackboneError, "no text-to-image model “none”"),
        (["", None, None, None, None, "a cat"], BackboneError, "No text-to-image model is chosen"),
    ):
        with pytest.raises(error, match=message):
            form.asked([*values, *settings])
    assert len(studies(workspace)) == 1
    assert form.form.chosen(settings) == {}
    with pytest.raises(ConfigError, match="Denoising steps"):
        form.form.chosen([1, *settings[1:]])


def test_uploaded_prompts_are_text(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xef\xbb\xbfa cat\na dog")
    assert read_prompts(file) == "a cat\na dog"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        read_prompts(file)
    file.write_bytes(b"a" * 5_000_001)
    with pytest.raises(DataError, match="larger than 5 MB"):
        read_prompts(file)


def test_ids_from_a_browser_do_not_leave_the_folder(workspace: Workspace, study: Study) -> None:
    assert by_id(workspace, study.id) == study
    assert [by_id(workspace, wrong) for wrong in ("", "..", f"../golden/{study.id}", "abc")] == [None] * 4


def test_many_notes_are_folded() -> None:
    assert "Show them" in notes([f"note {number}" for number in range(9)])
    assert notes([]) == ""


def test_the_sample_list_names_two_different_things() -> None:
    prompts = scene_prompts(200)
    assert len(set(prompts)) == 200
    assert prompts[:40] == scene_prompts(40)
    assert all(" and a" in prompt for prompt in prompts)
    assert CollectSettings().sampling.steps == 10
