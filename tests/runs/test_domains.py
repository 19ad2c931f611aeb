"""Methods that learn from images of several domains, from the request to the result, through the shipped model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engines.backbones import load_backbone
from engines.errors import Cancelled, ConfigError
from engines.prompts import load_prompt, trainer
from engines.prompts.trainer import Examples
from engines.runs import perform as performing
from engines.runs.perform import Observer, perform
from engines.runs.request import TrainRequest, create_runs
from engines.store import Sample, Workspace
from tests.runs.conftest import COLOURS
from tests.runs.test_perform import begin, finish

SITES = ("Basel", "Leiden", "Porto")
REQUESTS: dict[str, dict[str, Any]] = {
    "ad-clip": {
        "settings": {"domain_hidden": 16, "style_mapping_hidden": 16},
        "training": {"epochs": 4, "batch_size": 8, "learning_rate": 0.003, "warmup_epochs": 0},
    },
    "spg": {
        "settings": {"label_passes": 4, "draws": 2},
        "training": {"epochs": 4, "batch_size": 8, "views": 2, "warmup_epochs": 1},
    },
}


@pytest.fixture(scope="module")
def sites(ws: Workspace, dataset_id: int) -> int:
    """The images of `dataset_id`, each said to come from one of three sites in turn."""
    with ws.session() as session:
        for sample in session.query(Sample).filter_by(dataset_id=dataset_id):
            sample.domain = SITES[sample.position % 3]
    return dataset_id


def ask(method: str, **values: Any) -> dict[str, Any]:
    request = {"method": method, "protocol": "domain-generalisation", "target_domains": ["Porto"]}
    return request | REQUESTS[method] | values


@pytest.mark.parametrize("method", REQUESTS)
def test_domain_generalisation(ws: Workspace, sites: int, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Examples] = []

    def train(method: Any, examples: Examples, *args: Any) -> Any:
        seen.append(examples)
        return trainer.train(method, examples, *args)

    monkeypatch.setattr(performing, "train", train)
    metrics: dict[str, list[float]] = {}
    observer = Observer(metric=lambda name, step, value: metrics.setdefault(name, []).append(value))
    run = finish(ws, begin(ws, sites, **ask(method)), observer)
    summary = run.summary
    assert list(summary["targets"]) == ["Porto"]
    target = summary["targets"]["Porto"]
    assert target["images"] == 8
    assert 0 <= target["accuracy"] <= 1
    assert summary["target_accuracy"] == target["accuracy"]
    assert (summary["images_trained"], summary["images"]) == (16, 16)
    assert summary["class_names"] == sorted(COLOURS)
    assert len(metrics["loss"]) == 4
    assert np.isfinite(metrics["loss"]).all()
    (examples,) = seen
    assert examples.domains is not None
    assert examples.domains.unique().tolist() == [0, 1]
    assert examples.unlabelled is not None
    assert examples.unlabelled.labels.unique().tolist() == [-1]
    folder = ws.run_folder(run.id) / "prompt"
    tensors = load_file(folder / "prompt.safetensors")
    if method == "spg":
        assert len(tensors["prompt_labels"]) == 2
        assert len(tensors["best"]) == 0
    loaded = load_prompt(folder, load_backbone("mini-clip"))
    pixels = torch.randn(2, 3, loaded.backbone.image_size, loaded.backbone.image_size)
    assert torch.equal(loaded.logits(pixels), loaded.logits(pixels))


@pytest.mark.parametrize("method", REQUESTS)
def test_an_interrupted_run_ends_as_an_undisturbed_one(ws: Workspace, sites: int, method: str) -> None:
    """Stopped amid its third pass, of two steps each."""
    undisturbed = finish(ws, begin(ws, sites, **ask(method)))
    run, steps = begin(ws, sites, **ask(method)), iter(range(1000))

    def stop(fraction: float, message: str) -> None:
        if message.startswith("Training") and next(steps) == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        perform(ws, run, Observer(progress=stop))
    resumed = finish(ws, run)
    for key in ("accuracy", "ece", "confusion", "targets"):
        assert resumed.summary[key] == undisturbed.summary[key]


def test_fresh_crops_for_every_step(ws: Workspace, sites: int) -> None:
    training = REQUESTS["spg"]["training"] | {"views": 0}
    first, second = (finish(ws, begin(ws, sites, **ask("spg", training=training))).summary for _ in range(2))
    assert first["confusion"] == second["confusion"]
    assert first["ece"] == second["ece"]


def test_one_domain_is_too_little_for_spg(ws: Workspace, sites: int) -> None:
    request = TrainRequest(dataset_id=sites, shots=2, seeds=[1], **ask("spg", target_domains=["Porto", "Basel"]))
    with pytest.raises(ConfigError, match="one domain"):
        finish(ws, create_runs(ws, request)[0])
