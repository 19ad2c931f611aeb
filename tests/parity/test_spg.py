"""SPG against the released implementation, and what our loop and files add to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.errors import Cancelled, ConfigError
from engines.prompts import create_method, load_prompt
from engines.prompts.settings import TrainingConfig
from engines.prompts.spg import SPG
from engines.prompts.spg_game import Drawn
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, check_training, fill_official, load_case

CASE = load_case("spg_cgan_clip_pacs")
PIXELS, LABELS = parity_weights.images(), parity_weights.labels()
OTHERS = torch.from_numpy(parity_weights.noise("parity.spg.fake_images", (8, 3, 32, 32)))
DOMAINS = torch.from_numpy(parity_weights.integers("parity.spg.domain", (8,), 0, 4))
WORDS = torch.stack(
    [torch.from_numpy(parity_weights.noise(f"parity.spg.prompt_label.{d}", (4, 128), 0.05)) for d in "acps"]
)


def noise(number: int, rows: int = 8) -> Tensor:
    return torch.from_numpy(parity_weights.noise(f"parity.spg.noise.{number}", (rows, 100)))


def fresh(backbone: Backbone, **settings: Any) -> SPG:
    torch.manual_seed(0)
    method = create_method("spg", backbone, parity_weights.CLASSES, **settings)
    assert isinstance(method, SPG)
    return method


@pytest.fixture
def released(backbone: Backbone) -> SPG:
    method = fresh(backbone, grad_clip="pacs")
    fill_official(method, keep=[name for name in method.official_state_dict() if "running" in name or "num_" in name])
    for layer in method.discriminator.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0
    return method


def test_stage_one_equals_released_code(backbone: Backbone) -> None:
    case, learner = load_case("spg_stage1"), fresh(backbone).label_learner()
    assert_close(learner.logits(PIXELS), case, "logits")
    named = {f"{kind}.prompt_learner.ctx": case[f"{kind}.ctx"] for kind in ("grad", "after5")}
    check_training(learner, case | named)
    assert_same_value(learner.ctx, case, "prompt_label")


def test_stage_two_equals_released_code(released: SPG) -> None:
    """In double precision, for one unit of the case is decided by rounding (`on_their_side`)."""
    method, images, others = released, released.image_features(PIXELS), released.image_features(OTHERS)
    assert_close(images, CASE, "image_features")
    assert_close(method.generator(noise(1), images, 0.0), CASE, "generated_train")
    moved = on_their_side(method.double())
    players = method.discriminator, method.generator
    steps = [torch.optim.SGD(p.parameters(), lr=0.002, momentum=0.9, weight_decay=5e-4) for p in players]
    losses = []
    for step in range(5):
        drawn, found = Drawn(*(t.double() for t in (WORDS[DOMAINS], others, noise(step + 1)))), []
        for phase in (0, 1):
            steps[phase].zero_grad()
            found.append(float(method.correct(phase, images.double(), drawn)))
            if (step, phase) == (0, 1):
                check_limited_gradients(method, drawn)
            steps[phase].step()
        losses.append(found)
    assert set(moved) == {1}
    assert_close(np.array(losses)[:, 0], CASE, "d_loss")
    assert_close(np.array(losses)[:, 1], CASE, "g_loss")
    assert_close(np.array(losses).sum(axis=1), CASE, "losses")
    for name, value in method.float().official_state_dict().items():
        if "num_batches" not in name:
            assert_close(value, CASE, f"after5.{name}")
    alone = torch.stack([noise(101 + i, 1)[0] for i in range(8)])[None]
    assert_close(method.answers(images, alone)[0] / method.backbone.logit_scale, CASE, "test_cosines")


def on_their_side(method: SPG) -> list[int]:
    """Put what enters a leaky ReLU of the generator at 1.2e-7 on the side of zero where the released code's rounding,
    single precision on one thread, had it; notes how many numbers were moved each time, where there were any."""
    moved: list[int] = []

    def move(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        x = inputs[0]
        near = x.detach().abs() < 2e-7
        moved.extend([int(near.sum())] if near.any() else [])
        return (x - torch.where(near, x.detach() + 1e-12, 0.0),)

    method.generator.model[7].register_forward_pre_hook(move)
    return moved


def check_limited_gradients(method: SPG, drawn: Drawn) -> None:
    """The released code leaves what the generator's loss gives the discriminator on top of its limited gradients."""
    judge = method.discriminator
    with torch.no_grad():
        fake = method.generator(drawn.noise, drawn.others, 0.0)
    more = torch.autograd.grad(judge.generator_loss(fake, drawn), list(judge.parameters()))
    both = {
        name: p.grad + extra for (name, p), extra in zip(judge.named_parameters("discriminator"), more, strict=True)
    }
    gradients = {name: p.grad for name, p in method.generator.named_parameters("generator")} | both
    stored = {key for key in CASE if key.startswith(("grad.", "grad_norm."))}
    assert len(stored) == 34
    for name, gradient in gradients.items():
        if f"grad_norm.{name}" in CASE:
            stored.remove(f"grad_norm.{name}")
            assert_close(gradient.norm(), CASE, f"grad_norm.{name}")
        if f"grad.{name}" in CASE:
            stored.remove(f"grad.{name}")
            assert_close(gradient, CASE, f"grad.{name}")
    assert not stored


