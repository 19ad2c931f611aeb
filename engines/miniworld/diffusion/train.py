"""The recipe of the shipped mini-diffusion model: first the autoencoder, then noise prediction on its latents.

``python -m engines.miniworld.diffusion.train --out DIR --minutes 120 --threads 2 --seed 0 [--resume]``

Autoencoder: L1, L2 and a little KL (Rombach et al., arXiv:2112.10752). Then UNet and text encoder, from scratch:
DDPM's loss weighted by min-SNR-5 (arXiv:2303.09556). In half of the samples the states behind a caption's end are those
of an empty caption: else the UNet may read everything from them, since they see the whole caption, and its maps of the
nouns would mean little. Steps end by the clock, and the step size follows a cosine over it.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from engines.files import whole_file
from engines.miniworld.diffusion import model as mini
from engines.miniworld.diffusion.pictures import draw, draw_any

WARM_UP = 0.03
"""Share of a stage during which the step size rises."""
LAST_RATE = 0.06
"""Step size at the end, as a share of the highest."""
KL_WEIGHT = 1e-6
UNCONDITIONAL = 0.1
"""Share of samples with an empty caption, for guidance."""
WITHOUT_END = 0.5
"""Share of samples whose states behind the caption's end are those of an empty caption."""
SNR_CAP = 5.0
EMA = 0.999
ENCODED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training does; together with the machine's speed it fixes the weights."""

    autoencoder_minutes: float = 15.0
    minutes: float = 120.0
    autoencoder_batch: int = 16
    autoencoder_step_size: float = 1e-3
    batch: int = 32
    scenes: int = 60_000
    step_size: float = 6e-4
    weight_decay: float = 1e-4
    seed: int = 0


def _clock() -> float:
    """Seconds that count: of the processor's threads where they do the work; a busy machine shortens nothing."""
    return time.monotonic() if torch.cuda.is_available() else time.process_time() / torch.get_num_threads()


