"""A study from its prompts to its ZIP file, as jobs do it: stopped, resumed, with odd prompts, NaN, full disks."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from engines.diffusion.golden import perform
from engines.diffusion.golden.judged import judgements
from engines.diffusion.golden.pairs import PairStore
from engines.diffusion.golden.prompts import trials
from engines.diffusion.golden.sample_prompts import scene_prompts
from engines.diffusion.golden.settings import CollectSettings
from engines.diffusion.golden.study import Study, StudyRequest, create, find, key_of, studies
from engines.diffusion.model import TextToImage
from engines.errors import Cancelled, ConfigError, DataError
from engines.jobs import JobContext, find_kind
from engines.store import Workspace
from tests.diffusion.tiny import tiny_pipeline
from tests.faults import full_disk

PROMPTS = "\n".join(scene_prompts(4))
TRAINING = {"epochs": 2, "batch": 4, "held_out": 0.5, "margin": None}
Ask = Callable[..., Study]


def request(model: str, prompts: str, scorer: str, **settings: Any) -> StudyRequest:
    return StudyRequest(model=model, prompts=prompts, scorer=scorer, settings=CollectSettings(**settings))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a random text-to-image model."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline("sd1").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def loaded_once() -> Iterator[None]:
    """Models are read from the disk once: these tests are about what is done with them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_text_to_image", "load_backbone"):
            patch.setattr(perform, name, cache(getattr(perform, name)))
        yield


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(tmp_path_factory.mktemp("golden") / "clinic")


@pytest.fixture
def ask(ws: Workspace, model: str) -> Ask:
    def asked(prompts: str = PROMPTS, scorer: str = "scenes", **settings: Any) -> Study:
        return create(ws, request(model, prompts, scorer, **{"steps": 2, "each": 3, **settings}))

    return asked


class Impatient(JobContext):
    """A job that somebody cancels when it asks for the `patience`-th time."""

    def __init__(self, workspace: Workspace, patience: int) -> None:
        super().__init__(workspace)
        self.patience = patience

    def check_cancelled(self) -> None:
        self.patience -= 1
        if self.patience <= 0:
            raise Cancelled


def work(ws: Workspace, kind: str, study: Study, job: JobContext | None = None, **payload: Any) -> dict[str, Any]:
    found = find_kind(kind)
    return found.run(job or JobContext(ws), found.parse({"study": study.id, **payload}))


def contents(study: Study) -> dict[tuple[str, int], float]:
    with PairStore(study.pairs) as store:
        return {(pair.prompt, pair.seed): pair.gain for pair in store.pairs}


@pytest.fixture(scope="module")
def done(ws: Workspace, model: str) -> Study:
    """A study that went through everything."""
    asked = request(model, PROMPTS, "scenes", steps=2, each=3)
    study = create(ws, asked.model_copy(update={"name": "Mini world"}))
    work(ws, "golden-collect", study)
    work(ws, "golden-train", study, settings=TRAINING)
    work(ws, "golden-judge", study, settings={"each": 2})
    return study


def test_pairs_are_shown_and_counted(ws: Workspace, done: Study) -> None:
    shown = done.shown()
    assert {(each.prompt, each.seed): each.gain for each in shown} == pytest.approx(contents(done))
    assert len(shown) == 12
    won = done.won()
    assert won is not None
    assert won.wins == sum(each.gain > 0 for each in shown)
    with Image.open(done.picture(shown[0].key, "golden")) as image:
        assert image.size == (32, 32)
        assert "synthetic" in image.info["Source"]
        assert shown[0].prompt in image.info["Description"]
    assert [study.id for study in studies(ws) if study.request.name] == [done.id]
    assert find(ws, "Mini world").id == done.id


def test_the_curve_stands_beside_the_error_of_changing_nothing(done: Study) -> None:
    curve = done.newest()
    assert curve is not None
    assert (len(curve.train), len(curve.held_out), curve.passes) == (2, 2, 2)
    assert (curve.pairs, curve.held_out_pairs, len(curve.held_out_prompts)) == (6, 6, 2)
    with PairStore(done.pairs) as store:
        held = [n for n, pair in enumerate(store.pairs) if pair.prompt in curve.held_out_prompts]
        errors = [(store.arrays(n).golden - store.arrays(n).noise).square().mean() for n in held]
    assert curve.unchanged == pytest.approx(float(torch.stack(errors).mean()), rel=1e-5)
    assert curve.network is not None