# --- its training ---------------------------------------------------------------


QUICK = TrainingConfig(epochs=4, batch_size=12, learning_rate=0.002, optimizer="adamw", warmup_epochs=0)


@pytest.fixture(scope="module")
def made_up(backbone: Backbone) -> Examples:
    """48 images of 4 classes from 3 domains in 2 views, features around a centre of each class and each domain."""
    draw = torch.Generator().manual_seed(0)
    labels, domains = torch.arange(48) % 4, torch.arange(48) // 4 % 3 + 1
    classes, sites = torch.randn(4, 64, generator=draw), torch.randn(4, 64, generator=draw)
    centres = classes[labels] + 0.5 * sites[domains]
    views = centres + 0.2 * torch.randn(2, 48, 64, generator=draw)
    return Examples(labels, views, val_features=views[0, :12], val_labels=labels[:12], plain=centres, domains=domains)


def state(method: SPG) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_words_of_each_domain_are_learned_first(backbone: Backbone, made_up: Examples) -> None:
    method = fresh(backbone, label_passes=6, held_out=0)
    start, begun = method.prompt_labels[0].clone(), method.generator.flat()
    training = train(method, made_up, QUICK, 1)
    first = next(training)
    assert torch.equal(method.generator.flat(), begun)
    assert method.prompt_labels.shape == (3, 4, 128)
    for domain, words in enumerate(method.prompt_labels):
        own = made_up.domains == domain + 1
        learner = method.label_learner()
        features, labels = made_up.plain[own], made_up.labels[own]
        before = learner.loss(features=features, labels=labels).item()
        with torch.no_grad():
            learner.ctx.copy_(words)
        assert learner.loss(features=features, labels=labels).item() < before
        assert not torch.equal(words, start)
    assert not torch.equal(method.prompt_labels[0], method.prompt_labels[1])
    assert first.loss > 0
    second = next(training)
    assert not torch.equal(method.generator.flat(), begun)
    assert second.number == 2


def test_steps_share_the_first_stage(backbone: Backbone, made_up: Examples) -> None:
    """Four steps a pass: each does a quarter of it, so that it can be watched and stopped."""
    method = fresh(backbone, label_passes=4)
    learned: list[int] = []

    def count(done: int, total: int) -> None:
        start = method.label_learner().ctx.detach()
        learned.append(sum(not torch.equal(words, start) for words in method.prompt_labels))
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(train(method, made_up, QUICK, 1, on_step=count))
    assert learned == [1, 2, 3]


def test_the_best_words_are_picked_by_images_held_out(backbone: Backbone, made_up: Examples) -> None:
    method = fresh(backbone, held_out=0.3)
    own = (made_up.domains == 2).nonzero().flatten()
    kept, held = method._split(own, made_up.labels)
    assert sorted([*kept.tolist(), *held.tolist()]) == own.tolist()
    assert made_up.labels[held].bincount(minlength=4).tolist() == [1, 1, 1, 1]
    assert len(fresh(backbone, held_out=0.2)._split(own, made_up.labels)[1]) == 0


@pytest.mark.parametrize("phase", [0, 1])
def test_each_player_learns_against_the_other(backbone: Backbone, phase: int) -> None:
    """The discriminator to tell made-up prompts from words, the generator to deceive it; the other stays as it is."""
    method = fresh(backbone, grad_clip="off")
    players = method.discriminator, method.generator
    other = players[1 - phase].state_dict()
    weights = {name: value.clone() for name, value in other.items() if name.endswith(("weight", "bias"))}
    optimizer = torch.optim.Adam(players[phase].parameters(), 2e-3)
    images = method.image_features(PIXELS)
    losses = []
    for step in range(30):
        optimizer.zero_grad()
        losses.append(float(method.correct(phase, images, Drawn(WORDS[DOMAINS], images.flip(0), noise(step)))))
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(players[1 - phase].state_dict()[name], value) for name, value in weights.items())


