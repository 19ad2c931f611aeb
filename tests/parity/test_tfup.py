"""TFUP and TFUP-T against the official implementation, and what our loop and files add to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.errors import Cancelled, ConfigError
from engines.prompts import create_method, load_prompt
from engines.prompts.settings import TrainingConfig
from engines.prompts.tfup import TFUP
from engines.prompts.tfup_t import TFUPT
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, fill_official, load_case

CASE, TRAINED = load_case("tfup_inference"), load_case("tfup_t")
PATTERNS = torch.from_numpy(parity_weights.noise("parity.tfup.text", (5, 64)))
TRUE = torch.from_numpy(parity_weights.integers("parity.tfup.labels", (60,), 0, 5))
IMAGES = (0.3 * PATTERNS[TRUE] + torch.from_numpy(parity_weights.noise("parity.tfup.images", (60, 64)))) * 3 / 8
ALTERED = IMAGES + 0.15 * torch.from_numpy(parity_weights.noise("parity.tfup.augment", (60, 64)))
UNKNOWN = torch.full((60,), -1)
PICKED = torch.from_numpy(CASE["train_indices"]).flatten()


def fresh(backbone: Backbone, name: str, **settings: Any) -> Any:
    """The method with the official text features in the place of sentences."""
    torch.manual_seed(0)
    method = create_method(name, backbone, parity_weights.CLASSES, shots=4, **settings)
    assert isinstance(method, TFUP)
    method.read_sentences = lambda: method.text.copy_(PATTERNS * 2 / 8)  # type: ignore[method-assign]
    return method


def started(backbone: Backbone, **settings: Any) -> TFUPT:
    """TFUP-T with the official starting values, in front of its first step."""
    method: TFUPT = fresh(backbone, "tfup-t", **settings)
    fill_official(method, keep=["text_adapter.res"])
    method.start(Examples(UNKNOWN, ALTERED[None], plain=IMAGES))
    return method


def test_equals_official_tfup(backbone: Backbone) -> None:
    method: TFUP = fresh(backbone, "tfup")
    method.fit(IMAGES[None], UNKNOWN)
    unit, text = F.normalize(IMAGES, dim=-1), method.text_features()
    chosen = torch.from_numpy(CASE["cache_indices"])
    assert torch.equal(method.typical(IMAGES, 4), chosen)
    assert torch.equal(method.typical(IMAGES, 9), torch.from_numpy(CASE["train_indices"]))
    assert torch.equal(method.keys, IMAGES[chosen])
    assert torch.equal(torch.arange(5).repeat_interleave(4), torch.from_numpy(CASE["cache_labels"]))
    assert_close(method.semantic_likeness(unit, text), CASE, "semantic_similarity")
    ready_made, logits = method.scale * unit @ text.T, method.logits(features=IMAGES)
    assert_close(ready_made, CASE, "zero_shot_logits")
    assert_close(logits, CASE, "tfup_logits")
    right = [100 * float((z.argmax(dim=1) == TRUE).float().mean()) for z in (ready_made, logits)]
    assert_close(np.array(right), CASE, "losses")
    spread = method.logits(features=IMAGES) - ready_made
    assert float((spread.amax(dim=1) - spread.amin(dim=1)).mean()) > 0.1


def test_first_passes_equal_official_tfup_t(backbone: Backbone) -> None:
    """Which images they take, as which class, and how often each counts."""
    method = started(backbone)
    assert torch.equal(method.typical_labels[PICKED], torch.from_numpy(CASE["train_labels"]).flatten())
    counts = torch.bincount(PICKED, minlength=60)
    assert torch.allclose(method.typical_weights, counts / (45 / 60))


def official_steps(method: TFUPT) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """(loss, its terms) of two steps on picked images and of two passes over all, each ready for `backward`."""
    labels, found = torch.from_numpy(CASE["train_labels"]).flatten(), []
    config = TrainingConfig(**method.presets["unsupervised"] | {"epochs": 3})
    optimizer = torch.optim.AdamW(
        method.trainable_parameters().values(), config.learning_rate, eps=config.epsilon, weight_decay=0.1
    )
    assert config.weight_decay == 0.1
    batches = [slice(0, 24), slice(24, 45), *[slice(0, 32), slice(32, 60)] * 2]
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = config.rate(step / 2)
        optimizer.zero_grad()
        if step < 2:
            logits = method.logits(features=ALTERED[PICKED[batch]])
            loss = method.first_loss(logits, labels[batch], torch.ones(len(labels[batch])))
            terms = {"taught": loss, "images": torch.tensor(float(len(labels[batch])))}
        else:
            indices = torch.arange(60)[batch]
            method.begin_step(indices, epoch=5, phase=0)
            loss = method.loss(features=ALTERED[indices])
            logits = method.logits(features=ALTERED[indices])
            taught, images = method.taught_term(logits, method.adapt(IMAGES[indices]))
            terms = {"taught": taught, "images": images, "spread": method.spread_term(logits)}
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
        found.append((loss.detach(), {name: term.detach() for name, term in (terms | gradients).items()}))
        optimizer.step()
    return found


def test_training_equals_official_tfup_t(backbone: Backbone) -> None:
    method = started(backbone)
    steps = official_steps(method)
    assert_close(torch.stack([loss for loss, _ in steps]), TRAINED, "losses")
    assert_close(torch.stack([torch.stack([t["taught"], t["images"]]) for _, t in steps]), TRAINED, "ce_terms")
    assert_close(torch.stack([t["spread"] for _, t in steps[2:]]), TRAINED, "marginal_terms")
    assert_close(torch.stack([t["residual"] for _, t in steps]), TRAINED, "text_residual_grads")
    norms = [[t[f"adapter.{layer}.weight"].norm() for layer in (0, 2)] for _, t in steps]
    assert_close(torch.tensor(norms), TRAINED, "image_adapter_grad_norms")
    for name, value in method.official_state_dict().items():
        assert_same_value(value, TRAINED, f"after6.{name}")
    assert_close(method.logits(features=IMAGES), TRAINED, "final_logits")
    asked = fresh(backbone, "tfup-t", ask_memory=True)
    asked.load_state_dict(method.state_dict())
    assert_close(asked.logits(features=IMAGES), TRAINED, "final_cache_logits")


# --- the loop -------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 5])
def test_labels_are_never_read(backbone: Backbone, epoch: int) -> None:
    method, indices = started(backbone), torch.arange(60)
    losses = []
    for labels in (UNKNOWN, TRUE, None):
        method.begin_step(indices, epoch, 0)
        losses.append(method.loss(labels=labels, features=ALTERED))
    assert losses[0] == losses[1] == losses[2]
    for labels in (UNKNOWN, TRUE):
        remembering: TFUP = fresh(backbone, "tfup")
        (done,) = train(remembering, Examples(labels, IMAGES[None]), TrainingConfig(), 1)
        assert (done.train_accuracy is None) == (labels is UNKNOWN)
        assert done.loss == pytest.approx(
            float(remembering.logits(features=IMAGES).softmax(1).amax(1).log().mean().neg())
        )
        losses.append(remembering.keys)
    assert torch.equal(losses[3], losses[4])


def test_first_passes_add_up_over_parts_of_a_batch(backbone: Backbone) -> None:
    gradients = []
    for parts in (1, 4):
        method = started(backbone)
        for part in torch.arange(60).chunk(parts):
            method.begin_step(part, 0, 0)
            method.backward(None, UNKNOWN[part], features=ALTERED[part], weight=len(part) / 60)
        assert method.residual.grad is not None
        gradients.append(method.residual.grad)
    assert torch.allclose(*gradients, atol=1e-6)


def test_nothing_sure_enough(backbone: Backbone) -> None:
    """Then only the spread over the classes is left."""
    method = started(backbone, threshold=1 - 1e-12)
    method.begin_step(torch.arange(60), 5, 0)
    weak = method.adapt(1e-3 * torch.randn(60, 64))
    taught, images = method.taught_term(method.logits(features=ALTERED), weak)
    assert (taught.item(), images.item()) == (0.0, 0)
    method.whole_loss(method.logits(features=ALTERED), weak).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def test_given_frequencies(backbone: Backbone) -> None:
    """KL(p || frequencies): equal ones change nothing but a constant, and p that has them costs nothing."""
    logits = torch.randn(8, 5)
    plain, equal = started(backbone).spread_term(logits), started(backbone, prior="2, 2,2, 2,2").spread_term(logits)
    assert float(equal - plain) == pytest.approx(np.log(5), rel=1e-5)
    skewed = started(backbone, prior="95,2,1,1,1")
    assert abs(float(skewed.spread_term(torch.tensor([[0.95, 0.02, 0.01, 0.01, 0.01]]).log()))) < 1e-3
    assert float(skewed.spread_term(torch.zeros(1, 5))) > 1
    for wrong in ("95, 5", "0,0,0,0,0", "many"):
        with pytest.raises(ConfigError, match=r"how frequent|prior"):
            fresh(backbone, "tfup-t", prior=wrong)


def test_trained_from_examples(backbone: Backbone, tmp_path: Path) -> None:
    """In the real loop it learns from nothing but images; a stopped training ends as an undisturbed one."""
    examples = Examples(UNKNOWN, torch.stack([IMAGES, ALTERED]), plain=IMAGES)
    config = TFUPT.training_defaults("unsupervised").model_copy(update={"epochs": 6, "batch_size": 20})
    undisturbed = fresh(backbone, "tfup-t", typical_passes=3)
    epochs = list(train(undisturbed, examples, config, 1))
    assert [epoch.train_accuracy for epoch in epochs] == [None] * 6
    assert epochs[2].loss < epochs[0].loss
    learned = float((undisturbed.logits(features=IMAGES).argmax(dim=1) == TRUE).float().mean())
    assert learned >= CASE["losses"][0] / 100

    def stop(done: int, total: int) -> None:
        if done == 10:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(train(fresh(backbone, "tfup-t", typical_passes=3), examples, config, 1, tmp_path / "c.pt", stop))
    resumed = fresh(backbone, "tfup-t", typical_passes=3)
    list(train(resumed, examples, config, 1, tmp_path / "c.pt"))
    state = resumed.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in undisturbed.state_dict().items())
    loaded = load_prompt(undisturbed.save(tmp_path), backbone)
    assert torch.equal(loaded.logits(features=IMAGES), undisturbed.logits(features=IMAGES))


# --- memory and files -----------------------------------------------------------


def test_memory_is_saved(backbone: Backbone, tmp_path: Path) -> None:
    method: TFUP = fresh(backbone, "tfup")
    list(train(method, Examples(UNKNOWN, IMAGES[None]), TrainingConfig(), 1))
    again: TFUP = fresh(backbone, "tfup")
    again.load_official(method.official_state_dict())
    for other in (load_prompt(method.save(tmp_path), backbone), again):
        assert torch.equal(other.logits(features=IMAGES), method.logits(features=IMAGES))
    with pytest.raises(ConfigError, match="has the shape"):
        again.load_official({"text": method.text, "keys": torch.zeros(4, 4, 64)})
    with pytest.raises(ConfigError, match="cannot be used on others"):
        method.for_classes(["lung"])


@pytest.mark.parametrize(("images", "expected"), [(3, 3), (60, 9), (200, 12), (2000, 16)])
def test_how_many_are_remembered(backbone: Backbone, images: int, expected: int) -> None:
    method: Any = create_method("tfup", backbone, parity_weights.CLASSES)
    features = torch.randn(images, 64, generator=torch.Generator().manual_seed(1))
    method.fit(features[None], torch.full((images,), -1))
    assert method.keys.shape == (5, expected, 64)
    assert method.logits(features=features).isfinite().all()
    assert method.logits(features=features[:0]).shape == (0, 5)


def test_remembered_images_that_are_all_alike(backbone: Backbone) -> None:
    """All divergences are equal then; the official code divides by zero."""
    method: TFUP = fresh(backbone, "tfup")
    method.fit(IMAGES[:1].expand(1, 60, -1))
    assert torch.equal(
        method.semantic_likeness(F.normalize(IMAGES, dim=-1), method.text_features()), torch.ones(60, 20)
    )


def test_sentences_that_people_wrote(backbone: Backbone, tmp_path: Path) -> None:
    """They stand in for the plain one, as the mean of features as long as they come, and are not needed later."""
    method: Any = create_method("tfup", backbone, ["melanoma", "a_mole"], template="a picture of a {}.")
    method.logits(features=IMAGES)  # before anybody said what there is to say
    method.descriptions = [["dark skin", "an irregular border"], []]
    method.fit(IMAGES[None], UNKNOWN)
    first = backbone.encode_text(["dark skin", "an irregular border"]).mean(dim=0)
    assert torch.allclose(method.text[0], first, atol=1e-5)  # alone and among others, sums are rounded differently
    assert torch.allclose(method.text[1], backbone.encode_text(["a picture of a a mole."])[0], atol=1e-5)
    assert torch.equal(load_prompt(method.save(tmp_path), backbone).text_features(), method.text_features())


def test_scale(backbone: Backbone) -> None:
    plain, own = fresh(backbone, "tfup"), fresh(backbone, "tfup", model_scale=True)
    ratio = plain.logits(features=IMAGES) / own.logits(features=IMAGES)
    assert torch.allclose(ratio, 100 / backbone.logit_scale.expand_as(ratio))
