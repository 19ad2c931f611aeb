"""ProGrad against the official implementation."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.backbones import Backbone
from engines.backbones.runtime import Runtime
from engines.errors import ConfigError
from engines.prompts import create_method
from engines.prompts.prograd import ProGrad, bend
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, fill_official, load_case

PIXELS = parity_weights.images()
RANDOM = {"n_ctx": 4, "ctx_init": False}
CASES: dict[str, dict[str, Any]] = {
    "prograd_imagenet": {},
    "prograd_conflict": {},
    "prograd_pets": {"template": "a type of pet, a photo of a {}."},
    "prograd_eurosat_T2": {"template": "a centered satellite photo of {}.", "t": 2.0, "lambda_": 0.8},
    "prograd_random": RANDOM,
    "prograd_random_front": RANDOM
    | {"class_token_position": "front", "template": "a type of food, a photo of {}.", "lambda_": 0.8},
    "prograd_adverse_csc": RANDOM | {"csc": True, "template": "a photo of a person doing {}."},
}


def prograd(backbone: Backbone, **settings: Any) -> ProGrad:
    method = create_method("prograd", backbone, parity_weights.CLASSES, **settings)
    assert isinstance(method, ProGrad)
    if not method.config.ctx_init:
        fill_official(method)
    return method


def losses_and_gradients(method: ProGrad, labels: Tensor) -> tuple[list[float], list[Tensor]]:
    """Cross-entropy and distillation, each with its gradient by a backward pass of its own."""
    losses = method.losses(method.image_features(PIXELS), labels, method.text_features())
    gradients = [torch.autograd.grad(loss, method.ctx, retain_graph=True)[0] for loss in losses]
    return [loss.item() for loss in losses], gradients


@pytest.mark.parametrize("name", CASES)
def test_equals_official_prograd(backbone: Backbone, name: str) -> None:
    case = load_case(name)
    method = prograd(backbone, **CASES[name])
    labels = torch.from_numpy(case["labels"])
    assert_close(method.ctx, case, "ctx0")
    assert_close(method.text_features(), case, "text_features")
    assert_close(method.ready_made, case, "text_features_teacher")
    assert_close(method.logits(PIXELS), case, "logits")
    teacher = method.backbone.logit_scale * method.image_features(PIXELS) @ method.ready_made.T
    assert_close(teacher, case, "teacher_logits")

    optimizer = torch.optim.SGD(method.parameters(), lr=0.002, momentum=0.9, weight_decay=5e-4)
    losses, cosines = [], []
    for step in range(5):
        values, gradients = losses_and_gradients(method, labels)
        losses.append(values)
        cosines.append(torch.cosine_similarity(*(g.flatten() for g in gradients), dim=0).item())
        optimizer.zero_grad()
        assert method.backward(PIXELS, labels).item() == pytest.approx(values[0], rel=1e-5)
        if step == 0:
            assert_close(gradients[0], case, "grad_xe")
            assert_close(gradients[1], case, "grad_kl")
            assert_close(cosines[0], case, "cosine")
            assert method.ctx.grad is not None
            assert_close(method.ctx.grad, case, "grad.prompt_learner.ctx")
        optimizer.step()
    losses.append(losses_and_gradients(method, labels)[0])
    assert_close(np.array(losses)[:, 0], case, "xe_losses")
    assert_close(np.array(losses)[:, 1], case, "kl_losses")
    assert_close(np.array(cosines), case, "cosines")
    assert_same_value(method.ctx, case, "after5.prompt_learner.ctx")
    assert_close(method.logits(PIXELS), case, "logits_after5")


@pytest.mark.parametrize("set_to_none", [True, False])
def test_conflict_in_parts_of_a_batch(backbone: Backbone, set_to_none: bool) -> None:
    """However a batch is split, the gradient of the whole batch is bent, not those of its parts."""
    case = load_case("prograd_conflict")
    method, labels = prograd(backbone), torch.from_numpy(case["labels"])
    for _ in range(2):  # a second step begins anew
        method.zero_grad(set_to_none)
        for part in (slice(0, 3), slice(3, 4), slice(4, 8)):
            method.backward(PIXELS[part], labels[part], weight=len(labels[part]) / 8)
        assert method.ctx.grad is not None
        assert_close(method.ctx.grad, case, "grad.prompt_learner.ctx")


def test_little_memory_changes_nothing(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the text tower computes its inside anew for the backward pass, both gradients are still right."""
    case = load_case("prograd_conflict")
    monkeypatch.setattr(Runtime, "activation_budget", 100_000)
    method = prograd(backbone)
    method.backward(PIXELS, torch.from_numpy(case["labels"]))
    assert method.ctx.grad is not None
    assert_close(method.ctx.grad, case, "grad.prompt_learner.ctx")


def test_bend() -> None:
    g, h = torch.tensor([1.0, 1.0]), torch.tensor([-2.0, 0.0])
    assert bend(g, h, 1.0).tolist() == [0.0, 1.0]
    assert bend(g, h, 0.5).tolist() == [0.5, 1.0]
    assert bend(g, -h, 1.0).tolist() == [1.0, 1.0]
    assert bend(g, 0 * h, 1.0).tolist() == [1.0, 1.0]


def test_more_words_than_places(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match="8 words"):
        create_method("prograd", backbone, parity_weights.CLASSES, n_ctx=4, template="a type of pet, a photo of a {}.")
