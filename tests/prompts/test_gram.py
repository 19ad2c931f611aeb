"""GRAM around other methods: what must hold, since there is no official code to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engines.backbones import Backbone
from engines.errors import ConfigError
from engines.prompts import create_method, load_prompt
from engines.prompts.gram import GRAM, Regulator, _Tasks
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights

CLASSES = parity_weights.CLASSES
QUICK = TrainingConfig(epochs=3, batch_size=8, views=2, learning_rate=0.02)


def made(tiny: Backbone, **settings: Any) -> GRAM:
    torch.manual_seed(0)
    method = create_method("gram", tiny, CLASSES, **({"episodes": 2, "wrapped_settings": '{"n_ctx": 4}'} | settings))
    assert isinstance(method, GRAM)
    return method


def test_the_regulator_begins_as_identity_and_stays_bounded() -> None:
    regulator = Regulator(32)
    gradient = torch.randn(5, 4, 32)
    assert torch.equal(regulator(gradient), gradient)
    for parameter in regulator.parameters():
        torch.nn.init.normal_(parameter, std=50)
    bent = regulator(gradient)
    assert (bent.norm(dim=-1) <= 3 * gradient.norm(dim=-1) + 1e-4).all()
    assert torch.isfinite(regulator(torch.zeros(2, 32))).all()


def test_before_rehearsal_it_is_the_wrapped_method(tiny: Backbone) -> None:
    method = made(tiny, episodes=0)
    alone = create_method("coop", tiny, CLASSES, n_ctx=4)
    alone.load_state_dict(method.wrapped.state_dict())
    features, labels = torch.randn(8, tiny.embed_dim), parity_weights.labels()
    method.backward(None, labels, features=features)
    alone.backward(None, labels, features=features)
    torch.testing.assert_close(method.wrapped.ctx.grad, alone.ctx.grad)
    assert list(method.trainable_parameters()) == ["wrapped.ctx"]


def test_parts_of_a_batch_add_up_before_they_are_regulated(tiny: Backbone) -> None:
    method = made(tiny)
    for parameter in method.text_regulator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    features, labels = torch.randn(8, tiny.embed_dim), parity_weights.labels()
    gradients = []
    for parts in (1, 2, 4):
        method.zero_grad(set_to_none=True)
        for part, label in zip(features.chunk(parts), labels.chunk(parts), strict=True):
            method.backward(None, label, features=part, weight=len(part) / 8)
        gradients.append(method.wrapped.ctx.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])
    method.config.regulate = False
    method.zero_grad(set_to_none=True)
    method.backward(None, labels, features=features)
    assert not torch.allclose(method.wrapped.ctx.grad, gradients[0])


def test_rehearsal_lowers_the_loss_after_one_step(tiny: Backbone, examples: Examples) -> None:
    """The tasks' query loss, which is what the rehearsal is about, falls."""
    method = made(tiny, episodes=40)
    before = method.wrapped.ctx.detach().clone()
    with torch.no_grad():
        first = float(method.loss(labels=examples.labels, features=examples.features[0]))
    method.start(examples)
    with torch.no_grad():
        last = float(method.loss(labels=examples.labels, features=examples.features[0]))
    assert last < first
    assert not torch.equal(method.wrapped.ctx, before)
    assert float(method.text_regulator.outer.weight.abs().sum()) > 0
    assert not any(p.requires_grad for p in method.text_regulator.parameters())


@pytest.mark.parametrize(
    ("wrapped", "settings"),
    [("coop", '{"csc": true, "n_ctx": 2}'), ("kgcoop", ""), ("vpt", ""), ("maple", '{"prompt_depth": 2}')],
)
def test_wraps_what_learns_from_labels(tiny: Backbone, tmp_path: Path, wrapped: str, settings: str) -> None:
    method = made(tiny, wrapped=wrapped, wrapped_settings=settings, episodes=1)
    pixels = parity_weights.images()
    if method.frozen_images:
        given = Examples(parity_weights.labels(), tiny.encode_image(pixels)[None])
    else:
        given = Examples(parity_weights.labels(), pixels=lambda indices, epoch: pixels[indices])
    list(train(method, given, QUICK, seed=1))
    loaded = load_prompt(method.save(tmp_path), tiny)
    torch.testing.assert_close(loaded.logits(pixels), method.logits(pixels))
    assert loaded.class_bound == method.wrapped.class_bound
    if not method.class_bound:
        assert method.for_classes(["lung", "liver"]).logits(pixels).shape == (8, 2)


def test_a_stopped_training_ends_the_same(tiny: Backbone, examples: Examples, tmp_path: Path) -> None:
    whole = made(tiny)
    list(train(whole, examples, QUICK, seed=1))
    cut = made(tiny)
    stopped = train(cut, examples, QUICK, 1, tmp_path / "checkpoint.pt")
    next(stopped)
    resumed = made(tiny)
    list(train(resumed, examples, QUICK, 1, tmp_path / "checkpoint.pt"))
    torch.testing.assert_close(resumed.wrapped.ctx, whole.wrapped.ctx)


def test_the_rehearsal_counts_as_steps_and_can_be_stopped(tiny: Backbone, examples: Examples, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def note(done: int, of: int) -> None:
        seen.append((done, of))

    list(train(made(tiny, episodes=5), examples, QUICK, 1, tmp_path / "checkpoint.pt", note))
    total = seen[0][1]
    assert seen == [(step, total) for step in range(1, total + 1)]
    assert total > 5
    seen.clear()
    list(train(made(tiny, episodes=5), examples, QUICK, 1, tmp_path / "checkpoint.pt", note))
    assert seen == []  # all passes are over, and nothing is rehearsed anew

    def stop(done: int, of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    method = made(tiny, episodes=5)
    before = method.wrapped.ctx.detach().clone()
    with pytest.raises(KeyboardInterrupt):
        list(train(method, examples, QUICK, 1, on_step=stop))
    assert torch.equal(method.wrapped.ctx, before)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"wrapped": "gram"}, "cannot start"),
        ({"wrapped": "zero-shot"}, "cannot start"),
        ({"wrapped": "linear-probe"}, "cannot start"),
        ({"wrapped": "copo"}, "no method called"),
        ({"wrapped_settings": "{n_ctx"}, "no settings"),
        ({"wrapped_settings": "[4]"}, "no settings"),
        ({"wrapped_settings": '{"words": 4}'}, "words"),
        ({"ways": 1}, "ways"),
    ],
)
def test_what_cannot_be_wrapped_is_told(tiny: Backbone, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(tiny, **settings)


def test_equal_images_of_a_class_are_one_cluster(tiny: Backbone) -> None:
    """Copies of one image give fewer clusters than were asked for."""
    method = made(tiny)
    labels = torch.arange(20) % 5
    method.start(Examples(labels, torch.randn(5, tiny.embed_dim)[labels][None]))
    assert torch.isfinite(method.wrapped.ctx).all()


def test_tasks_keep_what_is_said_about_their_classes(tiny: Backbone) -> None:
    method = made(tiny, wrapped="coprompt", wrapped_settings="", ways=3, episodes=0)
    pixels = parity_weights.images()
    given = Examples(parity_weights.labels(), pixels=lambda indices, epoch: pixels[indices])
    method.descriptions = [[f"signs of {name}"] for name in CLASSES]
    method.other_classes = ["lung"]
    method.start(given)
    task = _Tasks(method, given).draw()[0].method
    assert len(task.class_names) == 3
    assert task.descriptions == [[f"signs of {name}"] for name in task.class_names]
    assert method.wrapped.other_classes == ["lung"]
