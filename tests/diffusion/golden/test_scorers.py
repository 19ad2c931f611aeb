"""Scorers: what they say of pictures, and what is said where their weights lack."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from engines.backbones import Backbone, load_backbone
from engines.diffusion.golden.scorers import hpsv2, load_scorer, missing
from engines.diffusion.golden.scorers.aesthetic import Aesthetic
from engines.diffusion.golden.scorers.scenes import wanted_things
from engines.errors import BackboneError, ConfigError
from engines.miniworld.diffusion.pictures import draw
from tests.diffusion.tiny import tokenizer


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mini-clip", device="cpu")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("PROMPTLOUPE_MODELS", str(tmp_path))
    return tmp_path


def scenes(count: int = 24) -> tuple[Tensor, list[str]]:
    drawn = draw(7, 0, count)
    return torch.from_numpy(drawn.pixels).permute(0, 3, 1, 2).float() / 255, drawn.captions


def shifted(captions: Sequence[str]) -> list[str]:
    return [*captions[1:], captions[0]]


def test_rules_know_right_from_wrong() -> None:
    pixels, captions = scenes()
    scorer = load_scorer("scenes")
    right, wrong = scorer.score(pixels, captions), scorer.score(pixels, shifted(captions))
    assert right.mean() > 0.95
    assert wrong.mean() < 0.5
    assert right.max() <= 1
    assert wrong.min() >= 0
    assert scorer.score(torch.rand(1, 3, 96, 96) * 0 + 0.5, ["a red circle"]).tolist() == [0]


def test_rules_count_halves_and_extras() -> None:
    drawn = draw(7, 1, 6, things=2)
    pixels = torch.from_numpy(drawn.pixels).permute(0, 3, 1, 2).float() / 255
    scorer = load_scorer("scenes")
    for at, spec in enumerate(drawn.specs):
        one, two = spec.things
        picture = pixels[at : at + 1]
        other = next(shape for shape in ("circle", "square", "star") if shape not in (one.shape, two.shape))
        for caption, expected in [
            (f"a {one.colour} {one.shape} and a {two.colour} {two.shape}", 1),
            (f"a {two.colour} {two.shape} and a {one.colour} {one.shape}", 1),
            (f"a {one.colour} {one.shape}", 0.5),  # one of two seen
            (f"a {one.colour} {one.shape} and a {two.colour} {other}", 0.75),
        ]:
            assert scorer.score(picture, [caption]).item() == pytest.approx(expected), caption


def test_rules_read_captions() -> None:
    assert wanted_things("A Red circle and a blue  star on grass") == [("red", "circle"), ("blue", "star")]
    with pytest.raises(ConfigError, match="knows only things such as"):
        wanted_things("a photo of a cat")


def test_clip_score(backbone: Backbone) -> None:
    pixels, captions = scenes()
    scorer = load_scorer("clip", backbone)
    right = scorer.score(pixels, captions)
    assert (right > scorer.score(pixels, shifted(captions))).float().mean() > 0.8
    image = Image.fromarray((pixels[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    seen = backbone.encode_image(backbone.preprocess(image)[None])[0]
    told = backbone.encode_text([captions[0]])[0]
    cosine = float(seen @ told / (seen.norm() * told.norm()))
    assert right[0].item() == pytest.approx(2.5 * max(cosine, 0), abs=1e-5)
    assert right.min() >= 0
    with pytest.raises(ConfigError, match="needs a backbone"):
        load_scorer("clip")
    with pytest.raises(ConfigError, match="There is no scorer"):
        load_scorer("fid")


@pytest.mark.parametrize("name", ["hpsv2", "pickscore", "image-reward", "aesthetic"])
def test_weights_that_lack_are_named(name: str, models: Path) -> None:
    said = missing(name)
    assert str(models) in said
    assert "which this machine lacks" in said
    with pytest.raises(BackboneError, match="Until then choose the CLIP score"):
        load_scorer(name)


def test_hpsv2_from_a_file(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller architecture stands for ViT-H/14, whose weights would have four gigabytes."""
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-for-hpsv2", config)
    monkeypatch.setattr(hpsv2, "ARCHITECTURE", "tiny-for-hpsv2")
    tiny = open_clip.create_model("tiny-for-hpsv2")
    torch.save({"state_dict": tiny.state_dict()}, models / "HPS_v2.1_compressed.pt")
    assert missing("hpsv2") == ""
    scorer = load_scorer("hpsv2", device="cpu")
    pixels, captions = scenes(2)
    found = scorer.score(pixels, captions)
    assert found.shape == (2,)
    assert found.abs().max() <= 1


def test_pickscore_from_a_folder(models: Path) -> None:
    folder = models / "PickScore_v1"
    torch.manual_seed(0)
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=text | {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407},
        vision_config=text | {"image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**sizes), tokenizer()).save_pretrained(folder)
    scorer = load_scorer("pickscore", device="cpu")
    pixels, captions = scenes(3)
    together = scorer.score(pixels, [*captions[:2], "word " * 500])
    assert together.shape == (3,)
    assert together.abs().max() <= 100
    torch.testing.assert_close(scorer.score(pixels[1:2], captions[1:2]), together[1:2], atol=1e-3, rtol=1e-3)
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(BackboneError, match="cannot be read"):
        load_scorer("pickscore", device="cpu")


def test_aesthetic_head(backbone: Backbone) -> None:
    width = backbone.embed_dim
    draw_ = torch.Generator().manual_seed(0)
    shapes = {"layers.0": (6, width), "layers.2": (3, 6), "layers.10": (1, 3)}
    head = {f"{name}.weight": torch.randn(shape, generator=draw_) for name, shape in shapes.items()}
    head |= {f"{name}.bias": torch.randn(shape[0], generator=draw_) for name, shape in shapes.items()}
    pixels, captions = scenes(2)
    scorer = Aesthetic(backbone, head)
    one = head["layers.10.weight"] @ head["layers.2.weight"]
    whole = one @ head["layers.0.weight"]
    bias = one @ head["layers.0.bias"] + head["layers.10.weight"] @ head["layers.2.bias"] + head["layers.10.bias"]
    images = [Image.fromarray((p.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)) for p in pixels]
    seen = backbone.encode_image(torch.stack([backbone.preprocess(image) for image in images]))
    expected = (seen / seen.norm(dim=1, keepdim=True)) @ whole[0] + bias
    torch.testing.assert_close(scorer.score(pixels, captions), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(BackboneError, match="does not fit"):
        Aesthetic(backbone, {"layers.0.weight": torch.zeros(1, 3), "layers.0.bias": torch.zeros(1)})


def test_image_reward_is_its_packages(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ImageReward.pt", "med_config.json"):
        (models / name).touch()
    assert "is not installed" in missing("image-reward")

    class Model:
        def score(self, prompt: str, image: Image.Image) -> float:
            return len(prompt) + image.width

    package: Any = ModuleType("ImageReward")
    package.__spec__ = object()
    package.load = lambda path, device, med_config: Model()
    monkeypatch.setitem(sys.modules, "ImageReward", package)
    assert load_scorer("image-reward").score(torch.rand(2, 3, 8, 8), ["a", "abc"]).tolist() == [9, 11]
    del package.load
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_scorer("image-reward")
