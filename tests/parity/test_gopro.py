"""GOPro against the released implementation, and the views that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engines.backbones import Backbone
from engines.errors import BackboneError, Cancelled, ConfigError
from engines.prompts import create_method
from engines.prompts.gopro import AUGMIX, MOCO, GOPro
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, check_training, fill_official, load_case

CASE = load_case("gopro")
PIXELS, LABELS = parity_weights.images(), parity_weights.labels()
OTHERS = [torch.from_numpy(parity_weights.noise(f"parity.images.{view}", PIXELS.shape)) for view in ("moco", "augmix")]
VIEWS = torch.stack([PIXELS, *OTHERS])


def fresh(backbone: Backbone, **settings: Any) -> GOPro:
    torch.manual_seed(0)
    method = create_method("gopro", backbone, parity_weights.CLASSES, **settings)
    assert isinstance(method, GOPro)
    return method


@pytest.fixture
def released(backbone: Backbone) -> GOPro:
    """All three terms of the loss, on views that are taken as they are."""
    method = fresh(backbone, contrast=0.1, views="crops")
    statistics = [f"simproj.batchnorm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")]
    fill_official(method, keep=["prompt_learner.ctx", *statistics])
    return method


def test_equals_released_code(released: GOPro) -> None:
    method = released
    assert_same_value(method.ctx, CASE, "init.prompt_learner.ctx")
    assert torch.equal(method.layout.ids, torch.from_numpy(CASE["token_ids"])[:, : method.layout.ids.shape[1]])
    seen = [method.looks(view) for view in VIEWS]
    assert_close(method.shifted_context(seen[0]), CASE, "context")
    for view, name in zip(seen, ("", "_moco", "_augmix"), strict=True):
        assert_close(method.conditional_text_features(view), CASE, f"text_features{name}")
    assert_close(method.logits(PIXELS), CASE, "logits")
    assert_close(seen[0].features, CASE, "image_features")
    assert_close(method.simproj(seen[0].features), CASE, "simproj_image")
    assert_close(method.simproj(seen[1].features), CASE, "simproj_moco")
    for name, value in method.loss_terms(VIEWS, LABELS).items():
        assert_close(value, CASE, f"loss_{name}")
    assert_close(method.loss(VIEWS, LABELS), CASE, "loss")
    # The bias of rho adds one number to all dimensions of a word, which every layer norm of the tower takes away again.
    check_training(method, CASE, pixels=VIEWS, zero=["simproj.linear.bias", "prompt_learner.rho.bias"])


def test_the_contrast_reaches_neither_words_nor_answers(released: GOPro) -> None:
    """So nothing is lost by default, where it is left out."""
    contrast = released.loss_terms(VIEWS, LABELS)["con"]
    learned = [p for name, p in released.named_parameters() if "simproj" not in name]
    assert all(g is None for g in torch.autograd.grad(contrast, learned, allow_unused=True))
    method = fresh(released.backbone)
    assert not hasattr(method, "simproj")
    method.load_official(released.official_state_dict())
    assert torch.equal(method.logits(PIXELS), released.logits(PIXELS))
    with pytest.raises(ConfigError, match="has no “simproj"):
        released.load_official(method.official_state_dict())


def test_one_image_has_nothing_to_be_told_from(released: GOPro) -> None:
    assert released.loss_terms(VIEWS[:, :1], LABELS[:1])["con"] == 0


def test_any_split_of_a_batch_adds_up(backbone: Backbone) -> None:
    whole, parts = fresh(backbone, views="crops"), fresh(backbone, views="crops")
    loss = whole.backward(VIEWS, LABELS)
    split = [parts.backward(VIEWS[:, part], LABELS[part], weight=0.5) for part in (slice(0, 4), slice(4, 8))]
    assert torch.allclose(sum(split, torch.zeros(())), loss, atol=1e-5)
    for name, parameter in parts.trainable_parameters().items():
        assert torch.allclose(parameter.grad, whole.trainable_parameters()[name].grad, atol=1e-5), name


# --- views ----------------------------------------------------------------------


def crops(backbone: Backbone) -> Tensor:
    """8 colourful crops, normalised."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (backbone.mean, backbone.std))
    smooth = torch.nn.functional.interpolate(torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(1)), 32)
    return (smooth - mean) / std


@pytest.mark.parametrize("change", [MOCO, AUGMIX])
def test_views_are_altered_images(backbone: Backbone, change: Any) -> None:
    """Images again, each changed by itself; not the garbled bytes of normalised numbers."""
    method, pixels = fresh(backbone), crops(backbone)
    one = pixels[:1].expand(8, -1, -1, -1)
    torch.manual_seed(0)
    altered = method.altered(one, change)
    assert len({tuple(image.flatten().tolist()) for image in altered}) > 4
    mean, std = (torch.tensor(x)[:, None, None] for x in (backbone.mean, backbone.std))
    raw = altered * std + mean
    assert raw.min() >= -1e-4
    assert raw.max() <= 1 + 1e-4
    alike = torch.corrcoef(torch.stack([one[0].flatten(), altered.mean(dim=0).flatten()]))[0, 1]
    assert alike > 0.5
    torch.manual_seed(0)
    assert torch.equal(method.altered(one, change), altered)


def test_the_first_view_is_left_alone(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(GOPro, "loss", lambda self, pixels, labels, features: seen.append(pixels) or self.ctx.sum())
    views = crops(backbone).expand(3, -1, -1, -1, -1)
    fresh(backbone).backward(views, LABELS)
    fresh(backbone, views="crops").backward(views, LABELS)
    assert torch.equal(seen[0][0], views[0])
    assert not torch.allclose(seen[0][1], views[1], atol=0.05)
    assert not torch.allclose(seen[0][2], views[2], atol=0.05)
    assert torch.equal(seen[1], views)


def test_each_view_is_altered_from_its_own_crop(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[tuple[Tensor, Any]] = []

    def altered(self: GOPro, pixels: Tensor, change: Any) -> Tensor:
        changed.append((pixels, change))
        return pixels

    monkeypatch.setattr(GOPro, "altered", altered)
    views = torch.stack([crops(backbone) + 0.1 * number for number in range(3)])
    fresh(backbone).backward(views, LABELS)
    assert [change for _, change in changed] == [MOCO, AUGMIX]
    assert all(torch.equal(pixels, view) for (pixels, _), view in zip(changed, views[1:], strict=True))


def test_it_learns_and_resumes_exactly(backbone: Backbone, tmp_path: Path) -> None:
    pixels = crops(backbone)
    examples = Examples(LABELS, pixels=lambda indices, epoch: pixels[indices])
    config = TrainingConfig(epochs=4, batch_size=4, learning_rate=0.005, warmup_epochs=0)
    undisturbed, resumed = fresh(backbone), fresh(backbone)
    losses = [epoch.loss for epoch in train(undisturbed, examples, config, 1)]
    assert losses[-1] < losses[0]

    def stop(done: int, total: int) -> None:
        if done > 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(train(fresh(backbone), examples, config, 1, tmp_path / "c.pt", stop))
    list(train(resumed, examples, config, 1, tmp_path / "c.pt"))
    expected = undisturbed.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_what_it_refuses(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="needs the images themselves"):
        fresh(backbone).logits(features=torch.zeros(2, 64))
    with pytest.raises(BackboneError, match="depends on the image"):
        fresh(backbone).text_features()
    monkeypatch.setattr(backbone.vision, "reason", "its image tower is a ResNet")
    with pytest.raises(BackboneError, match="GOPro does not work"):
        fresh(backbone)
