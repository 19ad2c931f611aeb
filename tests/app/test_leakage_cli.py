"""promptloupe leakage: maps, repair and edit of a sample, for people and for machines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from engines import jobs
from engines.diffusion.leakage.repairs import find_repair
from engines.diffusion.leakage.studies import find_study
from engines.store import Workspace
from tests.diffusion.tiny import tiny_pipeline

Say = Callable[..., tuple[int, str, str]]
SAMPLE = ("sample:circle-star", "--word", "circle", "--word", "star", "--model", "tiny", "--steps", "3")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace, whose engine sees a models folder with a tiny random model."""
    folder = tmp_path_factory.mktemp("leakage")
    tiny_pipeline("sd1").save_pretrained(folder / "models" / "tiny")
    before = os.environ.get("PROMPTLOUPE_MODELS")
    os.environ["PROMPTLOUPE_MODELS"] = str(folder / "models")
    yield folder
    os.environ.pop("PROMPTLOUPE_MODELS")
    if before is not None:
        os.environ["PROMPTLOUPE_MODELS"] = before
    workspace = Workspace.open(folder / "clinic")
    jobs.stop_engine(workspace, wait=0)
    workspace.close()


@pytest.fixture
def say(home: Path, monkeypatch: pytest.MonkeyPatch, promptloupe: Say) -> Say:
    monkeypatch.setenv("PROMPTLOUPE_WORKSPACE", str(home / "clinic"))
    monkeypatch.setenv("COLUMNS", "200")
    return partial(promptloupe, "leakage")


def test_a_sample_is_looked_at_repaired_and_edited(say: Say, home: Path) -> None:
    code, out, err = say("maps", *SAMPLE)
    assert code == 0, err
    assert "of “circle” falls on the star" in out
    code, out, err = say("repair", *SAMPLE, "--set", "attention_steps=2", "--set", "null_steps=1", "--json")
    assert code == 0, err
    repaired = json.loads(out)
    assert repaired["chosen"] == [2, 6]
    assert set(repaired["figures_after"]) == {"2", "6"}
    code, out, err = say("repair", *SAMPLE, "--set", "attention_steps=2", "--masks", "--adjectives", "--json")
    assert code == 0, err
    workspace = Workspace.open(home / "clinic")
    study = find_study(workspace, repaired["study"])
    assert find_repair(study, json.loads(out)["repair"]).request.adjectives == {2: 1, 6: 5}  # red circle, blue star
    workspace.close()
    edit = ("edit", repaired["study"], "--to", "a red heart and a blue star on grass", "--out", str(home / "edited"))
    code, out, err = say(*edit)
    assert code == 0, err
    assert "(DPL)" in out  # the table is as wide as the window of whoever imported it first
    with Image.open(home / "edited" / "dpl.png") as picture:
        assert picture.info["synthetic"] == "true"
    code, _, err = say(*edit)  # what lies there is not overwritten
    assert code == 1
    assert "lies in that folder already" in err


def test_what_cannot_be_done_is_said(say: Say, tmp_path: Path) -> None:
    Image.new("RGB", (20_000, 20)).save(tmp_path / "thread.png")
    for arguments, said in (
        (("maps", *SAMPLE[:1], "--word", "hippo", "--model", "tiny"), "does not contain “hippo”"),
        (("maps", *SAMPLE[:1], "--model", "tiny"), "No word is chosen"),
        (("maps", *SAMPLE[:3], "--model", "nothing"), "no text-to-image model “nothing”"),
        (("maps", "sample:hippo", "--word", "hippo", "--model", "tiny"), "no sample picture “hippo”"),
        (("maps", str(tmp_path / "thread.png"), "--caption", "a thread", "--model", "tiny"), "most would be cut off"),
        (("maps", str(tmp_path / "none.png"), "--caption", "a thread", "--model", "tiny"), "none.png"),
        (("repair", *SAMPLE, "--set", "attention_steps=-1"), "attention_steps"),
        (("repair", *SAMPLE, "--adjectives"), "Adjectives can be bound with masks only"),
        (("edit", "0123456789abcdef", "--to", "a heart"), "no such picture under study"),
    ):
        code, _, err = say(*arguments)
        assert code == 1, arguments
        assert said in err
