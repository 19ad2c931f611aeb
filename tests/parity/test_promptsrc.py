"""PromptSRC against the official implementation, and its average over the passes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.backbones import Backbone
from engines.errors import Cancelled, ConfigError
from engines.prompts import create_method
from engines.prompts.promptsrc import PromptSRC
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, fill_official, load_case

CASES: dict[str, dict[str, Any]] = {
    "promptsrc_d2_n2": {"n": 2, "depth": 2, "gpa_mean": 3 / 5, "gpa_std": 1 / 5},
    "promptsrc_d3_n4": {"n": 4, "depth": 3, "gpa_mean": 4 / 5, "gpa_std": 2 / 5},
}


def fresh(backbone: Backbone, n: int, depth: int, **settings: Any) -> PromptSRC:
    depths = {"prompt_depth_text": depth, "prompt_depth_vision": depth}
    method = create_method(
        "promptsrc", backbone, parity_weights.CLASSES, n_ctx_text=n, n_ctx_vision=n, **depths, **settings
    )
    assert isinstance(method, PromptSRC)
    fill_official(method, keep=["prompt_learner.ctx"])
    return method


@pytest.mark.parametrize("name", CASES)
def test_features_equal_official_promptsrc(backbone: Backbone, name: str) -> None:
    case, method, pixels = load_case(name), fresh(backbone, **CASES[name]), parity_weights.images()
    assert_close(method.raw_image_features(pixels), case, "image_features_raw")
    assert_close(method.image_features(pixels), case, "image_features")
    assert_close(method.raw_text_features(), case, "text_features_raw")
    assert_close(method.text_features(), case, "text_features")
    assert_close(method.logits(pixels), case, "logits")
    frozen = method.frozen_image_features(pixels)
    assert_close(method.frozen_text, case, "fixed_text_features")
    assert_close(frozen, case, "zs_image_features")
    assert_close(backbone.logit_scale * frozen @ method.frozen_text.T, case, "zs_logits")


@pytest.mark.parametrize("name", CASES)
def test_training_equals_official_promptsrc(backbone: Backbone, name: str) -> None:
    """Five passes of one step; the average takes the prompts' place after the fifth."""
    case, method = load_case(name), fresh(backbone, **CASES[name])
    pixels, labels = parity_weights.images(), parity_weights.labels()
    learned = method.trainable_parameters()
    optimizer = torch.optim.SGD(learned.values(), lr=0.002, momentum=0.9, weight_decay=5e-4)
    losses, terms = [], []
    for epoch in range(5):
        optimizer.zero_grad()
        with torch.no_grad():
            terms.append([float(term) for term in method.loss_terms(pixels, labels)])
        losses.append(float(method.backward(pixels, labels)))
        if epoch == 0:
            for key, parameter in learned.items():
                assert parameter.grad is not None
                assert_close(parameter.grad, case, f"grad.{method.official_name(key)}")
        optimizer.step()
        if epoch == 4:
            for key, parameter in learned.items():
                assert_same_value(parameter, case, f"after5.{method.official_name(key)}")
            assert_close(method.logits(pixels), case, "logits_after5")
            assert_close(method.loss(pixels, labels), case, "losses_after5")
        method.end_epoch(epoch, 5)
    assert_close(np.array(losses), case, "losses")
    assert_close(np.array(terms), case, "loss_terms")
    assert_close(method.average_weights(5), case, "gauss")
    for key, parameter in learned.items():
        assert_same_value(parameter, case, f"gpa.{method.official_name(key)}")
    assert_close(method.logits(pixels), case, "logits_gpa")


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_a_stopped_training_ends_with_the_same_average(backbone: Backbone, tmp_path: Path, stop_after: int) -> None:
    pixels = parity_weights.images()
    examples = Examples(parity_weights.labels(), pixels=lambda indices, epoch: pixels[indices])
    config = TrainingConfig(epochs=3, batch_size=4)
    undisturbed = fresh(backbone, 2, 2)
    list(train(undisturbed, examples, config, seed=1))

    def stop(done: int, total: int) -> None:
        if done == stop_after:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(train(fresh(backbone, 2, 2), examples, config, 1, tmp_path / "c.pt", stop))
    resumed = fresh(backbone, 2, 2)
    list(train(resumed, examples, config, 1, tmp_path / "c.pt"))
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), undisturbed.parameters(), strict=True))


@pytest.mark.parametrize("epochs", [1, 2, 20, 50])
def test_the_average_fits_any_number_of_passes(backbone: Backbone, epochs: int) -> None:
    weights = fresh(backbone, 2, 1, gpa_mean=0.5, gpa_std=0.001).average_weights(epochs)
    assert weights.shape == (epochs,)
    assert float(weights.sum()) == pytest.approx(1.0)


def test_own_sentences(backbone: Backbone) -> None:
    method = fresh(backbone, 2, 1, templates="a photo of a {}.")
    ready_made = create_method("zero-shot", backbone, parity_weights.CLASSES)
    assert torch.allclose(method.frozen_text, ready_made.text_features(), atol=1e-5)
    with pytest.raises(ConfigError, match="templates"):
        fresh(backbone, 2, 1, templates="a photo of a {}.|a slide")
