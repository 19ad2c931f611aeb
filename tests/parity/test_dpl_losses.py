"""DPL's three losses and their gradients, thresholds and smoothing: official commit b3d30f7."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.diffusion.losses import (
    LeakageSettings,
    balancing,
    disjoint,
    leakage_objective,
    on_background,
    smoothing_kernel,
    strengths,
)
from engines.diffusion.words import Word
from tests.parity import parity_weights
from tests.parity.checks import load_case

CASE = load_case("dpl_losses")
NOUNS = {"n2": [2, 5], "n3": [1, 4, 9]}


def words(name: str) -> list[Word]:
    return [Word(str(position), (position,)) for position in NOUNS[name]]


@pytest.fixture
def maps() -> Tensor:
    noise = torch.from_numpy(parity_weights.noise("diffusion.attn", (16, 16, 77), 0.6))
    return noise.softmax(dim=-1).requires_grad_()


@pytest.fixture
def background() -> Tensor:
    return torch.from_numpy(parity_weights.noise("diffusion.bg", (1, 16, 16)) > 0)[0]


def same(actual: Tensor, key: str, absolute: float = 1e-6) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), CASE[key], rtol=0, atol=absolute, err_msg=key)


def test_kernel() -> None:
    same(smoothing_kernel(), "gaussian_kernel")


def test_thresholds() -> None:
    settings = LeakageSettings()
    rows = [
        [term.threshold(step) for step in range(50)]
        for term in (settings.balancing, settings.disjoint, settings.background)
    ]
    np.testing.assert_allclose(rows, CASE["thresholds"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NOUNS)
@pytest.mark.parametrize("smooth", [True, False])
def test_balancing(name: str, smooth: bool, maps: Tensor) -> None:
    ending = "smooth" if smooth else "raw"
    same(strengths(maps, words(name), smooth), f"{name}_max_{ending}")
    reductions: list[Literal["max", "mean"]] = ["max", "mean"]
    for reduce in reductions:
        same(balancing(maps, words(name), reduce, smooth), f"{name}_at_{reduce}_{ending}")


@pytest.mark.parametrize("name", NOUNS)
def test_leakage(name: str, maps: Tensor, background: Tensor) -> None:
    same(disjoint(maps, words(name)), f"{name}_dj")
    same(on_background(maps, words(name), background), f"{name}_bg")


@pytest.mark.parametrize("name", NOUNS)
def test_total_and_its_gradient(name: str, maps: Tensor, background: Tensor) -> None:
    objective = leakage_objective(words(name), background, LeakageSettings())
    total = objective.total(objective.measure(maps))
    same(total, f"{name}_total")
    (gradient,) = torch.autograd.grad(total, maps)
    same(gradient[..., NOUNS[name]], f"{name}_grad_total", 2e-6)


def test_gradient_of_each(maps: Tensor, background: Tensor) -> None:
    nouns = words("n2")
    same(torch.autograd.grad(balancing(maps, nouns), maps)[0], "n2_grad_at", 2e-6)
    same(torch.autograd.grad(disjoint(maps, nouns), maps)[0][..., NOUNS["n2"]], "n2_grad_dj", 2e-6)
    same(torch.autograd.grad(on_background(maps, nouns, background), maps)[0][..., NOUNS["n2"]], "n2_grad_bg", 2e-6)


def test_one_noun_has_no_pairs_where_the_official_loss_is_not_a_number(maps: Tensor) -> None:
    assert math.isnan(CASE["n1_dj"])
    assert float(disjoint(maps, words("n2")[:1])) == 0
