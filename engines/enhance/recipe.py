"""How the shipped small enhancer was made: CLIP-LIT's network, on backlit pictures whose truth is known.

    python -m engines.enhance.recipe --out assets/models/mini-enhancer [--steps 500] [--threads 2]

Scenes of the mini world and scikit-image's pictures are put into shadow; the network learns the light that gives back
the truth. That takes the place of CLIP-LIT's prompts, which brighten too with the small model that is shipped, but far
less in the same minutes: see docs/enhancement.md.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engines.enhance.backlit import (
    HELD_OUT_PICTURES,
    TRAINING_PICTURES,
    Pairs,
    joined,
    photo_pairs,
    rendered_pairs,
)
from engines.enhance.checkpoint import write_tensors
from engines.enhance.enhancer import ClipLitEnhancer
from engines.enhance.losses import divided
from engines.enhance.metrics import psnr, ssim
from engines.enhance.network import SLOPE, LightMapNet

WEIGHTS, EVALUATION, CARD = "enhancer.safetensors", "evaluation.json", "README.md"
SIZES = ((48, 6), (96, 2))
"""Side of the training pictures and how many make a batch: about equally much work."""
RATE = 1e-3
HELD_OUT_SEED = 20_001


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over pictures with known truth, before and after; PSNR in dB."""

    psnr_before: float
    psnr_after: float
    ssim_before: float
    ssim_after: float


def training_pairs(size: int, scenes: int = 320, cuts: int = 32, seed: int = 0) -> Pairs:
    return joined(rendered_pairs(scenes, size, seed), photo_pairs(TRAINING_PICTURES, cuts, size, seed))


def held_out(size: int, seed: int = HELD_OUT_SEED) -> dict[str, Pairs]:
    """Scenes and pictures that the recipe does not train on."""
    return {
        "drawn scenes": rendered_pairs(24, size, seed),
        "photos": photo_pairs(HELD_OUT_PICTURES, 12, size, seed),
    }


def train(network: LightMapNet, steps: int, seed: int = 0) -> Iterator[float]:
    """Trains in place, yields the mean absolute error of each step; bfloat16, the rate falls along a cosine to 0."""
    pools = []
    for size, count in SIZES:
        pairs = training_pairs(size, seed=seed)
        pools.append((count, _tensor(pairs.backlit), _tensor(pairs.truth)))
    network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    for step in range(steps):
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        count, dark, truth = pools[step % len(pools)]
        chosen = torch.randperm(len(dark), generator=draw)[:count]
        pixels, wanted = (part[chosen].to(memory_format=torch.channels_last) / 255 for part in (dark, truth))
        with torch.autocast("cpu", torch.bfloat16):
            light = network(pixels)
        loss = (divided(pixels, light.float()) - wanted).abs().mean()
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        yield float(loss.detach())


def fresh_network(seed: int = 0) -> LightMapNet:
    """Weights that keep signals at their strength, so that few steps suffice (the release's 0.02 lets them fade).

    The last layer starts near 0 with a bias of 1: the light map is 1, and pictures stay as they are.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = LightMapNet("reflect")
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, a=SLOPE)
                module.weight.data *= 0.7  # shortcuts add up
    with torch.no_grad():
        network.cond_add1.weight.mul_(0.05)
        network.cond_add1.bias.fill_(1)  # type: ignore[union-attr]
    return network


def quality(enhancer: ClipLitEnhancer, pairs: Pairs) -> Quality:
    rows = []
    for dark, truth in zip(pairs.backlit, pairs.truth, strict=True):
        before, wanted = dark / np.float32(255), truth / np.float32(255)
        after = enhancer.enhance(before)
        rows.append([measure(image, wanted) for measure in (psnr, ssim) for image in (before, after)])
    return Quality(*(float(value) for value in np.mean(rows, axis=0)))


def _tensor(pictures: np.ndarray) -> Tensor:
    """[N, S, S, 3] -> [N, 3, S, S]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def write_card(folder: Path, found: Mapping[str, Mapping[str, Quality]], steps: int, minutes: float) -> None:
    lines = [
        f"| {kind}, {size} px | {q.psnr_before:.1f} | {q.psnr_after:.1f} | {q.ssim_before:.3f} | {q.ssim_after:.3f} |"
        for size, kinds in found.items()
        for kind, q in kinds.items()
    ]
    names = ", ".join(name.partition(".")[0] for name in TRAINING_PICTURES)
    others = ", ".join(name.partition(".")[0] for name in HELD_OUT_PICTURES)
    text = _CARD.format(steps=steps, minutes=minutes, rows="\n".join(lines), names=names, others=others)
    (folder / CARD).write_text(text, "utf-8")


_CARD = """---
license: apache-2.0
tags:
- image-enhancement
- synthetic
---

# Mini-enhancer

CLIP-LIT's light-map network (278,790 weights, Liang et al., ICCV 2023), trained here from scratch so that backlit
photos can be brightened offline. It is **not** the authors' model, and no weights of theirs are in it.

## Training

{steps:,} steps in {minutes:.0f} minutes on the processor of a busy machine, on pictures that were put into shadow by
a program (`engines/enhance/backlit.py`), so that their truth is known:

- scenes of the mini world, whose things get 12 to 40% of the light, and their background all of it or more;
- cut-outs of pictures that the scikit-image package ships ({names}), whose darker parts get as little.

The loss is the mean absolute difference between the brightened picture and the truth. CLIP-LIT itself needs no pairs:
it learns prompts from two folders of photos. With the small model that is shipped as judge, that brightens far less in
the same minutes; the figures are in `docs/enhancement.md`. The Backlit page trains that way, on photos of your own.

```
python -m engines.enhance.recipe --out FOLDER
```

## Measured

On pictures it was not trained on: newly drawn scenes, and cut-outs of {others}. PSNR in dB; both against the truth.

| pictures | PSNR before | after | SSIM before | after |
| --- | ---: | ---: | ---: | ---: |
{rows}

Kept in `evaluation.json`.

## Where it fails

- Shadows in the training were made by multiplying pixel values. Real backlit photos have flare, crushed blacks and
  colour casts, which it has never seen: what is black stays black.
- What is dark by nature (black hair, tyres, a night sky) is taken for shadow and turned grey.
- A handful of photos and simple drawings are not the variety of real scenes: faces, foliage and crowds may get halos.
- Noise in the shadows is brightened with them, and highlights in a shadow (metal, glaze) turn grey.
- Not for low-light photos, and **not for diagnosis** or any measurement: it changes intensities.

Licence: Apache-2.0.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and measure the small enhancer.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network, began, losses = fresh_network(arguments.seed), time.monotonic(), list[float]()
    for loss in train(network, arguments.steps, arguments.seed):
        losses.append(loss)
        if len(losses) % 50 == 0:
            mean, seconds = sum(losses[-50:]) / 50, time.monotonic() - began
            print(f"{len(losses)} of {arguments.steps}: {mean:.4f}, {seconds:.0f} s", flush=True)
    minutes = (time.monotonic() - began) / 60
    write_tensors(arguments.out / WEIGHTS, network.state_dict(), {"recipe": "pairs", "steps": str(arguments.steps)})
    enhancer = ClipLitEnhancer(network.to(memory_format=torch.contiguous_format))
    found = {
        str(size): {kind: quality(enhancer, pairs) for kind, pairs in held_out(size).items()} for size in (96, 256)
    }
    kept = {size: {kind: asdict(q) for kind, q in kinds.items()} for size, kinds in found.items()}
    (arguments.out / EVALUATION).write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    write_card(arguments.out, found, arguments.steps, minutes)
    print(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