@pytest.mark.parametrize("stop_after", [2, 6, 10])
def test_resume_is_exact(backbone: Backbone, made_up: Examples, tmp_path: Path, stop_after: int) -> None:
    undisturbed, resumed = fresh(backbone, label_passes=3), fresh(backbone, label_passes=3)
    expected = [epoch.loss for epoch in train(undisturbed, made_up, QUICK, 1)]

    def stop(done: int, total: int) -> None:
        if done > stop_after:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(train(fresh(backbone, label_passes=3), made_up, QUICK, 1, tmp_path / "c.pt", stop))
    torch.manual_seed(99)
    assert [epoch.loss for epoch in train(resumed, made_up, QUICK, 1, tmp_path / "c.pt")] == expected
    assert equal(state(resumed), state(undisturbed))
    assert equal(state(load_prompt(resumed.save(tmp_path), backbone)), state(undisturbed))
    finished = fresh(backbone, label_passes=3)  # nothing left to do
    list(train(finished, made_up, QUICK, 1, tmp_path / "c.pt"))
    assert equal(state(finished), state(undisturbed))


def test_the_discriminator_forgets_while_it_learns(backbone: Backbone) -> None:
    """Dropout of 0.4 behind both inner layers, as released; the parity case was made without."""
    judge = fresh(backbone).discriminator.train()
    dropped: list[Tensor] = []
    for layer in judge.modules():
        if isinstance(layer, nn.Dropout):
            layer.register_forward_hook(lambda layer, given, out: dropped.append((out == 0).float().mean()))
    torch.manual_seed(0)
    judge(torch.randn(64, 4, 128), torch.randn(64, 64))
    assert len(dropped) == 2
    assert all(0.37 < float(share) < 0.43 for share in dropped)


def test_a_step_plays_with_other_images_and_the_words_of_its_own_domains(backbone: Backbone, made_up: Examples) -> None:
    method = fresh(backbone, label_passes=1)
    training = train(method, made_up, QUICK, 1)
    next(training)
    indices = torch.tensor([40, 3, 17, 8, 30, 1])
    method.begin_step(indices, 1, 0)
    assert method._step is not None
    drawn = method._step[1]
    assert drawn is not None
    words = [method.prompt_labels[int(made_up.domains[i]) - 1] for i in indices]
    assert torch.equal(drawn.real, torch.stack(words))
    rows = method.adapt(made_up.features.flatten(0, 1).to(drawn.others.device))
    found = [int((rows - other).square().sum(1).argmin()) % 48 for other in drawn.others]
    assert len(set(found)) == 6
    assert set(found) != set(indices.tolist()), "made up for the batch's own images"
    assert found != indices.tolist()
    training.close()


@pytest.mark.parametrize(
    ("keep_best", "right", "kept"),
    [
        (True, {1: 0.5, 2: 0.75, 3: 0.25}, 2),
        (False, {1: 0.5, 2: 0.75, 3: 0.25}, 3),
        (True, {1: 0.5, 2: 0.75, 3: 0.75}, 3),  # of equally good passes the last, as released
    ],
)
def test_the_best_pass_is_kept(
    backbone: Backbone,
    made_up: Examples,
    monkeypatch: pytest.MonkeyPatch,
    keep_best: bool,
    right: dict[int, float],
    kept: int,
) -> None:
    method, passes = fresh(backbone, label_passes=1, keep_best=keep_best), []

    def answers(self: SPG, *, features: Tensor) -> Tensor:
        """As many right ones as we say."""
        count = int(right.get(len(passes), 0) * len(features))
        shift = (torch.arange(len(features)) >= count).long()
        return F.one_hot((made_up.labels[: len(features)] + shift) % 4, 5).float()

    monkeypatch.setattr(SPG, "logits", answers)
    for _ in train(method, made_up, QUICK, 1):
        passes.append(method.generator.flat())
    assert len(passes) == 4
    assert torch.equal(method.generator.flat(), passes[kept])
    assert len(method.best) == 0


