"""The list of backbones: complete, light, and honest about what is on this machine."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from engines.backbones import list_backbones
from engines.backbones.catalog import BackboneInfo
from tests.backbones.conftest import model_settings, random_model, write_folder


def by_name() -> dict[str, BackboneInfo]:
    return {info.name: info for info in list_backbones()}


def test_it_lists_what_open_clip_lists() -> None:
    listed = {(info.name, tag) for info in list_backbones() for tag in info.pretrained}
    assert listed == set(open_clip.list_pretrained())


def test_shipped_models_come_first() -> None:
    first = list_backbones()[0]
    assert first.name == "mini-clip"
    assert first.state == "shipped"
    assert first.parameters
    assert 2e6 < first.parameters < 10e6
    assert first.image_size == 64


def test_facts_are_those_of_the_models() -> None:
    info = by_name()["ViT-B-16"]
    assert (info.parameters, info.image_size, info.image_tower, info.text_tower) == (149_620_737, 224, "ViT/16", "CLIP")
    assert by_name()["RN50"].image_tower == "ResNet"
    assert by_name()["roberta-ViT-B-32"].text_tower == "roberta-base"


def test_models_folder_and_caches_are_looked_into(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMPTLOUPE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert {info.state for info in list_backbones()} == {"shipped", "needs download"}
    model = random_model(model_settings())
    write_folder(tmp_path / "models" / "clinic-clip", model_settings(), model)
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "open_clip_config.json").write_text("{")
    save_file({"x": torch.zeros(1)}, tmp_path / "models" / "ViT-B-16--openai.safetensors")
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    (tmp_path / ".cache" / "clip" / "rn50-quickgelu-yfcc15m-455df137.pt").touch()
    snapshot = tmp_path / "hub" / "models--timm--vit_base_patch32_clip_224.openai" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").touch()
    found = by_name()
    assert found["clinic-clip"].state == "on disk"
    assert found["clinic-clip"].parameters == sum(p.numel() for p in model.parameters())
    assert found["broken"].image_tower == "unreadable settings"
    assert (found["ViT-B-16"].state, found["ViT-B-16"].on_disk) == ("on disk", ("openai",))
    assert found["ViT-B-32"].on_disk == ("openai",)
    assert found["ViT-L-14"].state == "needs download"
