"""CoPrompt against the official implementation, and its two views and descriptions."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from engines.backbones import Backbone
from engines.prompts import create_method
from engines.prompts.coprompt import CoPrompt
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights
from tests.parity.checks import FOLDER, assert_close, check_training, fill_official, load_case

CASES: dict[str, dict[str, Any]] = {
    "coprompt_d2_n2": {"n_ctx": 2, "prompt_depth": 2, "w": 8.0},
    "coprompt_d3_n4": {"n_ctx": 4, "prompt_depth": 3, "w": 2.0},
    "coprompt_d2_n4_mse": {"n_ctx": 4, "prompt_depth": 2, "w": 8.0, "distill": "mse"},
}
DESCRIPTIONS: dict[str, list[str]] = json.loads((FOLDER / "coprompt_descriptions.json").read_text(encoding="utf-8"))
DRAWN = [1, 0, 2, 2, 1, 0]
"""The description that each official step drew."""


def fresh(backbone: Backbone, **settings: Any) -> CoPrompt:
    method = create_method("coprompt", backbone, parity_weights.CLASSES, **settings)
    assert isinstance(method, CoPrompt)
    method.descriptions = [DESCRIPTIONS[name] for name in parity_weights.CLASSES]
    return method


def two_views() -> Tensor:
    first = parity_weights.images()
    return torch.stack(
        [first, first + 0.1 * torch.from_numpy(parity_weights.noise("parity.images.view2", first.shape))]
    )


@pytest.mark.parametrize("name", CASES)
def test_equals_official_coprompt(backbone: Backbone, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, method, views = load_case(name), fresh(backbone, **CASES[name]), two_views()
    fill_official(method, keep=["prompt_learner.ctx"])
    images, text = method.image_features(views[0]), method.text_features()
    assert_close(method.raw_image_features(views[0]), case, "image_features_raw")
    assert_close(method.raw_text_features(), case, "text_features_raw")
    assert_close(images, case, "image_features")
    assert_close(text, case, "text_features")
    assert_close(method.logits(views[0]), case, "logits")
    assert_close(method.description_features, case, "description_features")
    frozen = method.frozen_image_features(views[1])
    assert_close(frozen, case, "zs_image_features_view2")
    words = method.agreement(text, method.description_features[DRAWN[0]])
    seen = method.agreement(images, frozen)
    assert_close(torch.stack([words, seen, words + seen]), case, "consistency_step0")
    draws = iter(DRAWN)
    monkeypatch.setattr(method, "draw_description", lambda: next(draws))
    check_training(method, case, pixels=views)


def test_descriptions_of_unlike_number(backbone: Backbone) -> None:
    """Shorter lists begin again, and general sentences stand in where there are none."""
    method = fresh(backbone)
    method.descriptions = [["A cat.", "A small cat."], ["A dog."], [], ["A mole."], ["An oak."]]
    features = method.description_features
    assert features.shape == (6, 5, 64)
    assert torch.allclose(features[2, 0], features[0, 0])
    assert torch.allclose(features[5, 1], features[0, 1])
    assert not torch.allclose(features[1, 2], features[0, 2], atol=1e-3)


def test_every_description_is_drawn(backbone: Backbone) -> None:
    torch.manual_seed(0)
    method = fresh(backbone)
    assert {method.draw_description() for _ in range(50)} == {0, 1, 2}


def test_training_shows_two_views_of_every_image(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    method, pixels = fresh(backbone), parity_weights.images()
    asked, plain = [], CoPrompt.loss

    def seen(self: CoPrompt, pixels: Tensor, labels: Tensor, **kwargs: Any) -> Tensor:
        asked.append(pixels)
        return plain(self, pixels, labels, **kwargs)

    monkeypatch.setattr(CoPrompt, "loss", seen)
    examples = Examples(parity_weights.labels(), pixels=lambda indices, epoch: pixels[indices] + epoch)
    list(train(method, examples, TrainingConfig(epochs=2, batch_size=4), seed=1))
    assert len(asked) == 4
    for views in asked:
        assert views.shape == (2, 4, 3, 32, 32)
        assert torch.allclose(views[1] - views[0], torch.full_like(views[0], 2.0), atol=1e-5)
