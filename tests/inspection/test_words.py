"""What a prompt says: nearest words, and where words and images lie, by hand."""

from __future__ import annotations

import shutil
from math import exp, log, sqrt
from pathlib import Path

import pytest
import torch

from engines.backbones import Backbone, load_backbone
from engines.errors import ConfigError
from engines.inspection.try_it import ask, forget_prompts, overlays, warm_prompt
from engines.inspection.words import context_tokens, geometry, margins, similarity, usual_distance, what_it_says
from engines.inspection.words_answers import read_words
from engines.prompts import create_method
from engines.runs.predict import prompt_folder
from engines.store import Workspace
from engines.store.agreement import READY_MADE
from tests.runs.conftest import COLOURS, dataset_id, draw, shapes, ws  # noqa: F401 - fixtures
from tests.runs.test_perform import begin, finish

NAMES = ["red disc", "blue disc"]


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return load_backbone("mini-clip")


def test_a_context_of_real_words_is_read_back(mini: Backbone) -> None:
    method = create_method("coop", mini, NAMES, n_ctx=4, ctx_init="a photo of a")
    tokens, unreadable, notes = context_tokens(method)
    assert [token.words[0].word for token in tokens] == ["a", "photo", "of", "a"]
    assert all(token.words[0].distance == pytest.approx(0, abs=1e-3) for token in tokens)
    assert all(token.words[0].distance <= token.words[1].distance for token in tokens)
    assert ({token.of for token in tokens}, unreadable, notes) == ({""}, "", [])


def test_a_moved_context_has_its_distance(mini: Backbone) -> None:
    method = create_method("coop", mini, NAMES, n_ctx=1, ctx_init="photo")
    with torch.no_grad():
        method.ctx[0, 0] += 1e-3  # type: ignore[index,operator]
    (token,), _, _ = context_tokens(method)
    assert token.words[0].word == "photo"
    assert token.words[0].distance == pytest.approx(1e-3, rel=0.05)


def test_class_specific_contexts_are_told_per_class(mini: Backbone) -> None:
    tokens, _, _ = context_tokens(create_method("coop", mini, NAMES, n_ctx=3, csc=True))
    assert [(token.of, token.place) for token in tokens] == [(name, n) for name in NAMES for n in range(3)]


@pytest.mark.parametrize(
    ("name", "words"),
    [("zero-shot", "ready-made"), ("tip-adapter", "none to read"), ("vpt", "none to read"), ("linear-probe", "none")],
)
def test_methods_without_words_say_so(mini: Backbone, name: str, words: str) -> None:
    tokens, unreadable, _ = context_tokens(create_method(name, mini, NAMES))
    assert tokens == []
    assert words in unreadable


@pytest.mark.parametrize(("name", "note"), [("cocoop", "Every image moves"), ("maple", "further layers"), ("pre", "")])
def test_what_a_reader_must_know_is_noted(mini: Backbone, name: str, note: str) -> None:
    tokens, _, notes = context_tokens(create_method(name, mini, NAMES))
    assert tokens
    assert (note in " ".join(notes)) if note else not notes


def test_usual_distance_is_that_of_neighbours(mini: Backbone) -> None:
    table = next(mini.text.embedding.parameters())
    nearest = torch.cdist(table[:1], table).sort().values[0, 1]
    assert 0 < usual_distance(mini.text) < 20 * float(nearest)


def test_geometry_by_hand() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    words = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    found = geometry(images, words, torch.tensor([0, 0, 1]))
    # means (2/3, 1/3) and (1/2, -1/2)
    assert found.modality_gap == pytest.approx(sqrt((1 / 6) ** 2 + (5 / 6) ** 2))
    assert found.alignment == pytest.approx((0 + 2 + 2) / 3)
    assert found.uniformity_images == pytest.approx(log((2 * exp(-4) + 1) / 3))
    assert found.uniformity_words == pytest.approx(-4)
    assert geometry(images[:1], words[:1], torch.tensor([0])).uniformity_images is None
    assert similarity(2 * words) == [[pytest.approx(1), pytest.approx(0)], [pytest.approx(0), pytest.approx(1)]]


def test_margins_by_hand() -> None:
    cosines = torch.tensor([[0.9, 0.2, 0.5], [0.1, 0.3, 0.8]])
    assert margins(cosines, torch.tensor([0, 1])).tolist() == pytest.approx([0.4, -0.5])
    assert margins(cosines[:, :1], torch.tensor([0, 0])).isnan().all()


@pytest.fixture(scope="module")
def run_id(ws: Workspace, dataset_id: int) -> str:  # noqa: F811
    return finish(ws, begin(ws, dataset_id, settings={"n_ctx": 4})).id


def test_a_run_is_read_and_kept(ws: Workspace, run_id: str) -> None:  # noqa: F811
    assert read_words(ws, run_id) is None
    found = what_it_says(ws, run_id)
    assert found.class_names == sorted(COLOURS)
    assert (len(found.tokens), found.images, len(found.margins)) == (4, 24, 4)
    assert found.before is not None
    assert found.after is not None
    assert found.similarity_after is not None
    assert all(found.similarity_after[c][c] == pytest.approx(1, abs=1e-5) for c in range(4))
    assert found.before.uniformity_images == pytest.approx(found.after.uniformity_images)  # no image moved
    assert found.before.modality_gap != found.after.modality_gap
    assert read_words(ws, run_id) == found


def test_a_run_that_is_not_there(ws: Workspace) -> None:  # noqa: F811
    with pytest.raises(ConfigError):
        what_it_says(ws, "gone")


def test_one_image_for_several_prompts(ws: Workspace, run_id: str, tmp_path: object) -> None:  # noqa: F811
    file = f"{tmp_path}/red.png"
    draw(COLOURS["red thing"], 5).resize((96, 60)).save(file)
    ready, learned = ask(ws, [run_id], file)
    assert (ready.run_id, learned.run_id) == (READY_MADE, run_id)
    for each in (ready, learned):
        assert each.where is not None
        assert each.where.shape == (60, 96)
        assert each.where[:, :18].max() == 0  # outside the square that the model sees
        assert each.looked_for == each.top[0][0]
    pictures = overlays([ready, learned])
    assert all(pictures)
    named, _ = ask(ws, [run_id], file, class_name="grey thing", rule="rollout")
    assert named.looked_for == "grey thing"


def test_prompts_stay_loaded_but_not_without_bound(
    ws: Workspace,  # noqa: F811
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = prompt_folder(ws, run_id)
    other = Path(shutil.copytree(folder, tmp_path / "prompt"))
    forget_prompts()
    first = warm_prompt(folder)[0]
    assert warm_prompt(folder)[0] is first
    monkeypatch.setattr("engines.inspection.try_it.WARM", 1)
    warm_prompt(other)
    assert warm_prompt(folder)[0] is not first
