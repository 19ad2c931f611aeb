"""CoCoOp against the official implementation."""

import numpy as np
import pytest
import torch

from engines.backbones import Backbone
from engines.backbones.runtime import Runtime
from engines.errors import BackboneError
from engines.prompts import create_method
from engines.prompts.cocoop import CoCoOp
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, check_training, load_case

PIXELS, LABELS = parity_weights.images(), parity_weights.labels()


@pytest.fixture
def method(backbone: Backbone) -> CoCoOp:
    """Worded context, meta network filled by name, as in the case."""
    method = create_method("cocoop", backbone, parity_weights.CLASSES)
    assert isinstance(method, CoCoOp)
    state = method.official_state_dict()
    for name in state:
        if "meta_net" in name:
            state[name] = torch.from_numpy(parity_weights.parameter(name, state[name].shape))
    method.load_official(state)
    return method


def test_equals_official_cocoop(method: CoCoOp) -> None:
    case = load_case("cocoop_words")
    images = method.image_features(PIXELS)
    assert_close(images, case, "image_features")
    assert_close(method.meta_net(images), case, "meta")
    assert_close(method.conditional_text_features(images), case, "text_features")
    assert_close(method.logits(PIXELS), case, "logits")
    assert_close(method.logits(PIXELS[2:4]), case, "logits_of_2_images")
    assert_close(method.loss(PIXELS, LABELS), case, "loss_batch8")
    alone = [method.loss(PIXELS[i : i + 1], LABELS[i : i + 1]).item() for i in range(8)]
    assert_close(np.array(alone), case, "loss_batch1")
    check_training(method, case)


def test_one_image_alone(method: CoCoOp) -> None:
    case = load_case("cocoop_words")
    method.backward(PIXELS[:1], LABELS[:1])
    for name, parameter in method.trainable_parameters().items():
        assert parameter.grad is not None
        assert_close(parameter.grad, case, f"grad_image0.{method.official_name(name)}")


def test_steps_of_one_image(method: CoCoOp) -> None:
    """The official batch size."""
    case = load_case("cocoop_words")
    optimizer = torch.optim.SGD(method.parameters(), lr=0.002, momentum=0.9, weight_decay=5e-4)
    losses = []
    for i in range(5):
        optimizer.zero_grad()
        losses.append(method.backward(PIXELS[i : i + 1], LABELS[i : i + 1]).item())
        optimizer.step()
    losses.append(method.loss(PIXELS[4:5], LABELS[4:5]).item())
    assert_close(np.array(losses), case, "batch1.losses")
    for name, parameter in method.trainable_parameters().items():
        assert_same_value(parameter, case, f"batch1.after5.{method.official_name(name)}")


def test_little_memory_changes_nothing(method: CoCoOp, monkeypatch: pytest.MonkeyPatch) -> None:
    case = load_case("cocoop_words")
    monkeypatch.setattr(Runtime, "activation_budget", 1_000_000)
    assert 1 < method.backbone.text.groups_at_once(method.layout) < 8
    assert_close(method.logits(PIXELS), case, "logits")
    assert_close(method.backward(PIXELS, LABELS), case, "loss_batch8")
    for name, parameter in method.trainable_parameters().items():
        assert parameter.grad is not None
        assert_close(parameter.grad, case, f"grad.{method.official_name(name)}")


def test_there_is_no_text_without_an_image(method: CoCoOp) -> None:
    with pytest.raises(BackboneError, match="depends on the image"):
        method.text_features()
