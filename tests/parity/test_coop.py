"""CoOp and Dassl's schedule against the official implementations."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.prompts import create_method
from engines.prompts.settings import TrainingConfig
from tests.parity import parity_weights
from tests.parity.checks import assert_close, check_training, fill_official, load_case

CASES = {
    "coop_end": {"n_ctx": 4},
    "coop_middle": {"n_ctx": 4, "class_token_position": "middle"},
    "coop_front": {"n_ctx": 4, "class_token_position": "front"},
    "coop_csc_end": {"n_ctx": 4, "csc": True},
    "coop_csc_front": {"n_ctx": 4, "csc": True, "class_token_position": "front"},
    "coop_end_n16": {"n_ctx": 16},
    "coop_words": {"n_ctx": 4, "ctx_init": "a photo of a"},
    "coop_words_middle": {"n_ctx": 4, "ctx_init": "a photo of a", "class_token_position": "middle"},
}


@pytest.mark.parametrize("name", CASES)
def test_equals_official_coop(backbone: Backbone, name: str) -> None:
    case = load_case(name)
    method = create_method("coop", backbone, parity_weights.CLASSES, **CASES[name])
    if "ctx_init" not in CASES[name]:
        fill_official(method)
    pixels = parity_weights.images()
    assert_close(method.text_features(), case, "text_features")
    assert_close(method.image_features(pixels), case, "image_features")
    assert_close(method.logits(pixels), case, "logits")
    assert_close(method.logits(features=backbone.encode_image(pixels)), case, "logits")
    check_training(method, case)


def test_words_begin_as_zero_shot(backbone: Backbone) -> None:
    pixels = parity_weights.images()
    learned = create_method("coop", backbone, parity_weights.CLASSES, ctx_init="a photo of a")
    ready_made = create_method("zero-shot", backbone, parity_weights.CLASSES)
    assert torch.allclose(learned.logits(pixels), ready_made.logits(pixels), atol=1e-4)


@pytest.mark.parametrize(("count_tokens", "learned"), [(False, 9), (True, 12)])
def test_words_with_commas(backbone: Backbone, count_tokens: bool, learned: int) -> None:
    """Nine words make twelve tokens: the official code learns nine and leaves three as they are."""
    words = "a photo, stained, seen through a microscope, of a"
    method = create_method("coop", backbone, parity_weights.CLASSES, ctx_init=words, count_tokens=count_tokens)
    assert method.ctx.shape == (learned, 128)
    ready_made = F.normalize(backbone.encode_text([f"{words} {name}." for name in parity_weights.CLASSES]), dim=-1)
    assert torch.allclose(method.text_features(), ready_made, atol=1e-5)


def test_nearest_words(backbone: Backbone) -> None:
    case = load_case("coop_nearest_words")
    context = torch.from_numpy(parity_weights.parameter("prompt_learner.ctx", (4, 128)))
    near = backbone.text.nearest_words(context, k=5)
    np.testing.assert_array_equal([[word.token_id for word in row] for row in near], case["ids"])
    np.testing.assert_allclose([[word.distance for word in row] for row in near], case["distances"], rtol=1e-4)
    own = backbone.text.nearest_words(backbone.text.embed_words("a photo of a"), k=1)
    np.testing.assert_array_equal([[word.token_id for word in row] for row in own], case["word_ids"])


@pytest.mark.parametrize(
    ("epochs", "rate"), [(10, 2e-3), (50, 2e-3), (100, 2e-3), (200, 2e-3), (5, 3.5e-3), (30, 2.6e-3)]
)
def test_schedule(epochs: int, rate: float) -> None:
    config = TrainingConfig(epochs=epochs, learning_rate=rate)
    rates = [config.rate(epoch) for epoch in range(epochs)]
    np.testing.assert_allclose(rates, load_case("dassl_schedule")[f"lr.epochs{epochs}"], rtol=1e-6)
