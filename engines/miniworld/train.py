"""The recipe of the shipped mini-CLIP: contrastive training on renderings drawn on the fly.

``python -m engines.miniworld.train --out DIR --renderings 500000 --minutes 75 --threads 2 --seed 0 [--resume]``

The loss is CLIP's (arXiv:2103.00020, figure 3), except that pictures with equal captions share one text and are
all positives of it. At first half of the patches are left out (FLIP, arXiv:2212.00794), which saves time but hides
small things; later fewer and fewer, and none in the last tenth.
The step size follows a cosine over the renderings or the minutes, whichever end first, so it always ends annealed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import cos, log, pi
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from engines.files import whole_file
from engines.miniworld import model as mini
from engines.miniworld.world import draw_batch

WARM_UP = 0.04
"""Share of the training during which the step size rises."""
UNMASKING = (0.3, 0.9)
"""Share of the training at which the left-out patches begin to become fewer, and at which none is left out."""
HIGHEST_SCALE = log(100)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training run does; together with the machine's speed it fixes the weights."""

    renderings: int = 500_000
    minutes: float = 75.0
    batch: int = 256
    seed: int = 0
    step_size: float = 1e-3
    weight_decay: float = 0.1
    patch_dropout: float = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """One training step: number, share of the training done, loss, pictures per second, seconds so far."""

    step: int
    share: float
    loss: float
    rate: float
    elapsed: float


class Renderings(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Training batches by step: pictures [N, S, S, 3] uint8, tokens [U, L] and each picture's text [N]."""

    def __init__(self, seed: int, batch: int) -> None:
        self.seed, self.batch = seed, batch
        self.tokenizer = open_clip.SimpleTokenizer()

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        drawn = draw_batch(self.seed, step, self.batch, mini.IMAGE_SIZE)
        tokens = self.tokenizer(drawn.captions)
        longest = int(tokens.argmax(dim=-1).max()) + 1
        return torch.from_numpy(drawn.pixels), tokens[:, :longest], torch.from_numpy(drawn.text_of)


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, text_of: Tensor) -> Tensor:
    """CLIP's symmetric loss with shared positives.

    Args:
        image: unit features [N, D].
        text: unit features of the distinct captions [U, D].
        scale: exp of the learned temperature.
        text_of: index of each picture's caption [N].
    """
    logits = scale * image @ text.T
    same = F.one_hot(text_of, len(text)).to(logits.dtype).T
    targets = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, text_of) + F.cross_entropy(logits.T, targets)) / 2


