"""AD-CLIP against the released implementation, and what its training on target images does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engines.backbones import Backbone
from engines.errors import BackboneError, Cancelled, ConfigError
from engines.prompts import create_method
from engines.prompts.ad_clip import ADCLIP
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights
from tests.parity.checks import assert_close, check_training, fill_official, load_case

CASE = load_case("adclip")
SOURCE, LABELS = parity_weights.images(), parity_weights.labels()
TARGET = torch.from_numpy(parity_weights.noise("parity.images.target", (8, 3, 32, 32)))
RELEASED = {"mapper_input": "source", "entropy": "released", "domain_hidden": 16, "style_mapping_hidden": 24}


def fresh(backbone: Backbone, **settings: Any) -> ADCLIP:
    torch.manual_seed(0)
    method = create_method("ad-clip", backbone, parity_weights.CLASSES, **settings)
    assert isinstance(method, ADCLIP)
    return method


@pytest.fixture
def released(backbone: Backbone) -> ADCLIP:
    method = fresh(backbone, **RELEASED)
    fill_official(method)
    return method


def test_what_is_read_off_the_image_tower(released: ADCLIP) -> None:
    states = torch.stack(released.backbone.vision.hidden_states(SOURCE))
    assert_close(states, CASE, "source_hidden")
    assert_close(states[:, :, 0], CASE, "source_hidden_cls")
    seen = released.looks(SOURCE)
    assert torch.allclose(seen.mean, states.mean(dim=2).transpose(0, 1), atol=1e-5)
    assert torch.allclose(seen.deviation, states.std(dim=2, correction=0).transpose(0, 1), atol=1e-5)
    assert_close(seen.features, CASE, "source_image_features")
    assert_close(released.looks(TARGET).features, CASE, "target_image_features")


def test_equals_released_code(released: ADCLIP) -> None:
    method, source, target = released, released.looks(SOURCE), released.looks(TARGET)
    words = method.domain_tokens(source), method.domain_tokens(target)
    assert_close(words[0], CASE, "source_domain_tokens")
    assert_close(method.style_mapping_tokens(source), CASE, "source_style_mapping_tokens")
    for side, seen in (("source", source), ("target", target)):
        context = method.context(*words, method.image_tokens(seen))
        assert_close(context[0], CASE, f"{side}_context_image0")
        text = method.conditional_text_features(context)
        assert_close(text, CASE, f"{side}_text_features")
        assert_close(method.scores(seen.features, text), CASE, f"{side}_logits")
    assert_close(method.scores(target.features, text).softmax(dim=1), CASE, "target_probs")
    terms = method.loss_terms(source, target, LABELS)
    for name, value in terms.items():
        assert_close(value, CASE, f"loss_{name}")
    both = torch.stack([SOURCE, TARGET])
    assert_close(method.loss(both, LABELS), CASE, "loss")
    check_training(method, CASE, pixels=both)


def test_target_images_are_enough_in_use(backbone: Backbone) -> None:
    """The prompt in full, and each image answered as if it were alone."""
    method = fresh(backbone)
    logits = method.logits(TARGET)
    seen = method.looks(TARGET[2:3])
    guessed, own, content = (
        part(seen) for part in (method.style_mapping_tokens, method.domain_tokens, method.image_tokens)
    )
    context = torch.cat([guessed, own, content[:, None].repeat(1, 4, 1)], dim=1)
    text = method.conditional_text_features(context)[0]
    expected = backbone.logit_scale * seen.features @ text.T
    assert torch.allclose(logits[2:3], expected, atol=1e-4)
    assert not torch.allclose(method.context(own, own, content), context)


def test_the_mapper_learns_from_target_images(backbone: Backbone) -> None:
    """By default it sees them; as released, target images never reach it."""
    for settings, depends in (({}, True), ({"mapper_input": "source"}, False)):
        method = fresh(backbone, **settings)
        gradients = []
        for target in (TARGET, TARGET.flip(1)):
            terms = method.loss_terms(method.looks(SOURCE), method.looks(target), LABELS)
            gradients.append(torch.autograd.grad(terms["smn"], list(method.style_mapping_tokens.parameters())))
        same = all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))
        assert same != depends


def test_plain_entropy(backbone: Backbone) -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    expected = torch.distributions.Categorical(logits=logits).entropy().mean()
    assert torch.allclose(fresh(backbone).uncertainty(logits), expected)
    assert not torch.allclose(fresh(backbone, entropy="released").uncertainty(logits), expected)


# --- its training ---------------------------------------------------------------

QUICK = TrainingConfig(epochs=3, batch_size=4, learning_rate=0.003, optimizer="adam", warmup_epochs=0)


def examples(seen: list[tuple[int, list[int]]] | None = None) -> Examples:
    """8 labelled images of a source and 8 images of a target; `seen` notes which of the latter are asked for."""

    def target(indices: Tensor, epoch: int) -> Tensor:
        if seen is not None:
            seen.append((epoch, indices.tolist()))
        return TARGET[indices]

    there = Examples(torch.full((8,), -1), pixels=target)
    return Examples(LABELS, pixels=lambda indices, epoch: SOURCE[indices], unlabelled=there)


def state(method: ADCLIP) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_pass_shows_all_target_images_in_a_new_order(backbone: Backbone) -> None:
    seen: list[tuple[int, list[int]]] = []
    method = fresh(backbone)
    losses = [epoch.loss for epoch in train(method, examples(seen), QUICK, 1)]
    assert losses[-1] < losses[0]
    passes = [[i for epoch, batch in seen if epoch == number for i in batch] for number in range(3)]
    assert [sorted(order) for order in passes] == [list(range(8))] * 3
    assert len({tuple(order) for order in passes}) == 3
    repeated: list[tuple[int, list[int]]] = []
    list(train(fresh(backbone), examples(repeated), QUICK, 1))
    assert repeated == seen


@pytest.mark.parametrize("stop_after", [2, 3])
def test_resume_is_exact(backbone: Backbone, tmp_path: Path, stop_after: int) -> None:
    undisturbed, resumed = fresh(backbone), fresh(backbone)
    list(train(undisturbed, examples(), QUICK, 1))

    def stop(done: int, total: int) -> None:
        if done > stop_after:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(train(fresh(backbone), examples(), QUICK, 1, tmp_path / "c.pt", stop))
    list(train(resumed, examples(), QUICK, 1, tmp_path / "c.pt"))
    assert equal(state(resumed), state(undisturbed))


def test_lack_of_memory_keeps_the_pairs(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed, method, plain = fresh(backbone), fresh(backbone), ADCLIP.backward

    def short_of_memory(self: ADCLIP, pixels: Tensor, labels: Tensor, **kwargs: Any) -> Tensor:
        if len(labels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, pixels, labels, **kwargs)

    monkeypatch.setattr(ADCLIP, "backward", short_of_memory)
    config = QUICK.model_copy(update={"optimizer": "sgd"})
    list(train(method, examples(), config, 1))
    monkeypatch.setattr(ADCLIP, "backward", plain)
    list(train(undisturbed, examples(), config, 1))
    for name, value in state(undisturbed).items():
        assert torch.allclose(method.state_dict()[name], value, atol=1e-5), name


def test_without_target_images_the_source_stands_in(backbone: Backbone) -> None:
    method = fresh(backbone)
    alone = method.loss(SOURCE, LABELS)
    assert torch.allclose(alone, method.loss(torch.stack([SOURCE, SOURCE]), LABELS))
    assert not torch.allclose(alone, method.loss(torch.stack([SOURCE, TARGET]), LABELS))


def test_what_it_refuses(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="needs the images themselves"):
        fresh(backbone).logits(features=torch.zeros(2, 64))
    with pytest.raises(ConfigError, match="tokens"):
        fresh(backbone, image_tokens=32).for_classes(["word " * 50])
    monkeypatch.setattr(backbone.vision, "reason", "its image tower is a ResNet")
    with pytest.raises(BackboneError, match="AD-CLIP does not work"):
        fresh(backbone)
