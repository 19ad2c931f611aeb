"""The recipe of the mini-diffusion model: its pictures, its loss, and that a training goes on where it was cut."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from open_clip import SimpleTokenizer
from torch import nn

from engines.miniworld import scenes
from engines.miniworld.diffusion import model as mini
from engines.miniworld.diffusion.pictures import draw, draw_any
from engines.miniworld.diffusion.train import Recipe, Stage, noise_loss, train


def test_masks_cover_what_is_named() -> None:
    drawn = draw(seed=5, step=0, count=60)
    for spec, caption, pixels, masks in zip(drawn.specs, drawn.captions, drawn.pixels, drawn.masks, strict=True):
        assert not masks[len(spec.things) :].any()
        assert masks.sum(axis=0).max() <= 1  # no pixel belongs to two things
        for thing, mask in zip(spec.things, masks, strict=False):
            assert f"{thing.colour} {thing.shape}" in caption
            assert mask.sum() > 20
            seen = pixels[mask].mean(axis=0)
            others = [c for c in scenes.COLOURS if c != thing.colour]
            own = np.abs(seen - scenes.COLOURS[thing.colour]).sum()
            assert own < np.median([np.abs(seen - scenes.COLOURS[c]).sum() for c in others])


def test_pictures_are_fixed_by_their_numbers() -> None:
    one, same, other = draw(1, 2, 20), draw(1, 2, 20), draw(1, 3, 20)
    assert np.array_equal(one.pixels, same.pixels)
    assert one.captions == same.captions
    assert one.captions != other.captions
    assert draw_any(1, 2, 12).shape == (12, 64, 64, 3)


def test_masks_do_not_change_the_pictures() -> None:
    specs = [scenes.sample(np.random.default_rng(seed)) for seed in range(20)]
    pixels, masks = scenes.render_with_masks(specs, 32, 9)
    assert np.array_equal(pixels, scenes.render(specs, 32, 9))
    assert [int(masks[i].any(axis=(1, 2)).sum()) for i in range(20)] == [len(spec.things) for spec in specs]


@pytest.mark.parametrize("text", ["a red circle and a blue star on grass", "Dermatofibroma, 12 ☺", ""])
def test_the_tokenizer_is_clips_own(text: str) -> None:
    ids = mini.tokenize(mini.build_tokenizer(), [text])[0].tolist()
    own = SimpleTokenizer().encode(text)
    assert ids == [49406, *own, *[49407] * (mini.TOKENS - 1 - len(own))]


def test_the_loss_reads_the_noise_only() -> None:
    """With a network that predicts nothing, each sample costs its noise's size, weighted by min(SNR, 5) / SNR."""

    class Silent(nn.Module):
        def forward(self, latents: torch.Tensor, steps: torch.Tensor, states: torch.Tensor) -> object:
            self.steps = steps
            return type("Answer", (), {"sample": torch.zeros_like(latents)})

    unet = Silent()
    scheduler = DDPMScheduler(**{k: v for k, v in mini.NOISE.items() if k != "set_alpha_to_one"})
    tokens = mini.tokenize(mini.build_tokenizer(), ["a red circle"] * 512 + [""])
    torch.manual_seed(0)
    loss = noise_loss(
        nn.ModuleDict({"unet": unet, "text": mini.build_text()}), scheduler, torch.zeros(512, 4, 16, 16), tokens
    )
    kept = scheduler.alphas_cumprod[unet.steps]
    expected = float((5 * (1 - kept) / kept).clamp(max=1).mean())
    assert float(loss) == pytest.approx(expected, rel=0.01)


def test_the_autoencoder_begins_with_colours() -> None:
    """Untrained, it draws the mean colours of 4 x 4 pixels, but for a picture's brightness and contrast."""
    torch.manual_seed(3)
    autoencoder = mini.build_autoencoder()
    pixels = mini.to_unit(torch.from_numpy(draw(1, 0, 6).pixels))
    with torch.no_grad():
        drawn = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mean).sample
    for mine, wanted in zip(drawn, nn.functional.avg_pool2d(pixels, 4).repeat_interleave(4, 2), strict=True):
        wanted = wanted.repeat_interleave(4, 2)
        assert float(torch.corrcoef(torch.stack([mine.flatten(), wanted.flatten()]))[0, 1]) > 0.95


def test_words_keep_their_meaning_in_the_whole_vocabulary() -> None:
    ids = mini.tokenize(mini.build_tokenizer(), ["a red circle", ""])
    words, numbered = ids.unique(return_inverse=True)
    few = mini.build_text(len(words)).eval()
    whole = mini.with_all_words(few, words).eval()
    with torch.no_grad():
        torch.testing.assert_close(whole(ids).last_hidden_state, few(numbered).last_hidden_state)


def test_a_cut_training_goes_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    recipe = Recipe()

    def loss(stage: Stage) -> torch.Tensor:
        return stage.modules["layer"](torch.randn(8, 4)).square().mean()

    whole = Stage({"layer": layer}, recipe, 1.0, 8e-4, tmp_path / "whole.pt", "cpu")
    cut = Stage({"layer": copy.deepcopy(layer)}, recipe, 1.0, 8e-4, tmp_path / "cut.pt", "cpu")
    for stage, steps in ((whole, 6), (cut, 3)):
        for _ in range(steps):
            stage._update(lambda step, stage=stage: loss(stage))  # type: ignore[misc]
    cut.save()
    resumed = Stage({"layer": nn.Linear(4, 1)}, recipe, 1.0, 8e-4, tmp_path / "cut.pt", "cpu")
    resumed.restore()
    assert (resumed.step, resumed.resumed) == (3, 1)
    for _ in range(3):
        resumed._update(lambda step: loss(resumed))
    for mine, theirs in zip(resumed.average.parameters(), whole.average.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_whole_recipe_leaves_a_pipeline(tmp_path: Path) -> None:
    recipe = Recipe(autoencoder_minutes=1e-5, minutes=1e-5, scenes=256)
    train(tmp_path, recipe)
    assert json.loads((tmp_path / "training.json").read_text())["unet_steps"] >= 1
    pipeline = mini.load_folder(tmp_path / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    again = [
        pipeline("a red circle", num_inference_steps=2, generator=torch.manual_seed(1), output_type="np").images
        for _ in range(2)
    ]
    assert again[0].shape == (1, 64, 64, 3)
    assert np.array_equal(*again)
    assert sum(file.stat().st_size for file in (tmp_path / "pipeline").rglob("*") if file.is_file()) < 30e6
