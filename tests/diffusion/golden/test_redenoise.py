"""Re-denoise sampling against its formulas written out, in every layout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engines.diffusion.golden.noise import draw_noise
from engines.diffusion.golden.redenoise import golden_noise, sample
from engines.diffusion.golden.settings import RedenoiseSettings, Variant
from engines.diffusion.model import CLEAN, Conditions, TextToImage
from engines.errors import ConfigError
from tests.diffusion.tiny import Name, tiny_model

CAPTIONS = ["a red circle", "a blue star on grass"]


def inputs(model: TextToImage) -> tuple[Tensor, Conditions, Conditions]:
    with torch.no_grad():
        conditions = model.encode(CAPTIONS)
    return torch.cat([draw_noise(seed, (1, 4, 16, 16)) for seed in (1, 2)]), conditions, model.unconditional()


@torch.no_grad()
def guided(model: TextToImage, latents: Tensor, level: int, prompts: Conditions, scale: float) -> Tensor:
    empty = model.predict(latents, level, model.unconditional().repeated(len(latents)))
    return empty + scale * (model.predict(latents, level, prompts) - empty)


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("variant", ["intended", "slip"])
def test_written_out(name: Name, variant: Variant) -> None:
    model = tiny_model(name)
    noise, conditions, empty = inputs(model)
    settings = RedenoiseSettings(steps=10, guidance=4.0, inverse_guidance=0.5, variant=variant)
    found = golden_noise(model, noise, conditions, empty, settings)
    high, low = model.levels(10)[:2]
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, dim=0)
    one, two = alphas[high], alphas[low]
    first = guided(model, noise, high, conditions, 4.0)
    below = (two / one).sqrt() * (noise - (1 - one).sqrt() * first) + (1 - two).sqrt() * first
    second = guided(model, below, high, conditions, 0.5)
    left, reached = (two, one) if variant == "intended" else (alphas[low - 100], two)
    expected = (reached / left).sqrt() * (below - (1 - left).sqrt() * second) + (1 - reached).sqrt() * second
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_every_sample_has_its_own_prompt() -> None:
    model = tiny_model()
    noise, conditions, empty = inputs(model)
    settings = RedenoiseSettings(steps=3)
    for run in (golden_noise, sample):
        together = run(model, noise, conditions, empty, settings)
        alone = run(model, noise[1:], conditions[1:], empty, settings)
        torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)


def test_rounds_repeat() -> None:
    model = tiny_model()
    noise, conditions, empty = inputs(model)
    settings = RedenoiseSettings(steps=10)
    twice = golden_noise(model, noise, conditions, empty, settings.model_copy(update={"rounds": 2}))
    once = golden_noise(model, noise, conditions, empty, settings)
    torch.testing.assert_close(twice, golden_noise(model, once, conditions, empty, settings))
    assert (twice - once).abs().max() > 1e-4


def test_sampling_ends_clean() -> None:
    """With one guidance everywhere, the last step leaves what the model takes for the image."""
    model = tiny_model()
    noise, conditions, empty = inputs(model)
    settings = RedenoiseSettings(steps=2, guidance=2.0)
    first, second, last = model.levels(2)
    assert last == CLEAN
    below = model.move(noise, guided(model, noise, first, conditions, 2.0), first, second)
    expected = model.move(below, guided(model, below, second, conditions, 2.0), second, CLEAN)
    torch.testing.assert_close(sample(model, noise, conditions, empty, settings), expected, atol=1e-4, rtol=1e-4)


def test_too_many_steps() -> None:
    model = tiny_model()
    settings = RedenoiseSettings.model_construct(steps=2000)
    with pytest.raises(ConfigError, match="2000 steps"):
        golden_noise(model, *inputs(model), settings)


def test_noise_of_a_seed() -> None:
    """Whatever torch's global state is."""
    torch.manual_seed(1)
    one = draw_noise(7, (1, 4, 8, 6))
    torch.manual_seed(2)
    torch.testing.assert_close(draw_noise(7, (1, 4, 8, 6)), one)
    assert (draw_noise(8, (1, 4, 8, 6)) - one).abs().max() > 1