class Stage:
    """Modules, optimiser, running average and clock of one stage; the whole state can be saved and restored."""

    def __init__(
        self,
        modules: dict[str, nn.Module],
        recipe: Recipe,
        minutes: float,
        step_size: float,
        file: Path,
        device: str,
    ) -> None:
        self.modules = nn.ModuleDict(modules).to(device)
        self.average = copy.deepcopy(self.modules).requires_grad_(False)
        self.recipe, self.minutes, self.file = recipe, minutes, file
        self.optimiser = torch.optim.AdamW(
            self.modules.parameters(), step_size, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
        )
        self.step_size = step_size
        self.step, self.elapsed, self.resumed = 0, 0.0, 0

    @property
    def share(self) -> float:
        """Share of the time that is over, in [0, 1]."""
        return min(1.0, self.elapsed / (60 * self.minutes))

    def run(self, loss: Callable[[int], Tensor], save_every: float = 60.0) -> Iterator[float]:
        """Steps down `loss(step)` until the time is over; yields every step's value."""
        last, saved = _clock(), time.monotonic()
        self.modules.train()
        while self.share < 1:
            yield self._update(loss)
            now = _clock()
            self.elapsed += now - last
            last = now
            if time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
        self.save()

    def _update(self, loss: Callable[[int], Tensor]) -> float:
        share = self.share
        factor = share / WARM_UP if share < WARM_UP else (1 + cos(pi * (share - WARM_UP) / (1 - WARM_UP))) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = self.step_size * max(factor, LAST_RATE if share > WARM_UP else 1e-2)
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        value = loss(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        keep = min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.modules.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        return float(value.detach())

    def save(self) -> None:
        """Writes the full state, whole or not at all."""
        state = {
            "recipe": asdict(self.recipe),
            "modules": self.modules.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "clock": [self.step, self.elapsed, self.resumed],
        }
        with whole_file(self.file, durable=False) as file:
            torch.save(state, file)

    def restore(self) -> None:
        """Goes on from a saved state, where there is one."""
        if not self.file.is_file():
            return
        state = torch.load(self.file, map_location="cpu", weights_only=True)
        self.modules.load_state_dict(state["modules"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed, self.resumed = state["clock"]
        self.resumed += 1


# --- the two losses ---------------------------------------------------------------


def autoencoder_loss(autoencoder: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Absolute and squared error of pictures [B, 3, 64, 64] in [-1, 1], and KL of their latents.

    The squared one is for the small things, whose colour is a large error on few pixels.
    """
    found = autoencoder.encode(pixels).latent_dist
    drawn = autoencoder.decode(found.sample()).sample
    return F.l1_loss(drawn, pixels) + F.mse_loss(drawn, pixels) + KL_WEIGHT * found.kl().mean()


def noise_loss(modules: nn.ModuleDict, scheduler: DDPMScheduler, latents: Tensor, tokens: Tensor) -> Tensor:
    """Weighted squared error of the predicted noise.

    Args:
        modules: `unet` and `text`.
        scheduler: the levels of noise.
        latents: scaled latents [B, 4, 16, 16].
        tokens: captions [B, 24]; the last row is the empty caption and belongs to no latent.
    """
    count, device = len(latents), latents.device
    states = modules["text"](tokens).last_hidden_state
    empty, states = states[-1:], states[:-1]
    unconditional = torch.rand(count, 1, 1, device=device) < UNCONDITIONAL
    ends = tokens[:-1].argmax(dim=1)  # the end token has the highest number, and comes first among the padding
    behind = torch.arange(tokens.shape[1], device=device)[None, :] >= ends[:, None]
    without = behind[:, :, None] & (torch.rand(count, 1, 1, device=device) < WITHOUT_END)
    states = torch.where(unconditional | without, empty, states)
    noise = torch.randn_like(latents)
    steps = torch.randint(scheduler.config.num_train_timesteps, (count,), device=device)
    found = modules["unet"](scheduler.add_noise(latents, noise, steps), steps, states).sample
    kept = scheduler.alphas_cumprod.to(device)[steps]
    snr = kept / (1 - kept)
    return ((found - noise).square().mean(dim=(1, 2, 3)) * snr.clamp(max=SNR_CAP) / snr).mean()


# --- the stages -------------------------------------------------------------------


@torch.no_grad()
def encode_scenes(autoencoder: AutoencoderKL, recipe: Recipe, file: Path, device: str) -> dict[str, Any]:
    """Latents [N, 4, 16, 16] (float16, unscaled), tokens [N, 24] and the scale that makes their deviation 1."""
    if file.is_file():
        found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return found
    tokenizer = mini.build_tokenizer()
    latents, tokens = [], []
    for step in range(-(-recipe.scenes // ENCODED_AT_ONCE)):
        drawn = draw(recipe.seed + 1, step, ENCODED_AT_ONCE)
        pixels = mini.to_unit(torch.from_numpy(drawn.pixels)).to(device)
        latents.append(autoencoder.encode(pixels).latent_dist.mean.half().cpu())
        tokens.append(mini.tokenize(tokenizer, drawn.captions).int())
    together = torch.cat(latents)
    made = {"latents": together, "tokens": torch.cat(tokens), "scale": 1 / float(together.float().std())}
    with whole_file(file, durable=False) as out:
        torch.save(made, out)
    return made


def train(
    out: Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    device: str = "cpu",
    report: Callable[[str, Stage, float], None] = lambda name, stage, loss: None,
) -> None:
    """Trains (or goes on) and writes the pipeline folder `out/pipeline` and `out/training.json`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    parts: dict[str, nn.Module] = {"autoencoder": mini.build_autoencoder()}
    first = Stage(
        parts, recipe, recipe.autoencoder_minutes, recipe.autoencoder_step_size, out / "autoencoder.pt", device
    )
    if resume:
        first.restore()
    else:
        (out / "latents.pt").unlink(missing_ok=True)

    def redraw(step: int) -> Tensor:
        pixels = torch.from_numpy(draw_any(recipe.seed, step, recipe.autoencoder_batch))
        return autoencoder_loss(first.modules["autoencoder"], mini.to_unit(pixels).to(device))

    for loss in first.run(redraw):
        report("autoencoder", first, loss)
    autoencoder = first.average["autoencoder"].eval()
    assert isinstance(autoencoder, AutoencoderKL)
    data = encode_scenes(autoencoder, recipe, out / "latents.pt", device)
    autoencoder.register_to_config(scaling_factor=data["scale"])
    scheduler = DDPMScheduler(**{k: v for k, v in mini.NOISE.items() if k != "set_alpha_to_one"})
    empty = mini.tokenize(mini.build_tokenizer(), [""])
    # only the captions' own words are trained: a step over CLIP's whole vocabulary would cost a tenth of the time
    words, numbered = torch.cat([data["tokens"].long(), empty]).unique(return_inverse=True)
    second_parts: dict[str, nn.Module] = {"unet": mini.build_unet(), "text": mini.build_text(len(words))}
    second = Stage(second_parts, recipe, recipe.minutes, recipe.step_size, out / "unet.pt", device)
    if resume:
        second.restore()

    def denoise(step: int) -> Tensor:
        chosen = torch.randint(len(data["latents"]), (recipe.batch,))
        latents = data["latents"][chosen].float().to(device) * data["scale"]
        tokens = torch.cat([numbered[:-1][chosen], numbered[-1:]]).to(device)
        return noise_loss(second.modules, scheduler, latents, tokens)

    for loss in second.run(denoise):
        report("unet", second, loss)
    write(out, autoencoder, second, first, words, device)


def write(out: Path, autoencoder: nn.Module, second: Stage, first: Stage, words: Tensor, device: str) -> None:
    """The pipeline folder of the running averages, and what the training was."""
    average = second.average.eval()
    text = mini.with_all_words(average["text"].to("cpu"), words)
    mini.save_folder(mini.assemble(autoencoder, text, average["unet"]).to("cpu"), out / "pipeline")
    clocks = {
        f"{name}_{what}": value
        for name, stage in (("autoencoder", first), ("unet", second))
        for what, value in (
            ("steps", stage.step),
            ("seconds", round(stage.elapsed, 1)),
            ("resumed", stage.resumed),
        )
    }
    log_entry = {**asdict(second.recipe), **clocks, "device": device}
    (out / "training.json").write_text(json.dumps(log_entry, indent=2) + "\n")


def _print_progress(name: str, stage: Stage, loss: float) -> None:
    if stage.step % 50 == 0:
        rate = stage.step / max(stage.elapsed, 1e-9)
        print(f"{name} step {stage.step:6d} {stage.share:6.1%} loss {loss:.4f} {rate:.2f} steps/s", flush=True)


def main() -> None:
    """Command line of the recipe."""
    usual = Recipe()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--autoencoder-minutes", type=float, default=usual.autoencoder_minutes)
    parser.add_argument("--minutes", type=float, default=usual.minutes)
    parser.add_argument("--scenes", type=int, default=usual.scenes)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe(options.autoencoder_minutes, options.minutes, scenes=options.scenes, seed=options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train(options.out, recipe, resume=options.resume, device=device, report=_print_progress)


if __name__ == "__main__":
    main()
