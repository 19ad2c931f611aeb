"""Tip-Adapter and Tip-Adapter-F against the official implementation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.prompts import create_method, load_prompt
from engines.prompts.settings import TrainingConfig
from engines.prompts.tip_adapter import TipAdapter
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, load_case

CASE = load_case("tip_single")
SETTINGS = {
    "init_alpha": 3,
    "search_scale_beta": 50,
    "search_scale_alpha": 200,
    "search_step_beta": 20,
    "search_step_alpha": 10,
}
LABELS = torch.arange(5).repeat_interleave(2)


def pictures(name: str, labels: Tensor, amount: float) -> Tensor:
    """A pattern for each class, and noise on top."""
    patterns = torch.from_numpy(parity_weights.noise("parity.tip.proto", (5, 3, 32, 32)))
    return patterns[labels] + torch.from_numpy(parity_weights.noise(name, (len(labels), 3, 32, 32), amount))


def asked(backbone: Backbone, part: str) -> tuple[Tensor, Tensor]:
    """Raw features and labels of the validation or test images."""
    labels = torch.from_numpy(CASE[f"{part}_labels"])
    return backbone.encode_image(pictures(f"parity.tip.{part}", labels, 1.3)), labels


@pytest.fixture(scope="module")
def views(backbone: Backbone) -> Tensor:
    """Raw features of two altered views of the ten images in the memory."""
    return torch.stack([backbone.encode_image(pictures(f"parity.tip.cache.{i}", LABELS, 0.7)) for i in range(2)])


def tip(backbone: Backbone, name: str = "tip-adapter", **settings: object) -> TipAdapter:
    method = create_method(name, backbone, parity_weights.CLASSES, **(SETTINGS | settings))
    assert isinstance(method, TipAdapter)
    return method


def test_equals_official_tip_adapter(backbone: Backbone, views: Tensor) -> None:
    method = tip(backbone)
    val, val_labels = asked(backbone, "val")
    test, _ = asked(backbone, "test")
    method.remember(views, LABELS)
    assert_close(method.text_features().T, CASE, "clip_weights")
    assert_close(method.keys.T, CASE, "cache_keys")
    assert_close(method.values, CASE, "cache_values")
    assert_close(F.normalize(val, dim=-1), CASE, "val_features")
    assert_close(F.normalize(test, dim=-1), CASE, "test_features")
    assert_close(method.sentence_logits(F.normalize(val, dim=-1)), CASE, "val_clip_logits")
    assert_close(method.sentence_logits(F.normalize(test, dim=-1)), CASE, "test_clip_logits")
    assert_close(method.logits(features=val), CASE, "val_tip_logits")
    assert_close(100 * method.search(val, val_labels), CASE, "search_grid")
    assert_close(torch.stack([method.beta, method.alpha]), CASE, "searched")
    assert_close(method.logits(features=test), CASE, "test_tip_logits_searched")


def test_equals_official_tip_adapter_f(backbone: Backbone, views: Tensor) -> None:
    """Five passes of one step each, over the two views in turn."""
    method = tip(backbone, "tip-adapter-f")
    config = type(method).training_defaults().model_copy(update={"epochs": 5})
    method.start(Examples(LABELS, views))
    optimizer = torch.optim.AdamW(
        method.trainable_parameters().values(), config.learning_rate, eps=config.epsilon, weight_decay=0.01
    )
    losses, rates = [], [config.rate(step) for step in range(5)]
    assert_close(np.array(rates), CASE, "f.lr")
    for step, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        if step == 0:
            assert_close(method.logits(features=views[0]), CASE, "f.train_logits0")
        losses.append(method.backward(None, LABELS, features=views[step % 2]).item())
        if step == 0:
            assert method.keys.grad is not None
            assert_close(method.keys.grad, CASE, "f.grad")
        optimizer.step()
        if step == 0:
            assert_same_value(method.keys, CASE, "f.after1")
    assert_close(np.array(losses), CASE, "f.losses")
    assert_same_value(method.keys, CASE, "f.after5")
    assert_close(method.logits(features=asked(backbone, "test")[0]), CASE, "f.test_logits_after5")


def test_trained_from_examples(backbone: Backbone, views: Tensor, tmp_path: Path) -> None:
    """Memory, passes and search in one go; the same after a restart; saved with its memory."""
    examples = Examples(LABELS, views, None, *asked(backbone, "val"))
    config = TrainingConfig(epochs=3, optimizer="adamw", learning_rate=0.001, schedule="cosine-steps", warmup_epochs=0)
    method = tip(backbone, "tip-adapter-f")
    list(train(method, examples, config, 1, tmp_path / "c.pt"))
    assert float(method.beta) != 1.0
    assert not torch.allclose(method.keys, F.normalize(views.mean(dim=0), dim=-1), atol=1e-4)
    again = tip(backbone, "tip-adapter-f")
    steps: list[int] = []
    list(train(again, examples, config, 1, tmp_path / "c.pt", lambda done, total: steps.append(done)))
    assert steps == []
    test = asked(backbone, "test")[0]
    loaded = load_prompt(method.save(tmp_path), backbone)
    for other in (again, loaded):
        assert torch.equal(other.logits(features=test), method.logits(features=test))
    official = tip(backbone, "tip-adapter-f")
    official.load_official({n: t for n, t in method.official_state_dict().items() if n not in ("alpha", "beta")})
    assert torch.equal(official.keys, method.keys)
    assert float(official.beta) == 1.0


def test_memory_from_fresh_crops(backbone: Backbone) -> None:
    """Without cached views the ten views come from fresh crops."""
    pixels = pictures("parity.tip.cache.0", LABELS, 0.7)
    seen = []

    def live(indices: Tensor, epoch: int) -> Tensor:
        seen.append(epoch)
        return pixels[indices]

    method = tip(backbone, "tip-adapter-f")
    method.start(Examples(LABELS, pixels=live))
    assert seen == list(range(10))
    assert torch.allclose(method.keys, F.normalize(backbone.encode_image(pixels), dim=-1), atol=1e-6)


def test_training_free_in_one_go(backbone: Backbone, views: Tensor) -> None:
    val, val_labels = asked(backbone, "val")
    method = tip(backbone)
    (epoch,) = train(method, Examples(LABELS, views, None, val, val_labels), TrainingConfig(), 1)
    assert epoch.train_accuracy == 1.0
    assert_close(torch.stack([method.beta, method.alpha]), CASE, "searched")
    unsearched = tip(backbone, search_hp=False)
    list(train(unsearched, Examples(LABELS, views, None, val, val_labels), TrainingConfig(), 1))
    assert (float(unsearched.beta), float(unsearched.alpha)) == (1.0, 3.0)


def test_among_equals(backbone: Backbone, views: Tensor) -> None:
    """One validation image: half the grid does equally well."""
    first, nearest = tip(backbone, init_beta=20), tip(backbone, init_beta=20, ties="nearest")
    for method in (first, nearest):
        method.remember(views, LABELS)
        assert (method.search(views[0, :1], LABELS[:1]) == 1).sum() > 100
    assert float(first.beta) == pytest.approx(0.1)
    assert (float(nearest.beta), float(nearest.alpha)) == pytest.approx((20.06, 20.09))


def test_nothing_is_ever_right(backbone: Backbone, views: Tensor) -> None:
    method = tip(backbone)
    method.remember(views, LABELS)
    wrong = (method.logits(features=views[0]).argmin(dim=1))[:1]
    assert method.search(views[0, :1], wrong).max() == 0
    assert (float(method.beta), float(method.alpha)) == (1.0, 3.0)


def test_a_class_without_images(backbone: Backbone, views: Tensor) -> None:
    """The official one-hot table is too narrow where the last class has no image."""
    method = tip(backbone)
    method.remember(views[:, :8], LABELS[:8])
    assert method.logits(features=views[0]).shape == (10, 5)


@pytest.mark.parametrize(("ensemble", "count"), [("imagenet-7", 7), ("imagenet-80", 80)])
def test_sentences_averaged(backbone: Backbone, ensemble: str, count: int) -> None:
    ready_made = create_method("zero-shot", backbone, parity_weights.CLASSES, ensemble=ensemble, append=False)
    assert torch.equal(tip(backbone, ensemble=ensemble).text_features(), ready_made.text_features())


def test_scale(backbone: Backbone, views: Tensor) -> None:
    plain, own = tip(backbone), tip(backbone, model_scale=True)
    images = F.normalize(views[0], dim=-1)
    ratio = plain.sentence_logits(images) / own.sentence_logits(images)
    assert torch.allclose(ratio, 100 / backbone.logit_scale.expand_as(ratio))
