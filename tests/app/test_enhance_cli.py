"""promptloupe enhance: photos, methods, a checkpoint of one's own and a training, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines import jobs
from engines.store import Workspace

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a workspace, and photos of both kinds."""
    folder, draw = tmp_path_factory.mktemp("enhance"), np.random.default_rng(5)
    for name, gain in (("dark", 0.2), ("bright", 1.0)):
        (folder / name).mkdir()
        for number in range(2):
            values = (draw.random((32, 40, 3)) * 255 * gain).astype(np.uint8)
            Image.fromarray(values).save(folder / name / f"{number}.png")
    (folder / "dark" / "text.jpg").write_text("no photo")
    workspace = Workspace.open(folder / "clinic")
    yield folder
    jobs.stop_engine(workspace, wait=0)
    workspace.close()


@pytest.fixture
def say(clinic: Path, monkeypatch: pytest.MonkeyPatch, promptloupe: Say) -> Say:
    monkeypatch.setenv("PROMPTLOUPE_WORKSPACE", str(clinic / "clinic"))
    monkeypatch.chdir(clinic)
    return partial(promptloupe, "enhance")


def test_a_folder_is_enhanced_and_the_bad_file_is_told(say: Say, clinic: Path) -> None:
    code, out, err = say("dark", "--method", "auto-gamma", "--strength", "0.5", "--out", "out")
    assert code == 0
    assert "2 results are in" in out
    assert "text.jpg" in err
    card = json.loads((clinic / "out" / "0.json").read_text())
    assert (card["recipe"]["method"], card["recipe"]["strength"]) == ("auto-gamma", 0.5)
    code, out, _ = say(
        "dark/0.png", "dark/1.png", "--method", "clahe", "--method", "msrcr", "--format", "tif", "--json"
    )
    assert code == 0
    found = json.loads(out)
    assert [each["output"] for each in found["results"]] == [
        f"{name}/{number}.tif" for name in ("CLAHE", "Retinex (MSRCR)") for number in (0, 1)
    ]
    assert (Path(found["folder"]) / "CLAHE" / "1.tif").is_file()
    assert sorted(path.name for path in (clinic / "dark").iterdir()) == ["0.png", "1.png", "text.jpg"]


def test_a_training_gives_a_method(say: Say, clinic: Path) -> None:
    steps = {"rounds": 1, "prompt_steps": 2, "warm_up_steps": 1, "enhance_steps": 2, "size": 32, "batch": 2}
    steps |= {"prompt_batch": 2, "extensions": 0}
    chosen = [part for name, value in steps.items() for part in ("--set", f"{name}={value}")]
    code, out, _ = say("train", "dark", "bright", "--name", "Camera 2", "--json", *chosen)
    assert code == 0
    made = json.loads(out)
    assert made["steps"] == 5
    assert all(0 <= value <= 1 for value in made["p_backlit"])
    assert "Camera 2" in say("methods")[1]
    assert json.loads(say("trainings", "--json")[1])[0]["usable"]
    weights = clinic / "clinic" / "media" / "enhancers" / made["method"] / "enhancer.safetensors"
    code, out, _ = say("add", str(weights), "--name", "A copy", "--json")
    assert code == 0
    code, out, _ = say("dark/0.png", "--method", "A copy", "--out", "by copy", "--json")
    assert code == 0
    assert json.loads(out)["done"] == 1


def test_mistakes_are_told_in_a_sentence(say: Say) -> None:
    for arguments, words in (
        (["gone.png"], "no file or folder “gone.png”"),
        (["dark", "--method", "magic"], "There is no way to enhance called “magic”"),
        (["dark", "--format", "gif"], "kind"),
        (["dark/text.jpg"], "No photo could be enhanced"),
        (["dark", "--out", "dark"], "cannot go where the originals are"),
        (["train", "dark"], "CLIP-LIT needs well-lit photos"),
        (["train", "dark", "bright", "--length", "Now"], "no length “Now”"),
        (["train", "dark", "bright", "--set", "rounds=0"], "rounds"),
        (["add", "dark/0.png"], "cannot be read as a file of weights"),
    ):
        code, _, err = say(*arguments)
        assert code == 1
        assert words in " ".join(err.split())