def test_parts_of_a_batch_add_up_and_are_limited_together(released: SPG) -> None:
    method, images, others = released, released.image_features(PIXELS), released.image_features(OTHERS)
    method.eval()
    drawn = Drawn(WORDS[DOMAINS], others, noise(1))
    method.generator.forward = lambda z, c, moving=None: (
        WORDS[DOMAINS][: len(z)] + z[:, :1, None]
    )  # no batch statistics
    whole = float(method.correct(0, images, drawn))
    expected = [p.grad.clone() for p in method.discriminator.parameters()]
    method.zero_grad()
    halves = [slice(0, 4), slice(4, 8)]
    method.generator.forward = lambda z, c, moving=None: WORDS[DOMAINS][halves[int(z is second)]] + z[:, :1, None]
    second = drawn.noise[halves[1]]
    parts = [Drawn(*(t[half] for t in drawn[:2]), z) for half, z in zip(halves, (drawn.noise[:4], second), strict=True)]
    total = sum(float(method.correct(0, images[h], part, 0.5)) for h, part in zip(halves, parts, strict=True))
    assert total == pytest.approx(whole, rel=1e-5)
    for parameter, gradient in zip(method.discriminator.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


# --- its answers ----------------------------------------------------------------


def test_answers_are_the_mean_over_prompts_and_stay_the_same(released: SPG) -> None:
    images = released.image_features(PIXELS)
    probabilities = released.logits(features=images).softmax(dim=1)
    draw = torch.Generator().manual_seed(0)
    each = torch.stack([torch.randn(100, generator=draw) for _ in range(5)])
    one_by_one = [released.answers(image[None], each).softmax(dim=2).mean(dim=0)[0] for image in images]
    assert torch.allclose(probabilities, torch.stack(one_by_one), atol=1e-5)
    assert torch.equal(released.logits(features=images), released.logits(features=images))
    single = released.answers(images, each[:1])[0]
    few = fresh(released.backbone, draws=1)
    few.load_state_dict(released.state_dict())
    assert torch.allclose(few.logits(features=images), single.log_softmax(dim=1), atol=1e-5)
    assert not torch.allclose(single.softmax(dim=1), probabilities, atol=1e-4)


def test_other_limits(backbone: Backbone) -> None:
    """Without limits nothing is shortened; the usual ones are ten times as narrow as those for PACS."""
    norms = {}
    for clip in ("off", "pacs", "default"):
        method = fresh(backbone, grad_clip=clip).eval()
        images = method.image_features(PIXELS)
        method.correct(1, images, Drawn(WORDS[DOMAINS], images.flip(0), noise(1)))
        norms[clip] = {name: float(p.grad.norm()) for name, p in method.generator.named_parameters()}
    assert norms["off"]["model.0.weight"] > norms["pacs"]["model.0.weight"] > norms["default"]["model.0.weight"]
    assert norms["pacs"]["model.11.weight"] == pytest.approx(0.05, rel=1e-3)
    assert norms["default"]["model.11.weight"] == pytest.approx(0.005, rel=1e-3)


def test_what_it_refuses(backbone: Backbone, made_up: Examples) -> None:
    one = Examples(made_up.labels, made_up.features, domains=torch.zeros(48, dtype=torch.long))
    with pytest.raises(ConfigError, match=r"one domain.*Use CoOp"):
        list(train(fresh(backbone), one, QUICK, 1))
    with pytest.raises(ConfigError, match="two or more passes"):
        list(train(fresh(backbone, label_passes=1), made_up, QUICK.model_copy(update={"epochs": 1}), 1))


def test_images_of_unknown_origin_are_one_domain(backbone: Backbone, made_up: Examples) -> None:
    method = fresh(backbone, label_passes=2)
    list(train(method, Examples(made_up.labels, made_up.features), QUICK, 1))
    assert method.prompt_labels.shape == (1, 4, 128)


def test_fresh_crops(backbone: Backbone) -> None:
    """Without cached features, images are encoded where they are needed."""
    method = fresh(backbone, label_passes=2)
    live = Examples(LABELS, pixels=lambda indices, epoch: PIXELS[indices], domains=DOMAINS)
    losses = [epoch.loss for epoch in train(method, live, QUICK.model_copy(update={"batch_size": 4}), 1)]
    assert np.isfinite(losses).all()
    assert method.prompt_labels.shape == (len(DOMAINS.unique()), 4, 128)
