"""Standard noise, golden noise and that of NPNets beside each other: the same prompts and seeds, images and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.diffusion.golden.collect import to_bytes
from engines.diffusion.golden.judged import GOLDEN, STANDARD
from engines.diffusion.golden.noise import NoiseFacts, draw_noise, noise_facts
from engines.diffusion.golden.npnet import NPNet, latent_shape
from engines.diffusion.golden.prompts import Trial
from engines.diffusion.golden.redenoise import golden_noise, sample
from engines.diffusion.golden.scorers.base import Scorer
from engines.diffusion.golden.settings import RedenoiseSettings
from engines.diffusion.model import Conditions, TextToImage, memory_watched


@dataclass(frozen=True, slots=True)
class Judged:
    """One prompt and seed with every kind of noise."""

    trial: Trial
    pictures: dict[str, Tensor]
    """uint8 [3, H, W]"""
    scores: dict[str, dict[str, float]]
    """By the names of the scorers; NaN where an image could not be made."""
    noise: dict[str, NoiseFacts]


def judge(
    model: TextToImage,
    trials: Sequence[Trial],
    scorers: Mapping[str, Scorer],
    settings: RedenoiseSettings,
    networks: Mapping[str, NPNet] | None = None,
    size: tuple[int | None, int | None] | None = None,
    batch: int = 4,
) -> Iterator[Judged]:
    """Judges prompts and seeds one after another; may be stopped between any two.

    Args:
        scorers: by the names under which scores are given.
        networks: NPNets under the names of their noise; several for an ablation, none for golden noise alone.
        size: height and width of the images in pixels; by default those that the model was made for.
    Raises:
        ConfigError: a network does not fit the model or the size, or a scorer cannot judge one of the prompts.
        BackboneError: the GPU's memory does not suffice.
    """
    for scorer in scorers.values():
        scorer.check([trial.prompt for trial in trials])
    shape = latent_shape(model, *(size or (None, None)))
    for start in range(0, len(trials), batch):
        some = trials[start : start + batch]
        with memory_watched(), torch.no_grad():
            found = _judge(model, some, scorers, settings, networks or {}, shape)
        yield from found


def _judge(
    model: TextToImage,
    trials: Sequence[Trial],
    scorers: Mapping[str, Scorer],
    settings: RedenoiseSettings,
    networks: Mapping[str, NPNet],
    shape: tuple[int, int, int, int],
) -> list[Judged]:
    prompts = [trial.prompt for trial in trials]
    conditions, empty = model.encode(prompts), model.unconditional()
    source = torch.cat([draw_noise(trial.seed, shape) for trial in trials]).to(model.device)
    noises: dict[str, Tensor] = {
        STANDARD: source,
        GOLDEN: golden_noise(model, source, conditions, empty, settings),
    }
    for kind, network in networks.items():
        noises[kind] = network.to(model.device).eval()(source, conditions.states)
    together = Conditions.joined(*[conditions] * len(noises))
    pixels = model.decode(sample(model, torch.cat(list(noises.values())), together, empty, settings))
    sound = pixels.isfinite().flatten(1).all(dim=1).cpu()
    pixels = pixels.nan_to_num(0)
    scores = {
        name: scorer.score(pixels, prompts * len(noises)).cpu().where(sound, torch.nan).view(len(noises), -1)
        for name, scorer in scorers.items()
    }
    pictures = to_bytes(pixels).unflatten(0, (len(noises), -1))
    facts = {kind: noise_facts(noise, source) for kind, noise in noises.items()}
    return [
        Judged(
            trial,
            {kind: pictures[at, row] for at, kind in enumerate(noises)},
            {name: {kind: float(found[at, row]) for at, kind in enumerate(noises)} for name, found in scores.items()},
            {kind: facts[kind][row] for kind in noises},
        )
        for row, trial in enumerate(trials)
    ]
