"""Training an enhancer: the order of stages, stopping and going on, every guidance, and what is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import engines.enhance.training as training_module
from engines.backbones import Backbone
from engines.enhance import load_enhancer, load_training_photos, train_enhancer
from engines.enhance.checkpoint import read_tensors
from engines.enhance.guidance import Antonyms, ClipView, LatentPair, PromptPair, RaveDirection, p_well_lit
from engines.enhance.losses import Identity, divided
from engines.enhance.network import LightMapNet
from engines.enhance.settings import Stage, TrainSettings
from engines.enhance.training import LIMITS, Progress
from engines.errors import BackboneError, ConfigError, DataError
from tests.parity import parity_weights


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.from_state_dict(parity_weights.tiny_clip_state_dict())


def photos(count: int, gain: float) -> Tensor:
    noise = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))
    return (noise * gain * 255).to(torch.uint8)


DARK, BRIGHT = photos(6, 0.25), photos(5, 1.0)
SHORT: dict[str, Any] = {
    "rounds": 2,
    "prompt_steps": 3,
    "warm_up_steps": 2,
    "enhance_steps": 3,
    "refine_steps": 2,
    "extensions": 0,
    "batch": 2,
    "prompt_batch": 4,
    "size": 32,
    "start": "unit",
    "checkpoint_every": 1000,
}


def training(backbone: Backbone, folder: Path, **changes: Any) -> Iterator[Progress]:
    return train_enhancer(backbone, DARK, BRIGHT, folder, TrainSettings(**SHORT | changes))


def test_stages_in_order(backbone: Backbone, tmp_path: Path) -> None:
    found = list(training(backbone, tmp_path))
    assert [(p.stage.name, p.round, p.step) for p in found] == [
        *[("PROMPT", 0, i) for i in (1, 2, 3)],
        *[("WARM_UP", 0, i) for i in (1, 2)],
        *[("ENHANCE", 1, i) for i in (1, 2, 3)],
        *[("REFINE", 1, i) for i in (1, 2)],
        *[("ENHANCE", 2, i) for i in (1, 2, 3)],
    ]
    assert [p.total for p in found] == list(range(1, 14))
    assert all((p.p_backlit is not None) == (p.stage is Stage.ENHANCE) for p in found)
    snapshots = [p.snapshot for p in found if p.snapshot]
    assert [path.name for path in snapshots] == ["round-1.safetensors", "round-2.safetensors"]
    pixels = np.full((20, 30, 3), 0.2, np.float32)
    last = load_enhancer(tmp_path).enhance(pixels)
    assert np.array_equal(last, load_enhancer(snapshots[1]).enhance(pixels))
    assert not np.array_equal(last, load_enhancer(snapshots[0]).enhance(pixels))
    assert list(training(backbone, tmp_path)) == []  # it is done


@pytest.mark.parametrize(
    ("guidance", "stages"), [("latent", "PROMPT WARM_UP ENHANCE REFINE ENHANCE"), ("rave", "WARM_UP ENHANCE")]
)
def test_other_guidance(backbone: Backbone, tmp_path: Path, guidance: str, stages: str) -> None:
    found = list(training(backbone, tmp_path, guidance=guidance))
    assert list(dict.fromkeys((p.stage.name, p.round) for p in found)) == [
        *zip(stages.split(), [0, 0, 1, 1, 2] if guidance == "latent" else [0, 1], strict=True)
    ]
    assert (tmp_path / "enhancer.safetensors").exists()


@pytest.mark.parametrize("stop", [2, 4, 9, 12])
def test_stopped_anywhere_ends_alike(backbone: Backbone, tmp_path: Path, stop: int) -> None:
    whole = [p.loss for p in training(backbone, tmp_path / "whole")]
    first = training(backbone, tmp_path / "parts")
    losses = [next(first).loss for _ in range(stop)]
    first.close()  # type: ignore[attr-defined]
    losses += [p.loss for p in training(backbone, tmp_path / "parts")]
    assert losses == whole
    a, b = (read_tensors(tmp_path / name / "enhancer.safetensors")[0] for name in ("whole", "parts"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_killed_goes_on_at_the_last_checkpoint(backbone: Backbone, tmp_path: Path) -> None:
    running = training(backbone, tmp_path)
    assert [next(running).total for _ in range(6)][-1] == 6
    kept = (tmp_path / "training.safetensors").read_bytes()  # written at the warm-up's end
    running.close()  # type: ignore[attr-defined]
    (tmp_path / "training.safetensors").write_bytes(kept)  # as a process that was killed would leave it
    assert next(training(backbone, tmp_path)).total == 6


def test_a_folder_keeps_its_training(backbone: Backbone, tmp_path: Path) -> None:
    next(started := training(backbone, tmp_path))
    started.close()  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="another choice of settings"):
        next(training(backbone, tmp_path, batch=3))
    with pytest.raises(ConfigError, match="another choice of photos"):
        next(train_enhancer(backbone, DARK[1:], BRIGHT, tmp_path, TrainSettings(**SHORT)))
    (tmp_path / "training.safetensors").write_bytes(b"broken")
    with pytest.raises(BackboneError, match="damaged"):
        next(training(backbone, tmp_path))


def test_high_loss_prolongs_a_stage(backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refinement whose mean loss stays above 60 goes on, at most `extensions` times."""
    monkeypatch.setitem(LIMITS, Stage.REFINE, (60.0, 3))
    monkeypatch.delitem(LIMITS, Stage.ENHANCE)
    refined = [p for p in training(backbone, tmp_path, extensions=2, prompt_steps=1) if p.stage is Stage.REFINE]
    assert sum(p.loss for p in refined) / len(refined) > 60
    assert [(p.step, p.steps) for p in refined] == [
        *[(i, 2) for i in (1, 2)],
        *[(i, 5) for i in (3, 4, 5)],
        *[(i, 8) for i in (6, 7, 8)],
    ]


