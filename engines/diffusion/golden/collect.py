"""Collecting pairs: golden noise for every prompt and seed, images of both noises, and their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import Tensor
from torch.nn import functional as F

from engines.diffusion.golden.noise import draw_noise
from engines.diffusion.golden.npnet import latent_shape
from engines.diffusion.golden.pairs import Pair, PairArrays, PairStore
from engines.diffusion.golden.prompts import Trial
from engines.diffusion.golden.redenoise import golden_noise, sample
from engines.diffusion.golden.scorers.base import Scorer
from engines.diffusion.golden.settings import RedenoiseSettings
from engines.diffusion.model import Conditions, TextToImage, memory_watched
from engines.errors import BackboneError, ConfigError

THUMBNAIL = 128
"""Longest side of the images that are kept with a pair."""
GIVE_UP = 8
"""Failures from the beginning on after which the model is taken to be unfit."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new pair with its images."""

    pair: Pair
    pictures: Tensor
    """uint8 [2, 3, H, W]: of the original and of the golden noise."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a collection is, after every batch."""

    done: int
    """Prompts and seeds that were tried, those of earlier runs included."""
    total: int
    made: list[Made]
    """Since the last answer."""
    won: int
    """Pairs of all in the store whose golden image scores higher."""
    tied: int
    pairs: int
    """In the store."""
    notes: list[str]
    """What went wrong since the last answer, in sentences."""


def recipe(
    model: TextToImage, scorer: Scorer, settings: RedenoiseSettings, size: tuple[int | None, int | None] | None = None
) -> dict[str, Any]:
    """What pairs of one store have in common.

    Args:
        size: height and width of the images in pixels; by default those that the model was made for.
    """
    _, channels, height, width = latent_shape(model, *(size or (None, None)))
    return {
        "model": model.fingerprint,
        "latents": [channels, height, width],
        "scorer": scorer.name,
        **settings.model_dump(),
    }


def collect(
    model: TextToImage, scorer: Scorer, trials: Sequence[Trial], store: PairStore, batch: int = 4
) -> Iterator[Progress]:
    """Makes the pairs that the store lacks, by its own recipe, and says after every batch where it is.

    May be stopped between two answers: what the store has is not made again. Pairs are kept whatever their scores are;
    `PairStore.selected` chooses.

    Args:
        batch: prompts at once; four images of each are in the GPU's memory.
    Raises:
        ConfigError: the store's pairs are of another model or scorer, or the scorer cannot judge one of the prompts;
            said before anything is made.
        BackboneError: the model answers with nothing but NaN, or the GPU's memory does not suffice.
        DataError: the disk is full; what was written stays.
    """
    if (store.recipe["model"], store.recipe["scorer"]) != (model.fingerprint, scorer.name):
        raise ConfigError(
            f"The pairs in “{store.folder.name}” are of another model, or judged by another scorer.",
            "Collect into another folder; different pairs must not be mixed.",
        )
    scorer.check([trial.prompt for trial in trials])
    settings = RedenoiseSettings(**{name: store.recipe[name] for name in RedenoiseSettings.model_fields})
    waiting = [trial for trial in dict.fromkeys(trials) if (trial.prompt, trial.seed) not in store]
    total = len(set(trials))
    done, failures, fresh = total - len(waiting), 0, 0
    won, tied = sum(pair.gain > 0 for pair in store.pairs), sum(pair.gain == 0 for pair in store.pairs)
    yield Progress(done, total, [], won, tied, len(store), list(store.notes))
    with torch.no_grad():
        empty = model.unconditional()
    try:
        for start in range(0, len(waiting), batch):
            some = waiting[start : start + batch]
            made, notes = [], []
            for trial, outcome in zip(some, _make(model, scorer, some, settings, store, empty), strict=True):
                if outcome is None:
                    notes.append(f"“{trial.prompt[:80]}”, seed {trial.seed}: the model answered with NaN; left out.")
                    failures += 1
                    continue
                found, arrays = outcome
                store.add(found.pair, arrays)
                made.append(found)
            fresh, done = fresh + len(made), done + len(some)
            won += sum(one.pair.gain > 0 for one in made)
            tied += sum(one.pair.gain == 0 for one in made)
            if not fresh and failures >= min(GIVE_UP, len(waiting)):
                raise _only_nan(failures)
            yield Progress(done, total, made, won, tied, len(store), notes)
    finally:
        store.flush()


def _make(
    model: TextToImage,
    scorer: Scorer,
    trials: Sequence[Trial],
    settings: RedenoiseSettings,
    store: PairStore,
    empty: Conditions,
) -> list[tuple[Made, PairArrays] | None]:
    """A pair for each; None where the model answered with NaN."""
    channels, height, width = store.recipe["latents"]
    prompts = [trial.prompt for trial in trials]
    with memory_watched(), torch.no_grad():
        conditions = model.encode(prompts)
        noise = torch.cat([draw_noise(trial.seed, (1, channels, height, width)) for trial in trials]).to(model.device)
        golden = golden_noise(model, noise, conditions, empty, settings)
        both = Conditions.joined(conditions, conditions)
        pixels = model.decode(sample(model, torch.cat([noise, golden]), both, empty, settings))
        # A model's NaN must not reach the scorer, whose answer for the others could suffer.
        scores = scorer.score(pixels.nan_to_num(0), prompts * 2).cpu()
    # Kept in half precision, which has no room for what a broken model may answer.
    sound = golden.half().isfinite().flatten(1).all(1) & pixels.isfinite().flatten(1).all(1).view(2, -1).all(0)
    sound = sound.cpu() & scores.isfinite().view(2, -1).all(0)
    found: list[tuple[Made, PairArrays] | None] = []
    for row, trial in enumerate(trials):
        if not sound[row]:
            found.append(None)
            continue
        pair = Pair(
            trial.prompt,
            trial.seed,
            float(scores[row]),
            float(scores[row + len(trials)]),
            settings.variant,
            diffusers.__version__,
        )
        shown = pixels[[row, row + len(trials)]]
        arrays = PairArrays(noise[row].cpu(), golden[row].cpu(), to_bytes(small(shown)))
        found.append((Made(pair, to_bytes(shown)), arrays))
    return found


def to_bytes(pixels: Tensor) -> Tensor:
    """uint8 on the CPU of pixels in 0..1."""
    return (pixels * 255).round().byte().cpu()


def small(pixels: Tensor) -> Tensor:
    """Pixels [B, 3, H, W] in 0..1, no longer than a thumbnail."""
    height, width = pixels.shape[-2:]
    scale = THUMBNAIL / max(height, width)
    if scale >= 1:
        return pixels
    sides = max(1, round(height * scale)), max(1, round(width * scale))
    return F.interpolate(pixels, sides, mode="bilinear", antialias=True)


def _only_nan(failures: int) -> BackboneError:
    return BackboneError(
        f"The model answered with NaN (no number) for all of the first {failures} noises.",
        "Choose the CPU (full precision) or a smaller guidance; otherwise the model's files are damaged: copy them "
        "again.",
    )
