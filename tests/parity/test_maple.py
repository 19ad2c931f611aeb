"""MaPLe against the official implementation, and its coupling between towers of unlike width and depth."""

from typing import Any

import open_clip
import pytest
import torch
from open_clip.transform import image_transform

from engines.backbones import Backbone
from engines.errors import BackboneError, ConfigError
from engines.prompts import create_method
from engines.prompts.maple import MaPLe
from tests.parity import parity_weights
from tests.parity.checks import assert_close, check_training, fill_official, load_case

CASES: dict[str, dict[str, Any]] = {
    "maple_d1_n2": {"n_ctx": 2, "prompt_depth": 1},
    "maple_d2_n2": {"n_ctx": 2, "prompt_depth": 2},
    "maple_d3_n2": {"n_ctx": 2, "prompt_depth": 3},
    "maple_d3_n4": {"n_ctx": 4, "prompt_depth": 3},
}


@pytest.mark.parametrize("name", CASES)
def test_equals_official_maple(backbone: Backbone, name: str) -> None:
    case = load_case(name)
    method = create_method("maple", backbone, parity_weights.CLASSES, **CASES[name])
    assert isinstance(method, MaPLe)
    fill_official(method, keep=["prompt_learner.ctx"])
    pixels = parity_weights.images()
    assert_close(method.raw_image_features(pixels), case, "image_features_raw")
    assert_close(method.image_features(pixels), case, "image_features")
    assert_close(method.raw_text_features(), case, "text_features_raw")
    assert_close(method.text_features(), case, "text_features")
    assert_close(method.logits(pixels), case, "logits")
    check_training(method, case)


def wrapped(vision: dict[str, Any]) -> Backbone:
    """A random model with a text tower of width 48 and 4 blocks beside the image tower described."""
    text = {"context_length": 32, "vocab_size": 49408, "width": 48, "heads": 2, "layers": 4}
    torch.manual_seed(0)
    model = open_clip.model.CLIP(embed_dim=16, vision_cfg=vision | {"image_size": 32}, text_cfg=text)
    return Backbone.from_open_clip(
        model, open_clip.SimpleTokenizer(context_length=32), image_transform(32, is_train=False), "wide"
    )


def test_towers_of_unlike_width_and_depth() -> None:
    """The coupling leads from the text width to the image width, and the shallower tower limits the depth."""
    backbone = wrapped({"layers": 2, "width": 64, "head_width": 32, "patch_size": 16})
    method = create_method("maple", backbone, ["lung", "liver"])
    assert isinstance(method, MaPLe)
    assert method.proj.weight.shape == (64, 48)
    assert [tuple(p.shape) for p in method.image_prompts()] == [(2, 64)] * 2
    method.loss(torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 1])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.trainable_parameters().values())


@pytest.mark.parametrize("name", ["vpt", "ivlp", "maple", "promptsrc", "coprompt"])
def test_models_without_patches_are_refused(name: str) -> None:
    backbone = wrapped({"layers": [1, 1, 1, 1], "width": 8, "head_width": 8})
    with pytest.raises(BackboneError, match="ResNet"):
        create_method(name, backbone, ["lung", "liver"])


def test_checkpoint_of_another_model_is_refused(backbone: Backbone) -> None:
    other = wrapped({"layers": 3, "width": 64, "head_width": 32, "patch_size": 16})
    learned = create_method("maple", other, parity_weights.CLASSES)
    with pytest.raises(ConfigError, match="has the shape"):
        create_method("maple", backbone, parity_weights.CLASSES).load_official(learned.official_state_dict())
