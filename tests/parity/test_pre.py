"""PRE against the official implementation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engines.backbones import Backbone
from engines.prompts import create_method, load_prompt
from engines.prompts.pre import PRE
from tests.parity import parity_weights
from tests.parity.checks import assert_close, check_training, load_case

PIXELS = parity_weights.images()
CASES: dict[str, dict[str, Any]] = {
    "pre_lstm1": {},
    "pre_lstm1_plain": {"residual": False},
    "pre_lstm1_csc": {"ctx_init": "", "csc": True},
    "pre_mlp1": {"encoder": "MLP1"},
    "pre_mlp2": {"encoder": "MLP2"},
    "pre_mlp1_separate": {"encoder": "MLP1", "separate": True},
}


def pre(backbone: Backbone, **settings: Any) -> PRE:
    """Encoders, and a context that begins at random, filled by name."""
    method = create_method("pre", backbone, parity_weights.CLASSES, **settings)
    assert isinstance(method, PRE)
    state = method.official_state_dict()
    for name in state:
        if "encoder" in name or not method.config.ctx_init:
            state[name] = torch.from_numpy(parity_weights.parameter(name, state[name].shape))
    method.load_official(state)
    return method


@pytest.mark.parametrize("name", CASES)
def test_equals_official_pre(backbone: Backbone, name: str) -> None:
    case = load_case(name)
    method = pre(backbone, **CASES[name])
    learned = {method.official_name(own) for own in method.trainable_parameters()}
    stored = {key.removeprefix("grad.").removesuffix(".rows8").removesuffix(".probe") for key in case if "grad." in key}
    assert learned == stored
    assert_close(method.context(), case, "ctx_encoded")
    assert_close(method.text_features(), case, "text_features")
    assert_close(method.image_features(PIXELS), case, "image_features")
    assert_close(method.logits(PIXELS), case, "logits")
    check_training(method, case)
    assert_close(method.context(), case, "ctx_encoded_after5")


def test_encoders_per_word_are_kept_and_can_be_trained(backbone: Backbone, tmp_path: Path) -> None:
    method = create_method("pre", backbone, parity_weights.CLASSES, encoder="MLP1", separate=True, train_separate=True)
    method.backward(PIXELS, parity_weights.labels())
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())
    assert torch.equal(load_prompt(method.save(tmp_path), backbone).text_features(), method.text_features())


@pytest.mark.parametrize("encoder", ["LSTM1", "LSTM2", "MLP1", "MLP2"])
@pytest.mark.parametrize("settings", [{"n_ctx": 1}, {"n_ctx": 1, "csc": True}, {"n_ctx": 3, "separate": True}])
def test_odd_shapes(backbone: Backbone, encoder: str, settings: dict[str, Any]) -> None:
    """One vector, one class: the official code breaks there."""
    method = create_method("pre", backbone, ["cat"], ctx_init="", encoder=encoder, **settings)
    assert method.logits(PIXELS).shape == (8, 1)


def test_dropout_acts_in_training_only(backbone: Backbone) -> None:
    method = pre(backbone, encoder="LSTM2")
    assert torch.equal(method.text_features(), method.text_features())
    method.train()
    assert not torch.equal(method.text_features(), method.text_features())
