"""KgCoOp against the official implementation."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.prompts import create_method
from engines.prompts.kgcoop import KgCoOp
from tests.parity import parity_weights
from tests.parity.checks import assert_close, check_training, fill_official, load_case

CASES: dict[str, dict[str, Any]] = {
    "kgcoop_imagenet": {},
    "kgcoop_pets": {"template": "a photo of a {}, a type of pet."},
    "kgcoop_random_w1": {"ctx_init": "", "w": 1.0, "template": "a centered satellite photo of {}."},
}


@pytest.mark.parametrize("name", CASES)
def test_equals_official_kgcoop(backbone: Backbone, name: str) -> None:
    case = load_case(name)
    method = create_method("kgcoop", backbone, parity_weights.CLASSES, **CASES[name])
    assert isinstance(method, KgCoOp)
    if not method.config.ctx_init:
        fill_official(method)
    pixels, labels = parity_weights.images(), parity_weights.labels()
    assert_close(method.text_features(), case, "text_features")
    assert_close(method.ready_made, case, "text_features_frozen")
    assert_close(method.image_features(pixels), case, "image_features")
    assert_close(method.logits(pixels), case, "logits")
    assert_close(F.cross_entropy(method.logits(pixels), labels), case, "cross_entropy")
    assert_term(method, case, "score")
    check_training(method, case)
    assert_term(method, case, "score_after5")


def assert_term(method: KgCoOp, case: dict[str, np.ndarray], key: str) -> None:
    """One minus a cosine near one is rounding where both prompts agree: the official code itself repeats it to 1e-6."""
    term = method.knowledge_term(method.text_features()).item()
    np.testing.assert_allclose(term, case[key], rtol=1e-4, atol=1e-6)


def test_other_classes_have_their_own_sentences(backbone: Backbone) -> None:
    method = create_method("kgcoop", backbone, parity_weights.CLASSES)
    other = method.for_classes(["lung", "liver"])
    assert isinstance(other, KgCoOp)
    assert torch.allclose(other.ready_made, other.text_features(), atol=1e-5)
