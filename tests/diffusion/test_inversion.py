"""Inversion leads back to the image; the empty prompt learns to lead there under guidance."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from engines.diffusion.inversion import EmptyPrompt, NullSchedule, NullStep, invert_step, rising_levels
from engines.diffusion.model import CLEAN, Conditions, TextToImage
from tests.diffusion.tiny import Name, tiny_model

STEPS = 10


@pytest.fixture(scope="module", params=["sd1", "sd2", "sdxl"])
def model(request: pytest.FixtureRequest) -> TextToImage:
    name: Name = request.param
    return tiny_model(name)


@pytest.fixture(scope="module")
def conditions(model: TextToImage) -> Conditions:
    with torch.no_grad():
        return model.encode(["a cat and a dog"])


@pytest.fixture(scope="module")
def trajectory(model: TextToImage, conditions: Conditions) -> list[Tensor]:
    latents = [torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))]
    for lower, higher in rising_levels(model, STEPS):
        latents.append(invert_step(model, latents[-1], conditions, lower, higher))
    return latents


@pytest.fixture(scope="module")
def given(model: TextToImage, conditions: Conditions, trajectory: list[Tensor]) -> NullStep:
    level, lower = model.levels(STEPS)[:2]
    with torch.no_grad():
        noise = model.predict(trajectory[-1], level, conditions)
    return NullStep(trajectory[-1], trajectory[-2], level, lower, conditions, noise)


def test_levels_rise_from_the_clean_image(model: TextToImage) -> None:
    rising = rising_levels(model, STEPS)
    assert rising[0] == (CLEAN, 1)
    assert rising[-1] == (801, 901)
    assert all(before[1] == after[0] for before, after in pairwise(rising))


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_the_way_back_without_guidance_is_the_better_the_finer_the_steps(name: Name) -> None:
    model = tiny_model(name)
    model.unet.conv_out.weight.mul_(0.1)  # a random network's noise changes faster than that of a trained one
    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    errors = []
    with torch.no_grad():
        conditions = model.encode(["a cat and a dog"])
        for steps in (4, 40):
            latents = start
            for lower, higher in rising_levels(model, steps):
                latents = invert_step(model, latents, conditions, lower, higher)
            for level, lower in pairwise(model.levels(steps)):
                latents = model.move(latents, model.predict(latents, level, conditions), level, lower)
            errors.append(float((latents - start).square().mean()))
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 2


def test_learning_lowers_the_loss_also_where_the_caller_wants_no_gradients(model: TextToImage, given: NullStep) -> None:
    empty = EmptyPrompt(model.unconditional())
    with torch.no_grad():
        losses = list(empty.learn(model, given, 5.0, NullSchedule(8, 0.01)))
    assert len(losses) == 9  # before each update, and after the last
    assert min(losses[4:]) < losses[0]
    assert not torch.equal(empty.conditions.states, model.unconditional().states)
    assert all(parameter.grad is None for parameter in model.unet.parameters())


def test_the_best_is_kept(model: TextToImage, given: NullStep) -> None:
    """Also where steps are far too large, and every one makes it worse."""
    start = model.unconditional()
    last, best = EmptyPrompt(start), EmptyPrompt(start)
    losses = list(best.learn(model, given, 5.0, NullSchedule(6, 3.0)))
    list(last.learn(model, given, 5.0, NullSchedule(6, 3.0, best=False)))
    again = [
        next(EmptyPrompt(found.conditions).learn(model, given, 5.0, NullSchedule(1, 0.01))) for found in (best, last)
    ]
    assert again[0] == pytest.approx(min(losses), rel=1e-5)
    assert again[0] <= again[1]


def test_reusing_the_captions_prediction_changes_nothing(model: TextToImage, given: NullStep) -> None:
    found = []
    for cached in (True, False):
        empty = EmptyPrompt(model.unconditional())
        losses = list(empty.learn(model, given, 5.0, NullSchedule(3, 0.01, cached=cached)))
        found.append((torch.tensor(losses), empty.conditions.states))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-6)
    # Adam turns rounding of gradients that are nearly zero into whole steps of 0.01: compare what comes of it.
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=0.061)


def test_it_stops_where_the_loss_is_small_enough_and_changes_nothing_more(model: TextToImage, given: NullStep) -> None:
    empty = EmptyPrompt(model.unconditional())
    losses = list(empty.learn(model, given, 5.0, NullSchedule(8, 0.01, tolerance=1e9)))
    assert len(losses) == 1
    assert torch.equal(empty.conditions.states, model.unconditional().states)
    assert list(empty.learn(model, given, 5.0, NullSchedule(0, 0.01, best=False))) == []