def test_judging_takes_prompts_and_noises_that_nothing_learnt_from(done: Study) -> None:
    curve, judgement = done.newest(), judgements(done)[-1]
    assert curve is not None
    rows = judgement.rows()
    assert judgement.kinds == ["standard", "golden", "NPNet"]
    assert list(judgement.scorers) == ["scenes", "clip"]
    assert judgement.new_prompts
    assert sorted({row.prompt for row in rows}) == curve.held_out_prompts
    assert len({row.seed for row in rows} | {each.seed for each in done.shown()}) == 4 + 12
    for row in rows:
        assert row.noise["standard"]["cosine"] == pytest.approx(1)
        assert row.noise["golden"]["cosine"] is not None
        assert row.noise["golden"]["cosine"] < 0.9999
        assert all(judgement.picture(row.number, kind).is_file() for kind in judgement.kinds)
    found = judgement.comparison("scenes", "NPNet")
    assert found is not None
    assert found.pairs == 4


def test_everything_is_packed_with_its_card(ws: Workspace, done: Study) -> None:
    result = work(ws, "golden-export", done)
    with zipfile.ZipFile(ws.resolve(result["path"])) as archive:
        names = archive.namelist()
        card = archive.read("README.md").decode()
        assert archive.testzip() is None
    for wanted in ("npnet.safetensors", "pairs/about.json", "pairs/shard-00000.safetensors", "images/shown.jsonl"):
        assert wanted in names
    assert sum(name.startswith("images/pairs/") for name in names) == 24
    assert sum(name.endswith("-NPNet.png") for name in names) == 4
    assert card.startswith("---\nlibrary_name: promptloupe")
    assert "12 pairs. By the score that they were chosen by, " in card
    assert "Mean squared error there: " in card
    assert "NPNet against standard noise, Check by rules: " in card
    small = ws.resolve(work(ws, "golden-export", done, parts=["network"])["path"])
    assert zipfile.ZipFile(small).namelist() == ["README.md", "npnet.safetensors"]


def test_a_cancelled_export_leaves_nothing(ws: Workspace, done: Study) -> None:
    before = set(ws.folder("exports").iterdir())
    with pytest.raises(Cancelled):
        work(ws, "golden-export", done, Impatient(ws, 3), parts=["pairs", "images"])
    assert set(ws.folder("exports").iterdir()) == before


def test_each_step_is_stopped_and_goes_on(ws: Workspace, done: Study, ask: Ask) -> None:
    study = ask()
    with pytest.raises(Cancelled):
        work(ws, "golden-collect", study, Impatient(ws, 2))
    assert 0 < len(contents(study)) < 12
    work(ws, "golden-collect", study)
    assert contents(study) == pytest.approx(contents(done), abs=1e-3)
    assert len(study.shown()) == 12
    with pytest.raises(Cancelled):
        work(ws, "golden-train", study, Impatient(ws, 4), settings=TRAINING)
    stopped = study.newest()
    assert stopped is not None
    assert len(stopped.held_out) == 1
    work(ws, "golden-train", study, settings=TRAINING)
    curves = study.curves()
    assert len(curves) == 1
    assert curves[0].held_out == pytest.approx(done.curves()[0].held_out, rel=1e-2)
    with pytest.raises(Cancelled):
        work(ws, "golden-judge", study, Impatient(ws, 2), settings={"each": 2})
    assert len(judgements(study)[-1].rows()) == 2
    work(ws, "golden-judge", study, settings={"each": 2})
    assert [row.number for row in judgements(study)[-1].rows()] == [0, 1, 2, 3]
    assert len(judgements(study)) == 1


def test_other_settings_train_another_network(ws: Workspace, done: Study) -> None:
    work(ws, "golden-train", done, settings={"epochs": 1, "margin": None, "held_out": 0.5, "svd": False})
    newest = done.newest()
    assert newest is not None
    assert (len(done.curves()), len(newest.held_out)) == (2, 1)


