"""Training, its split, stopping and going on; then use in pipelines, and judging."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from engines.diffusion.golden import train as train_module
from engines.diffusion.golden.checkpoint import load_npnet
from engines.diffusion.golden.judge import judge
from engines.diffusion.golden.noise import draw_noise
from engines.diffusion.golden.npnet import NPNet, NPNetConfig, latent_shape
from engines.diffusion.golden.pairs import Pair, PairArrays, PairStore
from engines.diffusion.golden.prompts import Trial
from engines.diffusion.golden.scorers.base import Scorer
from engines.diffusion.golden.scorers.scenes import SceneScore
from engines.diffusion.golden.settings import RedenoiseSettings, TrainSettings
from engines.diffusion.golden.train import (
    BEST,
    TrainProgress,
    held_out_error,
    split_pairs,
    text_states,
    train_npnet,
)
from engines.diffusion.golden.use import golden_latents
from engines.diffusion.model import TextToImage
from engines.errors import BackboneError, ConfigError
from tests.diffusion.tiny import Name, tiny_model, tiny_pipeline

CONFIG = NPNetConfig(channels=2, height=4, width=6, tokens=1, text_width=2, residual="small")
SETTINGS = TrainSettings(epochs=4, batch=16, learning_rate=3e-3, held_out=0.2)
PROMPTS = [f"prompt {number}" for number in range(20)]


def encode(prompts: Sequence[str]) -> Tensor:
    """Whether the number in a prompt is even."""
    return torch.tensor([[[1.0, 0.0] if int(prompt.split()[1]) % 2 == 0 else [0.0, 1.0]] for prompt in prompts])


def shift(prompt: str) -> float:
    """What golden noise has more than noise: to be learnt from the prompt alone."""
    return 0.5 if int(prompt.split()[1]) % 2 == 0 else -0.5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PairStore:
    with PairStore(tmp_path_factory.mktemp("store"), {"made": "by hand"}) as store:
        for seed in range(100):
            prompt = PROMPTS[seed % 20]
            noise = draw_noise(seed, (1, 2, 4, 6))[0]
            pair = Pair(prompt, seed, 0.0, -1.0 if seed % 10 == 9 else 1.0, "intended", "0")
            store.add(pair, PairArrays(noise, noise + shift(prompt), torch.zeros(2, 3, 1, 1, dtype=torch.uint8)))
    return store


def fresh(seed: int = 0) -> NPNet:
    torch.manual_seed(seed)
    return NPNet(CONFIG)


def trained(store: PairStore, folder: Path, **changes: Any) -> tuple[NPNet, list[TrainProgress]]:
    network = fresh()
    return network, list(train_npnet(network, store, encode, folder, SETTINGS.model_copy(update=changes)))


@pytest.fixture(scope="module")
def done(store: PairStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NPNet, list[TrainProgress]]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, *trained(store, folder)


def test_prompts_are_held_out_whole(store: PairStore) -> None:
    split = split_pairs(store, SETTINGS)
    parts = [{store.pairs[number].prompt for number in part} for part in (split.train, split.held_out)]
    assert parts[0].isdisjoint(parts[1])
    # Ten of a hundred pairs are worse and left out, and with them prompts 9 and 19.
    assert [len(part) for part in parts] == [14, 4]
    assert len(split.train) + len(split.held_out) == 90
    every = split_pairs(store, SETTINGS.model_copy(update={"margin": None}))
    assert len(every.train) + len(every.held_out) == 100


def test_it_learns_what_prompts_mean(store: PairStore, done: tuple[Path, NPNet, list[TrainProgress]]) -> None:
    folder, network, seen = done
    split = split_pairs(store, SETTINGS)
    nothing = held_out_error(None, store, split, encode, SETTINGS)
    assert nothing == pytest.approx(0.25, abs=1e-3)
    epochs = [one.epoch for one in seen if one.epoch]
    assert len(epochs) == 4
    assert min(epoch.held_out for epoch in epochs) < 0.5 * nothing
    assert epochs[-1].train < epochs[0].train
    best = min(range(4), key=lambda number: epochs[number].held_out)
    assert [one.best for one in seen if one.epoch][-1] == best
    saved = held_out_error(load_npnet(folder / BEST), store, split, encode, SETTINGS)
    assert saved == pytest.approx(epochs[best].held_out, rel=1e-5)
    noise = draw_noise(1234, (1, 2, 4, 6)).repeat(2, 1, 1, 1)
    with torch.no_grad():
        even, odd = (network(noise, encode(["even 2", "odd 3"])) - noise).mean(dim=(1, 2, 3))
    assert even > 0.2 > -0.2 > odd


def test_steps_are_counted(done: tuple[Path, NPNet, list[TrainProgress]]) -> None:
    _, _, seen = done
    steps = [one.step for one in seen if one.epoch is None]
    assert steps == list(range(1, len(steps) + 1))
    assert {one.steps for one in seen} == {len(steps)}


@pytest.mark.parametrize("stopped", [0, 6, 11])
def test_stopped_and_resumed(
    store: PairStore, done: tuple[Path, NPNet, list[TrainProgress]], tmp_path: Path, stopped: int
) -> None:
    for number, _ in enumerate(train_npnet(fresh(), store, encode, tmp_path, SETTINGS)):
        if number == stopped:
            break
    network, seen = fresh(seed=5), []
    if stopped == 0:
        network = fresh()  # nothing was kept yet
    seen = list(train_npnet(network, store, encode, tmp_path, SETTINGS))
    assert seen[-1].epoch == done[2][-1].epoch
    for name, value in done[1].state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)
    assert list(train_npnet(fresh(), store, encode, tmp_path, SETTINGS)) == []


def test_more_epochs_later(store: PairStore, done: tuple[Path, NPNet, list[TrainProgress]], tmp_path: Path) -> None:
    trained(store, tmp_path, epochs=2)
    network, seen = trained(store, tmp_path, epochs=4)
    assert len([one for one in seen if one.epoch]) == 2
    for name, value in done[1].state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)


def test_a_later_worse_epoch_does_not_replace_the_best(
    store: PairStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(train_module, "held_out_error", lambda *_: next(errors))
    states, network = [], fresh()
    for progress in train_npnet(network, store, encode, tmp_path, SETTINGS.model_copy(update={"epochs": 3})):
        if progress.epoch:
            states.append({name: value.clone() for name, value in network.state_dict().items()})
    assert progress.best == 1
    for name, value in load_npnet(tmp_path / BEST).state_dict().items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=0)


def test_a_training_of_something_else_is_not_continued(
    store: PairStore, done: tuple[Path, NPNet, list[TrainProgress]]
) -> None:
    with pytest.raises(ConfigError, match="other pairs or settings"):
        trained(store, done[0], learning_rate=1e-4)
    with pytest.raises(ConfigError, match="other pairs or settings"):
        trained(store, done[0], margin=None)


def test_a_damaged_training_is_said(store: PairStore, tmp_path: Path) -> None:
    trained(store, tmp_path, epochs=1)
    (tmp_path / "last.safetensors").write_bytes(b"torn")
    with pytest.raises(BackboneError, match="Train into another folder"):
        trained(store, tmp_path, epochs=2)
    load_npnet(tmp_path / BEST)


def test_too_few_pairs(store: PairStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Of 100 pairs 0 are selected"):
        trained(store, tmp_path, margin=5.0)


def test_an_infinite_error_is_said(store: PairStore, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="smaller learning rate"):
        trained(store, tmp_path, learning_rate=1e30)


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_latents_for_pipelines(name: Name) -> None:
    """The pipeline's own text states; and where the network changes nothing, the pipeline's own image."""
    pipe = tiny_pipeline(name)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)  # scales its noise
    pipe.set_progress_bar_config(disable=True)
    config = NPNetConfig.fitting(TextToImage.from_pipeline(pipe))
    nothing = NPNet(config.model_copy(update={"svd": False, "residual": "none"}))
    prompts = ["a red circle", "a blue star"]
    latents = golden_latents(pipe, nothing, prompts, seeds=[3, 9])
    torch.testing.assert_close(latents, torch.cat([draw_noise(seed, (1, 4, 16, 16)) for seed in (3, 9)]))
    options: dict[str, Any] = {"num_inference_steps": 2, "output_type": "pt"}
    draws = [torch.Generator().manual_seed(seed) for seed in (3, 9)]
    usual = pipe(prompts, generator=draws, **options).images
    torch.testing.assert_close(pipe(prompts, latents=latents, **options).images, usual, atol=1e-4, rtol=0)

    network = NPNet(config)
    with torch.no_grad():
        network.alpha.fill_(1.0)
    golden = golden_latents(pipe, network, prompts, seeds=3)
    states = text_states(TextToImage.from_pipeline(pipe))(prompts)
    noise = torch.cat([draw_noise(seed, (1, 4, 16, 16)) for seed in (3, 4)])
    torch.testing.assert_close(golden, network(noise, states), atol=1e-5, rtol=1e-5)
    assert golden.requires_grad is False


def test_what_latents_cannot_be_made_of() -> None:
    pipe = tiny_pipeline("sd1")
    network = NPNet(NPNetConfig.fitting(TextToImage.from_pipeline(pipe)))
    with pytest.raises(ConfigError, match="1 seeds for 2 prompts"):
        golden_latents(pipe, network, ["a", "b"], seeds=[1])
    with pytest.raises(ConfigError, match="3 noises for 1 prompts"):
        golden_latents(pipe, network, "a", noise=torch.zeros(3, 4, 16, 16))
    with pytest.raises(ConfigError, match="another NPNet for this size"):
        golden_latents(pipe, network, "a", noise=torch.zeros(1, 4, 16, 8))
    with pytest.raises(ConfigError, match="same text encoders"):
        golden_latents(tiny_pipeline("sdxl"), network, "a")


def test_sizes_of_images() -> None:
    model = tiny_model()
    assert latent_shape(model, 24, 40) == (1, 4, 12, 20)
    config = NPNetConfig.fitting(model, 24, 40)
    assert (config.height, config.width, config.tokens, config.text_width) == (12, 20, 77, 16)
    with pytest.raises(ConfigError, match="multiples of 2"):
        latent_shape(model, 25, 40)


class Mean(Scorer):
    """How bright an image is."""

    name = "mean"

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        assert len(pixels) == len(prompts)
        assert bool(pixels.isfinite().all())
        return pixels.mean(dim=(1, 2, 3))


WANTED = [Trial("a cat", 1), Trial("a dog", 2), Trial("a cat", 3)]


def test_judging() -> None:
    model = tiny_model()
    networks = {"full": NPNet(NPNetConfig.fitting(model, 24, 40)).eval()}
    networks["no attention"] = NPNet(networks["full"].config.model_copy(update={"attention": False}))
    settings = RedenoiseSettings(steps=2)
    found = list(judge(model, WANTED, {"brightness": Mean()}, settings, networks, (24, 40), batch=2))
    assert [one.trial for one in found] == WANTED
    alone = next(iter(judge(model, WANTED[1:2], {"brightness": Mean()}, settings, networks, (24, 40))))
    assert list(found[1].pictures) == ["standard", "golden", "full", "no attention"]
    for kind, picture in found[1].pictures.items():
        assert picture.shape == (3, 24, 40)
        score = found[1].scores["brightness"][kind]
        assert score == pytest.approx(float(picture.float().mean() / 255), abs=2e-3)
        assert score == pytest.approx(alone.scores["brightness"][kind], abs=1e-4)
    assert found[1].noise["standard"].cosine == pytest.approx(1)
    assert found[1].noise["golden"].cosine < 0.9999
    assert len(set(found[1].scores["brightness"].values())) == 4


def test_an_image_that_cannot_be_made_has_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    decode = model.decode

    def broken(latents: Tensor) -> Tensor:
        pixels = decode(latents)
        pixels[4] = torch.nan  # of three with standard noise and three with golden noise
        return pixels

    monkeypatch.setattr(model, "decode", broken)
    found = list(judge(model, WANTED, {"brightness": Mean()}, RedenoiseSettings(steps=2)))
    unscored = [[math.isnan(score) for score in one.scores["brightness"].values()] for one in found]
    assert unscored == [[False, False], [False, True], [False, False]]


def test_prompts_that_cannot_be_judged_are_said_first() -> None:
    with pytest.raises(ConfigError, match="a cat"):
        next(judge(tiny_model(), WANTED, {"rules": SceneScore()}, RedenoiseSettings()))