def test_failed_start_is_told_or_repaired(backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose light map is 0 everywhere turns photos white, and has no gradient."""
    monkeypatch.setattr(training_module, "REDRAW_AFTER", 4)
    dead = LightMapNet("zeros")
    with torch.no_grad():
        dead.cond_add1.bias.fill_(-10)
    settings = TrainSettings(**SHORT | {"warm_up_steps": 6, "rounds": 1, "guidance": "rave"})
    with pytest.raises(BackboneError, match="warm-up failed"):
        list(train_enhancer(backbone, DARK, BRIGHT, tmp_path / "told", settings, network=dead))
    settings = settings.model_copy(update={"extensions": 1})
    stages = [p.stage for p in train_enhancer(backbone, DARK, BRIGHT, tmp_path / "b", settings, network=dead)]
    assert stages.count(Stage.WARM_UP) == 10
    assert stages.count(Stage.ENHANCE) == 3
    assert float(dead.cond_add1.bias.detach()) == -10  # what was given is not changed


def test_training_brightens(backbone: Backbone, tmp_path: Path) -> None:
    """Pulled along the direction from dark to bright, dark photos get brighter; p(backlit) falls."""
    changes = {"guidance": "rave", "rounds": 1, "enhance_steps": 20, "warm_up_steps": 1, "network_rate": 5e-4}
    found = [p.p_backlit for p in training(backbone, tmp_path, **changes) if p.p_backlit is not None]
    assert sum(found[-5:]) < sum(found[:5])
    photo = DARK[0].permute(1, 2, 0).numpy() / np.float32(255)
    assert load_enhancer(tmp_path).enhance(photo).mean() > 1.2 * photo.mean()


def test_disk_full_keeps_the_last_checkpoint(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = training(backbone, tmp_path, checkpoint_every=1)
    next(running)
    kept = (tmp_path / "training.safetensors").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match="disk is full"):
            next(running)
    assert (tmp_path / "training.safetensors").read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == ["training.safetensors"]
    assert next(training(backbone, tmp_path, checkpoint_every=1)).total == 2


def test_photos_to_learn_from(tmp_path: Path, backbone: Backbone) -> None:
    from PIL import Image

    Image.new("L", (40, 20), 100).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_text("no photo")
    found, problems = load_training_photos([tmp_path / "a.png", tmp_path / "b.jpg"], 32)
    assert found.shape == (1, 3, 32, 32)
    assert found.unique().tolist() == [100]
    assert len(problems) == 1
    assert "b.jpg" in problems[0]
    with pytest.raises(DataError, match="None of 1 files"):
        load_training_photos([tmp_path / "b.jpg"])
    with pytest.raises(DataError, match="Both backlit and well-lit"):
        next(train_enhancer(backbone, DARK, BRIGHT[:0], tmp_path, TrainSettings(**SHORT)))


# --- guidance ---------------------------------------------------------------------


def test_rave_direction_by_hand() -> None:
    """Backlit at (1, 0), well-lit at (0, 1): v = (-1, 1) / sqrt 2, and the target is 1 / sqrt 2."""
    rave = RaveDirection(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert torch.allclose(rave.direction, torch.tensor([-1.0, 1.0]) / 2**0.5)
    images = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert torch.allclose(rave.loss(images), torch.tensor(1.0))  # mean of 0 and (-2 / sqrt 2)^2
    assert rave.p_backlit(images).tolist() == pytest.approx([0.018, 0.982], abs=1e-3)
    with pytest.raises(ConfigError, match="look the same"):
        RaveDirection(images, images)


def test_pairs(backbone: Backbone) -> None:
    features = torch.nn.functional.normalize(torch.randn(7, 64), dim=-1)
    assert torch.allclose(PromptPair(backbone).p_backlit(features), torch.full((7,), 0.5))
    assert PromptPair(backbone, 4).embedding.shape == (2, 6, 128)
    latent = LatentPair(64, seed=3)
    assert torch.equal(latent.vectors, LatentPair(64, seed=3).vectors)
    cosines = features @ torch.nn.functional.normalize(latent.vectors, dim=-1).T
    assert torch.allclose(latent.p_backlit(features), torch.sigmoid(100 * (cosines[:, 0] - cosines[:, 1])), atol=1e-6)
    assert not list(Antonyms(backbone).parameters())
    with pytest.raises(ConfigError, match="does not fit"):
        PromptPair(backbone).load_official(torch.zeros(2, 77, 512))
    with pytest.raises(ConfigError, match="0 words"):
        PromptPair(backbone, 0)
    with pytest.raises(ConfigError, match="at most"):
        PromptPair(backbone, 90)


def test_p_well_lit(backbone: Backbone) -> None:
    view, judge = ClipView(backbone), Antonyms(backbone)
    photo = DARK[0].permute(1, 2, 0).numpy().astype(np.float32) / 255
    features = view.features(torch.from_numpy(photo).permute(2, 0, 1)[None])
    text = torch.nn.functional.normalize(backbone.encode_text(["a backlit photo", "a well-lit photo"]), dim=-1)
    expected = (100 * features @ text.T).softmax(dim=1)[0, 1]
    assert p_well_lit(photo, judge, view) == pytest.approx(float(expected), abs=1e-5)


def test_identity_of_a_vit(backbone: Backbone) -> None:
    """Labelled as a stand-in; the same image is no distance away, and gradients reach the enhanced one."""
    identity = Identity(backbone)
    assert "stand-in" in identity.label
    image = torch.rand(2, 3, 40, 40)
    assert identity.distances(image, image).tolist() == [0, 0]
    light = torch.full((2, 1, 40, 40), 0.5, requires_grad=True)
    identity.distances(divided(image * 0.4, light), image * 0.4).sum().backward()
    assert light.grad is not None
    assert light.grad.abs().sum() > 0