def test_prompts_that_are_empty_or_endless(ws: Workspace, ask: Ask) -> None:
    """Judged by CLIP, whose text tower reads 77 tokens."""
    study = ask(f"a red circle\n\n   \n{'a blue star ' * 900}\na red circle", "clip", each=1)
    work(ws, "golden-collect", study)
    assert len(study.shown()) == 2
    assert study.notes == [
        "Lines 2 and 3 are empty and left out.",
        "Line 5 is repeated and left out.",
        "Line 4 is too long: the model reads only the first 75 tokens.",
    ]
    with pytest.raises(ConfigError, match="There is no prompt"):
        work(ws, "golden-collect", ask(" \n"))


def test_nan_costs_the_pair_and_nothing_else(ws: Workspace, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = TextToImage.decode, iter([True])

    def broken(self: TextToImage, latents: Tensor) -> Tensor:
        pixels = whole(self, latents)
        if next(calls, False):
            pixels[0] = torch.nan
        return pixels

    study = ask()
    monkeypatch.setattr(TextToImage, "decode", broken)
    work(ws, "golden-collect", study)
    assert len(study.shown()) == len(contents(study)) == 11
    assert "answered with NaN; left out" in study.notes[0]
    calls = iter([True])
    work(ws, "golden-judge", study, settings={"most": 4})
    judgement = judgements(study)[-1]
    rows = judgement.rows()
    assert [row.scores["scenes"]["standard"] is None for row in rows] == [True, False, False, False]
    assert not judgement.picture(0, "standard").exists()
    found = judgement.comparison("scenes", "golden")
    assert found is not None
    assert found.pairs == 3


def test_a_full_disk_is_said_and_nothing_is_lost(ws: Workspace, ask: Ask) -> None:
    study = ask()
    with pytest.raises(Cancelled):
        work(ws, "golden-collect", study, Impatient(ws, 2))
    kept = contents(study)
    last = trials(PROMPTS.splitlines(), each=3)[-1]
    picture = study.picture(key_of(last.prompt, last.seed), "golden").name
    with full_disk(picture), pytest.raises(DataError, match="The disk is full"):
        work(ws, "golden-collect", study)
    assert kept.items() < contents(study).items()
    assert len(study.shown()) == 11
    work(ws, "golden-collect", study)
    assert len(study.shown()) == len(contents(study)) == 12


def test_pairs_made_otherwise_are_refused_before_anything_is_changed(done: Study) -> None:
    asked = done.request
    steps = asked.settings.model_copy(update={"steps": 3})
    with pytest.raises(ConfigError, match="Denoising steps 2, not 3"):
        done.ask(asked.model_copy(update={"settings": steps}))
    with pytest.raises(ConfigError, match="judged by scenes, not clip"):
        done.ask(asked.model_copy(update={"scorer": "clip"}))
    assert done.request == asked
    more = asked.settings.model_copy(update={"each": 4})
    done.ask(asked.model_copy(update={"settings": more}))
    done.ask(asked)


def test_noises_that_pairs_were_made_of_are_no_test(ws: Workspace, done: Study) -> None:
    with pytest.raises(ConfigError, match="Pairs were made of the noises to judge with"):
        work(ws, "golden-judge", done, settings={"seed": 0})


def test_too_little_to_learn_from_is_said(ws: Workspace, ask: Ask) -> None:
    study = ask("a red circle", each=1)
    with pytest.raises(DataError, match="holds no pairs"):
        work(ws, "golden-train", study)
    work(ws, "golden-collect", study)
    with pytest.raises(ConfigError, match="training needs two"):
        work(ws, "golden-train", study, settings={"margin": None})


def test_damaged_files_cost_what_they_hold(ws: Workspace, ask: Ask) -> None:
    study = ask(each=1)
    work(ws, "golden-collect", study)
    with (study.folder / "shown.jsonl").open("ab") as file:
        file.write(b'{"key": "torn')
    (study.folder / "notes.json").write_text("[")
    (study.folder / "networks" / "x").mkdir(parents=True)
    (study.folder / "networks" / "x" / "about.json").write_text(json.dumps({"unchanged": 1}))
    assert (len(study.shown()), study.notes, study.curves()) == (4, [], [])
    (study.folder / "study.json").write_text("{")
    assert study.id not in [each.id for each in studies(ws)]
