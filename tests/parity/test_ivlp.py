"""Independent prompts in both towers against the official implementation."""

from typing import Any

import pytest
import torch

from engines.backbones import Backbone
from engines.errors import ConfigError
from engines.prompts import create_method
from engines.prompts.ivlp import IVLP
from tests.parity import parity_weights
from tests.parity.checks import assert_close, check_training, fill_official, load_case

CASES: dict[str, dict[str, Any]] = {
    "ivlp_d2_n2": {"n_ctx_text": 2, "n_ctx_vision": 2, "prompt_depth_text": 2, "prompt_depth_vision": 2},
    "ivlp_d3_n4": {"n_ctx_text": 4, "n_ctx_vision": 4, "prompt_depth_text": 3, "prompt_depth_vision": 3},
    "ivlp_d3_n2_random": {"prompt_depth_text": 3, "prompt_depth_vision": 3, "ctx_init": ""},
    "ivlp_language_only_d3_n4": {"n_ctx_text": 4, "n_ctx_vision": 0, "prompt_depth_text": 3},
}


@pytest.mark.parametrize("name", CASES)
def test_equals_official_ivlp(backbone: Backbone, name: str) -> None:
    case = load_case(name)
    method = create_method("ivlp", backbone, parity_weights.CLASSES, **CASES[name])
    assert isinstance(method, IVLP)
    fill_official(method, keep=["prompt_learner.ctx"] if method.config.ctx_init else [])
    pixels = parity_weights.images()
    assert_close(method.raw_image_features(pixels), case, "image_features_raw")
    assert_close(method.image_features(pixels), case, "image_features")
    assert_close(method.raw_text_features(), case, "text_features_raw")
    assert_close(method.text_features(), case, "text_features")
    assert_close(method.logits(pixels), case, "logits")
    check_training(method, case)


def test_few_learned_words_leave_the_others_in_place(backbone: Backbone) -> None:
    """With two learned words “of a” stays, so that an untrained shallow prompt reads “a photo of a”."""
    method = create_method("ivlp", backbone, parity_weights.CLASSES, prompt_depth_text=1, n_ctx_vision=0)
    ready_made = create_method("zero-shot", backbone, parity_weights.CLASSES)
    assert torch.allclose(method.text_features(), ready_made.text_features(), atol=1e-5)


def test_more_than_four_words_begin_at_random(backbone: Backbone) -> None:
    method = create_method("ivlp", backbone, parity_weights.CLASSES, n_ctx_text=5)
    assert isinstance(method, IVLP)
    assert method.ctx.shape == (5, 128)
    assert method.ctx.std() < 0.05


def test_too_few_starting_words_are_refused(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match="2 tokens"):
        create_method("ivlp", backbone, parity_weights.CLASSES, n_ctx_text=4, ctx_init="a photo")


def test_deeper_official_checkpoint_is_refused(backbone: Backbone) -> None:
    deep = create_method("ivlp", backbone, parity_weights.CLASSES)
    shallow = create_method("ivlp", backbone, parity_weights.CLASSES, prompt_depth_text=2)
    with pytest.raises(ConfigError, match=r"no place for.*resblocks\.2\.VPT_shallow"):
        shallow.load_official(deep.official_state_dict())
    with pytest.raises(ConfigError, match=r"has no .*resblocks\.2\.VPT_shallow"):
        deep.load_official(shallow.official_state_dict())
