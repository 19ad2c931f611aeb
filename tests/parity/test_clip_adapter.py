"""CLIP-Adapter against the authors' implementation and BiomedCoOp's variant of it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.prompts import create_method
from engines.prompts.clip_adapter import CLIPAdapter
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, check_training, fill_official, load_case

PIXELS, LABELS = parity_weights.images(), parity_weights.labels()


def clip_adapter(backbone: Backbone, **settings: object) -> CLIPAdapter:
    method = create_method("clip-adapter", backbone, parity_weights.CLASSES, **settings)
    assert isinstance(method, CLIPAdapter)
    fill_official(method)
    return method


def test_equals_official_clip_adapter(backbone: Backbone) -> None:
    case, method = load_case("clipadapter"), clip_adapter(backbone)
    raw = backbone.encode_image(PIXELS)
    assert_close(raw, case, "image_features_raw")
    assert_close(method.adapter(raw), case, "adapted")
    assert_close(method.image_features(PIXELS), case, "image_features")
    assert_close(method.text_features(), case, "text_features")
    assert_close(method.logits(PIXELS), case, "logits")
    check_training(method, case)


def test_equals_the_variant_of_biomedcoop(backbone: Backbone) -> None:
    """Four passes of plain SGD over images 0-2, 3-5, 6-7 at the recorded learning rates."""
    case = load_case("clipadapter_biomed")
    method = clip_adapter(backbone, ratio=0.5, renormalise=False)
    raw = backbone.encode_image(PIXELS)
    assert_close(F.normalize(raw, dim=-1), case, "image_features")
    assert_close(method.text_features().T, case, "text_weights")
    assert_close(method.logits(features=raw[:3]), case, "train_logits0")
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01)
    losses, parts = [], [slice(0, 3), slice(3, 6), slice(6, 8)] * 4
    for step, (part, rate) in enumerate(zip(parts, case["lr"], strict=True)):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad()
        losses.append(method.backward(None, LABELS[part], features=raw[part]).item())
        if step == 0:
            for name, parameter in method.trainable_parameters().items():
                assert parameter.grad is not None
                assert_close(parameter.grad, case, f"grad.{method.official_name(name)}")
        optimizer.step()
    assert_close(np.array(losses), case, "losses")
    for name, parameter in method.trainable_parameters().items():
        assert_same_value(parameter, case, f"after12.{method.official_name(name)}")
    assert_close(method.logits(PIXELS), case, "test_logits")


@pytest.mark.parametrize("renormalise", [True, False])
def test_length_of_cached_features_makes_no_difference(backbone: Backbone, renormalise: bool) -> None:
    method, raw = clip_adapter(backbone, renormalise=renormalise), backbone.encode_image(PIXELS)
    assert torch.allclose(method.logits(features=raw), method.logits(features=F.normalize(raw, dim=-1)), atol=1e-5)
    assert torch.allclose(method.logits(features=raw), method.logits(PIXELS), atol=1e-5)
