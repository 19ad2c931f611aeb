"""Golden noise for any pipeline of diffusers: ``pipe(prompt, latents=golden_latents(pipe, network, prompt))``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engines.diffusion.golden.noise import draw_noise
from engines.diffusion.golden.npnet import NPNet
from engines.errors import ConfigError


@torch.no_grad()
def golden_latents(
    pipe: Any,
    network: NPNet,
    prompt: str | Sequence[str],
    *,
    seeds: Sequence[int] | int = 0,
    noise: Tensor | None = None,
    **encoding: Any,
) -> Tensor:
    """Latents [B, C, h, w] to hand to a pipeline, one for every prompt, in its own precision.

    They have no scale of a scheduler: the pipeline multiplies what it is given by the scheduler's own. Guidance,
    negative prompt, scheduler and everything else stay as they are.

    Args:
        pipe: StableDiffusionPipeline (1.x or 2.x), StableDiffusionXLPipeline, or one that encodes prompts alike.
        network: for this pipeline's text encoders and image size; moved to its device.
        prompt: one or several; positive ones only.
        seeds: of the noise that golden noise is made from; one for each prompt, or one number that counts up.
        noise: this noise instead, of mean 0 and variance 1 [B, C, h, w].
        encoding: further arguments of the pipeline's `encode_prompt`, such as `clip_skip`.
    Raises:
        ConfigError: noise of another size, prompts of another text encoder, or not as many seeds as prompts.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    config = network.config
    # Where parts of the pipeline are moved to the GPU only while they work, the UNet's own device is another one.
    device = torch.device(getattr(pipe, "_execution_device", pipe.unet.device))
    if noise is None:
        numbers = [seeds + at for at in range(len(prompts))] if isinstance(seeds, int) else list(seeds)
        _check_count(len(numbers), len(prompts), "seeds")
        noise = torch.cat([draw_noise(seed, (1, config.channels, config.height, config.width)) for seed in numbers])
    _check_count(len(noise), len(prompts), "noises")
    states = pipe.encode_prompt(
        prompts, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False, **encoding
    )[0]
    golden = network.to(device).eval()(noise.to(device), states)
    return golden.to(pipe.unet.dtype)


def _check_count(found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise ConfigError(f"There are {found} {what} for {wanted} prompts.", "Give one for every prompt.")
