"""VPT, shallow and deep, against the official implementation."""

import pytest
import torch

from engines.backbones import Backbone
from engines.prompts import create_method
from engines.prompts.vpt import VPT
from tests.parity import parity_weights
from tests.parity.checks import assert_close, check_training, fill_official, load_case

CASES = {
    "vpt_shallow_n2": {"n_ctx_vision": 2, "prompt_depth_vision": 1},
    "vpt_shallow_n4": {"n_ctx_vision": 4, "prompt_depth_vision": 1},
    "vpt_deep_d2_n2": {"n_ctx_vision": 2, "prompt_depth_vision": 2},
}


@pytest.mark.parametrize("name", CASES)
def test_equals_official_vpt(backbone: Backbone, name: str) -> None:
    case = load_case(name)
    method = create_method("vpt", backbone, parity_weights.CLASSES, **CASES[name])
    assert isinstance(method, VPT)
    fill_official(method)
    pixels = parity_weights.images()
    assert_close(method.raw_image_features(pixels), case, "image_features_raw")
    assert_close(method.image_features(pixels), case, "image_features")
    assert_close(method.text_features(), case, "text_features")
    assert_close(method.logits(pixels), case, "logits")
    check_training(method, case)


def test_learned_numbers_of_the_paper_setting(backbone: Backbone) -> None:
    """Eight tokens in as many layers as the tower has, at most twelve."""
    method = create_method("vpt", backbone, parity_weights.CLASSES)
    assert isinstance(method, VPT)
    assert [prompt.shape for prompt in method.image_prompts()] == [(8, 128)] * 3


def test_new_classes_need_no_training(backbone: Backbone) -> None:
    method = create_method("vpt", backbone, parity_weights.CLASSES)
    other = method.for_classes([*parity_weights.CLASSES, "lung"])
    pixels = parity_weights.images()
    assert torch.allclose(other.logits(pixels)[:, :5], method.logits(pixels), atol=1e-4)
