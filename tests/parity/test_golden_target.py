"""Re-denoise sampling: the official code at aa7103e on a tiny SDXL, with and without its slip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.diffusion.golden.redenoise import golden_noise, sample
from engines.diffusion.golden.settings import RedenoiseSettings, Variant
from engines.diffusion.model import Conditions, TextToImage
from tests.parity import parity_weights
from tests.parity.checks import load_case
from tests.parity.diffusion import parity_model_xl

CASE = load_case("golden_target")
CAPTION = "a cat and a dog"


def same(actual: Tensor, expected: np.ndarray) -> None:
    """Within 1e-5 of the largest value."""
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return parity_model_xl()


@pytest.fixture(scope="module")
def conditions(model: TextToImage) -> Conditions:
    with torch.no_grad():
        return model.encode([CAPTION])


def test_prompt(conditions: Conditions) -> None:
    same(conditions.states, CASE["prompt_embeds"])
    assert conditions.pooled is not None
    same(conditions.pooled, CASE["pooled"])


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize(("variant", "stored"), [("intended", "exact"), ("slip", "official")])
def test_target(model: TextToImage, conditions: Conditions, steps: int, variant: Variant, stored: str) -> None:
    settings = RedenoiseSettings(steps=steps, variant=variant)
    assert model.levels(steps)[:-1] == CASE[f"timesteps_{steps}"].tolist()
    noise = torch.from_numpy(parity_weights.noise("golden.xT", (1, 4, 16, 16)))
    golden = golden_noise(model, noise, conditions, model.unconditional(), settings)
    same(golden, CASE[f"target_{stored}_{steps}"])
    if steps == 10:  # the longer run differs in nothing but its length
        same(sample(model, golden, conditions, model.unconditional(), settings), CASE[f"final_{stored}_{steps}"])


@pytest.mark.parametrize("steps", [10, 50])
def test_short_form(model: TextToImage, steps: int) -> None:
    """What is meant is x + k (e2 - e1), with the official predictions."""
    noise = torch.from_numpy(parity_weights.noise("golden.xT", (1, 4, 16, 16)))
    (empty, told), (_, weak) = (torch.from_numpy(CASE[f"eps{number}_{steps}"]) for number in (1, 2))
    strong = empty + 5.5 * (told - empty)
    first, second = model.levels(steps)[:2]
    kappa = model.move(torch.zeros(1), torch.ones(1), second, first).item()
    np.testing.assert_allclose(kappa, CASE[f"kappa_{steps}"], atol=1e-6)
    same(noise + kappa * (weak - strong), CASE[f"target_exact_{steps}"])
