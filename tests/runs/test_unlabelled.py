"""Methods that learn from images without labels, from the request to the result, through the shipped model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engines.backbones import load_backbone
from engines.prompts import create_method, load_prompt, trainer
from engines.prompts.trainer import Examples
from engines.runs import perform as performing
from engines.runs.perform import Observer
from engines.runs.tables import read_predictions
from engines.store import Workspace
from tests.runs.conftest import COLOURS
from tests.runs.test_perform import begin, finish

TRAINING: dict[str, dict[str, Any]] = {
    "tfup": {},
    "tfup-t": {"epochs": 8, "views": 2},
    "promptkd": {"epochs": 10, "learning_rate": 0.02, "warmup_epochs": 0},
}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Examples]:
    """What the trainer is given, while it trains as ever."""
    seen: list[Examples] = []

    def train(method: Any, examples: Examples, *args: Any) -> Any:
        seen.append(examples)
        return trainer.train(method, examples, *args)

    monkeypatch.setattr(performing, "train", train)
    return seen


@pytest.mark.parametrize("method", TRAINING)
def test_unsupervised(ws: Workspace, dataset_id: int, method: str, given: list[Examples]) -> None:
    metrics: dict[str, list[float]] = {}
    observer = Observer(metric=lambda name, step, value: metrics.setdefault(name, []).append(value))
    request = {"method": method, "protocol": "unsupervised", "training": TRAINING[method]}
    run = finish(ws, begin(ws, dataset_id, **request), observer)
    summary = run.summary
    assert (run.protocol, run.shots, summary["images_trained"], summary["images"]) == ("unsupervised", 0, 32, 24)
    assert summary["class_names"] == sorted(COLOURS)
    assert summary["accuracy"] >= summary["zero_shot"]["accuracy"] - 0.15
    (examples,) = given
    assert examples.labels.tolist() == [-1] * 32
    assert examples.val_features is None
    assert "train_accuracy" not in metrics
    assert np.isfinite(metrics["loss"]).all()
    assert len(metrics["loss"]) == TRAINING[method].get("epochs", 1)
    rows = read_predictions(ws.run_folder(run.id) / "predictions.parquet")
    assert sum(row["true"] == row["predicted"] for row in rows) / 24 == pytest.approx(summary["accuracy"])


def test_asked_for_a_few_labels_it_still_gets_none(ws: Workspace, dataset_id: int, given: list[Examples]) -> None:
    run = finish(ws, begin(ws, dataset_id, method="tfup", training={}, shots=4))
    assert (run.protocol, run.shots) == ("unsupervised", 0)
    assert given[0].labels.tolist() == [-1] * 32


def test_the_memory_comes_with_the_prompt(ws: Workspace, dataset_id: int) -> None:
    """Nine images of each class; another process answers from them alone."""
    run = finish(ws, begin(ws, dataset_id, method="tfup", training={}))
    folder = ws.run_folder(run.id) / "prompt"
    backbone = load_backbone("mini-clip")
    assert load_file(folder / "prompt.safetensors")["keys"].shape == (4, 9, backbone.embed_dim)
    features = torch.randn(6, backbone.embed_dim)
    logits = load_prompt(folder, backbone).logits(features=features)
    ready_made = create_method("zero-shot", backbone, sorted(COLOURS)).logits(features=features)
    ratio = 100 / float(backbone.logit_scale)
    assert 0.01 < float((logits - ratio * ready_made).abs().max()) < 0.3 * 9 * np.e + 0.01


def test_fresh_crops_for_every_step(ws: Workspace, dataset_id: int) -> None:
    """Then the uncropped images, which TFUP-T labels, are cached features all the same."""
    live = {"epochs": 7, "views": 0, "batch_size": 16}
    first, second = (finish(ws, begin(ws, dataset_id, method="tfup-t", training=live)).summary for _ in range(2))
    assert first["confusion"] == second["confusion"]
    assert first["ece"] == second["ece"]


def test_base_to_new_with_a_learned_teacher(ws: Workspace, dataset_id: int) -> None:
    """A prompt learned from labels teaches a student on all images; each half is judged among its own classes."""
    teacher = finish(ws, begin(ws, dataset_id, settings={"n_ctx": 4}, training={"epochs": 20, "learning_rate": 0.02}))
    settings = {"teacher_prompt": str(ws.run_folder(teacher.id) / "prompt"), "prompt_depth_vision": 2}
    training = {"epochs": 10, "learning_rate": 0.02, "warmup_epochs": 0}
    request = {"method": "promptkd", "protocol": "base-to-new", "settings": settings, "training": training}
    run = finish(ws, begin(ws, dataset_id, **request))
    summary = run.summary
    assert summary["images_trained"] == 32
    assert summary["class_names"] == ["blue thing", "green thing"]
    assert summary["new"]["class_names"] == ["grey thing", "red thing"]
    assert set(summary) >= {"base_accuracy", "new_accuracy", "harmonic_mean"}
    assert summary["harmonic_mean"] > 0.6
    student = load_prompt(ws.run_folder(run.id) / "prompt", load_backbone("mini-clip"))
    taught = load_prompt(ws.run_folder(teacher.id) / "prompt", load_backbone("mini-clip"))
    assert student.class_names == sorted(COLOURS)
    assert torch.allclose(student.text_features(), taught.text_features(), atol=1e-6)
