"""What a mini-diffusion model must be able to do before it is shipped, measured on scenes that it has not seen.

``python -m engines.miniworld.diffusion.gate --model DIR --out evaluation.json``

Noun maps: cross-attention at 16 x 16, mean over heads and layers, of noised held-out scenes at three levels of noise.
Pictures: generated from captions, judged by rules (`check`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from torch.nn import functional as F

from engines.diffusion.attention import AttentionRecorder
from engines.miniworld.diffusion import model as mini
from engines.miniworld.diffusion.check import shows
from engines.miniworld.diffusion.pictures import Scenes, draw

HELD_OUT_SEED = 1_000_003
"""No training uses it."""
LEVELS = (300, 500, 700)
IOU_THRESHOLD = 0.3
"""Of the map's maximum, as Dynamic Prompt Learning's helper does."""
GUIDANCE = 4.0
STEPS = 30
BATCH = 32
REQUIRED = {"pointing": 0.8, "right_pictures_1": 0.7}


def coarse(masks: Tensor) -> Tensor:
    """Share of each cell that is covered: [N, K, 64, 64] bool to [N, K, 16, 16]."""
    return F.avg_pool2d(masks.float(), masks.shape[-1] // mini.LATENT_SIZE)


def judge_map(heat: Tensor, masks: Tensor, number: int) -> dict[str, float]:
    """How well one noun's map [16, 16] finds its thing.

    Args:
        heat: attention, not negative.
        masks: covered shares [K, 16, 16] of all things of the scene.
        number: which of them the noun names.
    """
    own = masks[number]
    others = masks.sum(dim=0) - own
    total = heat.sum().clamp(min=1e-12)
    seen, there = heat > IOU_THRESHOLD * heat.max(), own >= 0.5
    return {
        "pointing": float(own.flatten()[heat.argmax()] >= 0.5),
        "iou": float((seen & there).sum() / (seen | there).sum().clamp(min=1)),
        "on_own": float((heat * own).sum() / total),
        "on_others": float((heat * others).sum() / total),
        "on_background": float((heat * (1 - own - others).clamp(min=0)).sum() / total),
        "own_area": float(own.mean()),
    }


@torch.no_grad()
def judge_maps(pipeline: StableDiffusionPipeline, scenes: Scenes) -> list[dict[str, float]]:
    """`judge_map` of every noun of every scene at every level of noise."""
    found: list[dict[str, float]] = []
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(scenes.captions), BATCH):
        chunk = slice(start, start + BATCH)
        tokens = mini.tokenize(pipeline.tokenizer, scenes.captions[chunk])
        pixels = mini.to_unit(torch.from_numpy(scenes.pixels[chunk]))
        latents = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
        states = pipeline.text_encoder(tokens).last_hidden_state
        masks = coarse(torch.from_numpy(scenes.masks[chunk]))
        for level in LEVELS:
            step = torch.full((len(tokens),), level)
            noised = pipeline.scheduler.add_noise(latents, torch.randn(latents.shape, generator=generator), step)
            with AttentionRecorder(pipeline.unet, [mini.LATENT_SIZE]) as recorder:
                pipeline.unet(noised, step, states)
                maps = recorder.word_maps()
            for row, number, token in nouns(pipeline, scenes, chunk):
                found.append(judge_map(maps[row, :, :, token], masks[row], number) | {"level": level})
    return found


def nouns(pipeline: StableDiffusionPipeline, scenes: Scenes, chunk: slice) -> Iterator[tuple[int, int, int]]:
    """(row in the chunk, number of the thing, position of its noun among the tokens)."""
    tokens = mini.tokenize(pipeline.tokenizer, scenes.captions[chunk])
    for row, spec in enumerate(scenes.specs[chunk]):
        for number, thing in enumerate(spec.things):
            word = int(mini.tokenize(pipeline.tokenizer, [thing.shape])[0, 1])
            yield row, number, int((tokens[row] == word).nonzero()[0])


def judge_pictures(pipeline: StableDiffusionPipeline, things: int, count: int) -> float:
    """Share of generated pictures that show exactly the things of their caption."""
    scenes = draw(HELD_OUT_SEED, 100 + things, count, things)
    right = 0
    pipeline.set_progress_bar_config(disable=True)
    for start in range(0, count, BATCH):
        captions = scenes.captions[start : start + BATCH]
        generator = torch.Generator().manual_seed(start)
        made = pipeline(
            captions, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator, output_type="np"
        ).images
        for picture, spec in zip((made * 255).round().astype(np.uint8), scenes.specs[start:], strict=False):
            right += shows(picture, [(thing.colour, thing.shape) for thing in spec.things])
    return right / count


@torch.no_grad()
def autoencoder_psnr(pipeline: StableDiffusionPipeline, scenes: Scenes) -> float:
    """Peak signal-to-noise ratio in dB of held-out pictures after encoding and decoding, mean over pictures."""
    pixels = mini.to_unit(torch.from_numpy(scenes.pixels))
    back = pipeline.vae.decode(pipeline.vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
    error = ((back - pixels) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * error.log10()).mean())


def evaluate(pipeline: StableDiffusionPipeline, count: int = 96) -> dict[str, Any]:
    """Everything the model card says of the model, and whether it may be shipped."""
    one, two = draw(HELD_OUT_SEED, 1, count, 1), draw(HELD_OUT_SEED, 2, count, 2)
    found: dict[str, Any] = {"autoencoder_psnr": autoencoder_psnr(pipeline, two)}
    rows = {1: judge_maps(pipeline, one), 2: judge_maps(pipeline, two)}
    for things, judged in rows.items():
        for name in judged[0]:
            if name != "level":
                found[f"{name}_{things}"] = float(np.mean([row[name] for row in judged]))
    for level in LEVELS:
        found[f"pointing_at_{level}"] = float(
            np.mean([row["pointing"] for judged in rows.values() for row in judged if row["level"] == level])
        )
    found["pointing"] = float(np.mean([row["pointing"] for judged in rows.values() for row in judged]))
    for things in (1, 2):
        found[f"right_pictures_{things}"] = judge_pictures(pipeline, things, count)
    found["passed"] = all(found[name] > least for name, least in REQUIRED.items()) and found["on_others_2"] > 0.02
    return found


def main() -> None:
    """Command line of the gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--count", type=int, default=96)
    options = parser.parse_args()
    text = json.dumps(evaluate(mini.load_folder(options.model), options.count), indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