class Trainer:
    """Holds model, optimiser and clock of one run; its whole state can be saved and restored."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        self.recipe, self.device = recipe, torch.device(device)
        torch.manual_seed(recipe.seed)
        self.model = mini.build(recipe.patch_dropout).to(self.device)
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        vectors = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.step_size, betas=(0.9, 0.98), eps=1e-6, fused=True)
        self.step, self.elapsed, self.resumed = 0, 0.0, 0

    @property
    def steps(self) -> int:
        """Steps of the whole run, should the minutes suffice."""
        return max(1, self.recipe.renderings // self.recipe.batch)

    @property
    def share(self) -> float:
        """Share of the training that is done, by renderings or by time, in [0, 1]."""
        return min(1.0, max(self.step / self.steps, self.elapsed / (60 * self.recipe.minutes)))

    def update(self, pixels: Tensor, tokens: Tensor, text_of: Tensor) -> float:
        """One optimisation step; returns the loss."""
        share = self.share
        factor = share / WARM_UP if share < WARM_UP else (1 + cos(pi * (share - WARM_UP) / (1 - WARM_UP))) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.step_size * max(factor, 1e-3)
        masked = min(1.0, max(0.0, (UNMASKING[1] - share) / (UNMASKING[1] - UNMASKING[0])))
        mini.set_patch_dropout(self.model, self.recipe.patch_dropout * masked)
        self.model.train()
        images = mini.normalise(pixels.to(self.device))
        # On CPUs the plain attention kernel is several times faster than the fused one at these short lengths.
        kernel = SDPBackend.MATH if self.device.type == "cpu" else SDPBackend.FLASH_ATTENTION
        with torch.autocast(self.device.type, dtype=torch.bfloat16), sdpa_kernel([kernel, SDPBackend.MATH]):
            image = self.model.encode_image(images)
            text = mini.encode_captions(self.model, tokens.to(self.device), buckets=4)
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        loss = contrastive_loss(image, text, self.model.logit_scale.exp(), text_of.to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, HIGHEST_SCALE)
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Writes the full state, whole or not at all."""
        state: dict[str, Any] = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "step": self.step,
            "elapsed": self.elapsed,
            "resumed": self.resumed,
        }
        with whole_file(path, durable=False) as file:
            torch.save(state, file)

    def restore(self, path: Path) -> None:
        """Goes on from a saved state."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"].cpu())
        self.step, self.elapsed, self.resumed = state["step"], state["elapsed"], state["resumed"] + 1

    def run(self, workers: int = 1) -> Iterator[Progress]:
        """Trains to the end, drawing pictures in ``workers`` background processes."""
        data = Renderings(self.recipe.seed, self.recipe.batch)
        order = range(self.step, self.steps)
        loader = DataLoader(
            data,
            batch_size=None,
            sampler=order,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            generator=torch.Generator(),  # else starting to load would draw from the model's own stream of numbers
        )
        last = time.monotonic()
        for pixels, tokens, text_of in loader:
            loss = self.update(pixels, tokens, text_of)
            now = time.monotonic()
            spent, last = now - last, now
            self.elapsed += spent
            yield Progress(self.step, self.share, loss, len(pixels) / spent, self.elapsed)
            if self.share >= 1:
                return


def train(
    out: Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    device: str = "cpu",
    workers: int = 1,
    save_every: float = 90.0,
    report: Callable[[Trainer, Progress], None] = lambda trainer, progress: None,
) -> open_clip.CLIP:
    """Trains (or goes on) and writes the model folder; the state is saved every ``save_every`` seconds."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "state.pt"
    trainer = Trainer(recipe, device)
    if resume and checkpoint.exists():
        trainer.restore(checkpoint)
    saved = time.monotonic()
    for progress in trainer.run(workers):
        report(trainer, progress)
        if time.monotonic() - saved > save_every:
            trainer.save(checkpoint)
            saved = time.monotonic()
    trainer.save(checkpoint)
    mini.save_folder(trainer.model, out)
    log_entry = {**asdict(recipe), "steps": trainer.step, "seconds": round(trainer.elapsed, 1), "device": device}
    log_entry["trained_on"], log_entry["resumed"] = trainer.step * recipe.batch, trainer.resumed
    (out / "training.json").write_text(json.dumps(log_entry, indent=2) + "\n")
    return trainer.model.eval()


def _print_progress(trainer: Trainer, progress: Progress) -> None:
    if progress.step % 20 == 0:
        print(
            f"step {progress.step:5d} {progress.share:6.1%} loss {progress.loss:.3f} "
            f"{progress.rate:5.0f} images/s {progress.elapsed:6.0f} s scale {trainer.model.logit_scale.exp():.1f}",
            flush=True,
        )
    if progress.step % 200 == 0:
        from engines.miniworld.evaluate import zero_shot

        print(json.dumps(zero_shot(trainer.model, 3)), flush=True)


_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


def _settle() -> None:
    """Starts again with an allocator that keeps its pages (five times faster) and threads that wait asleep."""
    if not all(os.environ.get(name) == value for name, value in _ENVIRONMENT.items()):
        arguments = [sys.executable, "-m", "engines.miniworld.train", *sys.argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, **_ENVIRONMENT})


def main() -> None:
    """Command line of the recipe."""
    _settle()
    usual = Recipe()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--renderings", type=int, default=usual.renderings)
    parser.add_argument("--minutes", type=float, default=usual.minutes)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe(renderings=options.renderings, minutes=options.minutes, seed=options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train(options.out, recipe, resume=options.resume, device=device, report=_print_progress)


if __name__ == "__main__":
    main()
