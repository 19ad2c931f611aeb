"""Answers of a prompt that finds defects, for images that were never imported: scores, maps, files without pixels."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines.backbones import load_backbone
from engines.errors import ConfigError
from engines.jobs.kinds import predict as kinds
from engines.prompts import create_method
from engines.runs.predict import predict
from engines.store import Run, Workspace
from tests.runs.test_defects import texture

CLASSES = ["normal", "anomalous"]


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    method = create_method("anomalyclip", load_backbone("mini-clip"), CLASSES, n_ctx=4)
    return method.save(tmp_path_factory.mktemp("prompt"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of the same name in two folders, one of them not square, and one file that is no image."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for place, kind in (("a", "stripes"), ("b", "rings")):
        (folder / place).mkdir()
        pixels = texture(kind, rng).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels[: 60 if place == "b" else 96]).save(folder / place / "part.png")
    (folder / "c.png").write_bytes(b"no image")
    return folder


def test_scores_and_maps_of_a_folder(prompt: Path, images: Path, tmp_path: Path) -> None:
    files = sorted(images.rglob("*.png"))
    answers = predict(prompt, files, maps=tmp_path / "maps")
    assert [Path(answer["file"]).parent.name for answer in answers] == ["a", "b", images.name]
    assert "cannot be used" in answers[2]["error"]
    assert "score" not in answers[2]
    method = create_method("anomalyclip", load_backbone("mini-clip"), CLASSES, n_ctx=4)
    for answer in answers[:2]:
        learned = {best["class"]: best["probability"] for best in answer["learned"]}
        ready = {best["class"]: best["probability"] for best in answer["ready_made"]}
        assert learned["anomalous"] == pytest.approx(answer["score"], abs=1e-6)
        assert ready["anomalous"] == pytest.approx(answer["ready_made_score"], abs=1e-6)
        assert sum(learned.values()) == pytest.approx(1, abs=1e-6)
        with Image.open(answer["map"]) as shown:
            assert (shown.mode, shown.size) == ("L", (method.image_size, method.image_size))
    assert answers[0]["map"] != answers[1]["map"]
    without = predict(prompt, files)
    assert "map" not in without[0]
    assert without[0]["score"] == pytest.approx(answers[0]["score"], abs=1e-6)


def test_other_prompts_have_no_maps(images: Path, tmp_path: Path) -> None:
    folder = create_method("coop", load_backbone("mini-clip"), ["red", "green"]).save(tmp_path / "coop")
    with pytest.raises(ConfigError, match="no maps of defects"):
        predict(folder, [images / "a" / "part.png"], maps=tmp_path / "maps")
    (answer,) = predict(folder, [images / "a" / "part.png"])
    assert "score" not in answer


@pytest.fixture
def job(tmp_path: Path, prompt: Path) -> Any:
    """What a job gets, in a workspace whose only run has left `prompt`."""
    workspace = Workspace.open(tmp_path / "lab")
    with workspace.session() as session:
        run = Run(name="AnomalyCLIP on parts", backbone="mini-clip", method="anomalyclip", state="done")
        session.add(run)
    place = workspace.run_folder(run.id) / "prompt"
    place.mkdir()
    for file in prompt.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    quiet = {"progress": lambda fraction, message: None, "check_cancelled": lambda: None}
    yield SimpleNamespace(workspace=workspace, run=run, id="0123456789ab", **quiet)
    workspace.close()


def test_a_folder_becomes_a_table_beside_its_maps(job: Any, images: Path) -> None:
    payload = kinds.PredictFolderPayload(run_id=job.run.id, folder=str(images), maps=True)
    result = kinds.run_folder(job, payload)
    rows = list(csv.DictReader(job.workspace.resolve(result["table"]).open(encoding="utf-8")))
    assert len(rows) == 3
    assert all(0 <= float(row["score"]) <= 1 and Path(row["map"]).is_file() for row in rows[:2])
    assert rows[2]["score"] == rows[2]["map"] == ""
    assert rows[2]["error"]
    assert len(list(job.workspace.resolve(result["maps"]).iterdir())) == 2


def test_maps_for_the_page_come_with_the_answer(job: Any, images: Path) -> None:
    asked = [str(images / "a" / "part.png"), str(images / "c.png")]
    answers = kinds.run(job, kinds.PredictPayload(run_id=job.run.id, images=asked, maps=True))["answers"]
    assert Image.open(io.BytesIO(base64.b64decode(answers[0]["map"]))).mode == "L"
    assert "map" not in answers[1]
