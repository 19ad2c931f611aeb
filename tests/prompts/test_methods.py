"""The contract that every method keeps, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch

from engines.backbones import Backbone
from engines.errors import BackboneError, ConfigError, PromptloupeError
from engines.prompts import available_methods, create_method, load_prompt, method_class
from tests.parity import parity_weights

CLASSES = parity_weights.CLASSES


@pytest.mark.parametrize("name", available_methods())
def test_contract(tiny: Backbone, tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    # What learns from marked defects tells two classes apart, whatever they show.
    classes = CLASSES[:2] if method_class(name).learns_from == "masks" else CLASSES
    method = create_method(name, tiny, classes)
    pixels, labels = parity_weights.images(), parity_weights.labels(classes=len(classes))
    logits = method.logits(pixels)
    assert logits.shape == (8, len(classes))
    assert torch.allclose(method.image_features(pixels).norm(dim=1), torch.ones(8), atol=1e-5)
    if method.frozen_images:
        assert torch.allclose(method.logits(features=tiny.encode_image(pixels)), logits, atol=1e-4)
    if method.fitting == "gradient":
        method.loss(pixels, labels).backward()
        assert all(p.grad is not None for p in method.trainable_parameters().values())
    loaded = load_prompt(method.save(tmp_path), tiny)
    assert torch.allclose(loaded.logits(pixels), logits, atol=1e-5)
    assert loaded.config == method.config
    again = create_method(name, tiny, classes)
    again.load_official(method.official_state_dict())
    assert torch.allclose(again.logits(pixels), logits, atol=1e-5)
    assert not any(p.requires_grad for p in tiny.model.parameters())


def test_text_of_fixed_classes_is_computed_once(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    method, calls = create_method("coop", tiny, CLASSES), []
    plain = type(method).text_features
    monkeypatch.setattr(type(method), "text_features", lambda self: calls.append(1) or plain(self))
    features = torch.randn(3, tiny.embed_dim)
    with torch.no_grad():
        first = method.logits(features=features)
        assert torch.equal(method.logits(features=features), first)
        assert len(calls) == 1
        method.ctx.normal_()
        assert not torch.allclose(method.logits(features=features), first)
        assert len(calls) == 2


def test_other_classes(tiny: Backbone) -> None:
    method = create_method("coop", tiny, CLASSES, n_ctx=4)
    other = method.for_classes(["lung", "liver", "a_spleen"])
    assert torch.equal(other.ctx, method.ctx)
    assert other.text_features().shape == (3, tiny.embed_dim)


@pytest.mark.parametrize(("name", "settings"), [("coop", {"csc": True}), ("linear-probe", {})])
def test_class_bound_methods_refuse_other_classes(tiny: Backbone, name: str, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="cannot be used on others"):
        create_method(name, tiny, CLASSES, **settings).for_classes(["lung", "liver"])


def test_dassl_checkpoint_is_taken_over(tiny: Backbone) -> None:
    ctx = torch.randn(4, 128)
    official = {
        "state_dict": {"ctx": ctx, "token_prefix": torch.zeros(5, 1, 128), "token_suffix": torch.zeros(5, 72, 128)}
    }
    method = create_method("coop", tiny, CLASSES, n_ctx=4)
    method.load_official(official)
    assert torch.equal(method.ctx, ctx)
    assert torch.equal(method.official_state_dict()["prompt_learner.ctx"], ctx)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "has no “prompt_learner.ctx”"),
        ({"prompt_learner.ctx": torch.zeros(4, 512)}, "has the shape"),
        ({"prompt_learner.ctx": torch.zeros(16, 128)}, "has the shape"),
    ],
)
def test_wrong_official_checkpoints(tiny: Backbone, given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        create_method("coop", tiny, CLASSES, n_ctx=4).load_official(given)


BAD = [
    ("copo", CLASSES, {}, "Did you mean coop"),
    ("", CLASSES, {}, "no method called"),
    ("coop", [], {}, "no classes"),
    ("coop", ["cat", ""], {}, "no name"),
    ("coop", ["cat", "  "], {}, "no name"),
    ("coop", ["cat", "cat"], {}, "Two classes are called “cat”"),
    ("coop", CLASSES, {"n_ctx": 0}, "n_ctx"),
    ("coop", CLASSES, {"n_ctx": 65}, "n_ctx"),
    ("coop", CLASSES, {"n_ctx": "many"}, "n_ctx"),
    ("coop", CLASSES, {"n_ctx": 2.5}, "n_ctx"),
    ("coop", CLASSES, {"n_context": 4}, "n_context"),
    ("coop", CLASSES, {"class_token_position": "behind"}, "class_token_position"),
    ("coop", ["cat", "word " * 80], {}, "tokens"),
    ("zero-shot", CLASSES, {"template": "a photo"}, "template"),
    ("zero-shot", CLASSES, {"ensemble": "81"}, "ensemble"),
    ("linear-probe", CLASSES, {"strength": -1}, "strength"),
]


@pytest.mark.parametrize(("name", "classes", "settings", "said"), BAD)
def test_bad_requests_are_told_in_words(
    tiny: Backbone, name: str, classes: list[str], settings: dict[str, object], said: str
) -> None:
    with pytest.raises(PromptloupeError, match=said) as raised:
        create_method(name, tiny, classes, **settings)
    assert "Traceback" not in str(raised.value)


def test_prompt_of_another_backbone_is_refused(tiny: Backbone, tmp_path: Path) -> None:
    create_method("coop", tiny, CLASSES).save(tmp_path)
    weights = parity_weights.tiny_clip_state_dict()
    weights["logit_scale"] = weights["logit_scale"] + 1
    with pytest.raises(BackboneError, match="not the same"):
        load_prompt(tmp_path, Backbone.from_state_dict(weights))


@pytest.mark.parametrize("file", ["prompt.json", "prompt.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
def test_damaged_prompt(tiny: Backbone, tmp_path: Path, file: str, damage: str) -> None:
    path = create_method("coop", tiny, CLASSES).save(tmp_path) / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20] if damage == "cut" else b"\x00garbage")
    with pytest.raises(ConfigError, match=r"missing|damaged"):
        load_prompt(tmp_path, tiny)


def test_prompt_of_a_newer_program(tiny: Backbone, tmp_path: Path) -> None:
    file = create_method("coop", tiny, CLASSES).save(tmp_path) / "prompt.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(ConfigError, match="newer"):
        load_prompt(tmp_path, tiny)
