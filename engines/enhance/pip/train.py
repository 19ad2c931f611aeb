"""Training PIP on pictures that are damaged on the fly; resumable.

    python -m engines.enhance.pip.train --out FOLDER [--pictures FOLDER] [--minutes 10] [--threads 2]

Without pictures, those that scikit-image ships serve. A training that was stopped goes on in the same folder.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.enhance.checkpoint import read_tensors, write_tensors
from engines.enhance.pip.degrade import degrade
from engines.enhance.pip.host import PipUNet
from engines.enhance.pip.prompt import class_weights
from engines.enhance.pip.settings import DAMAGES, PipSettings
from engines.enhance.training_photos import digest, turned
from engines.errors import BackboneError, ConfigError, DataError

SIDE = 256
"""Of the pictures that patches are cut from."""
STATE, NETWORK = "training.safetensors", "pip.safetensors"
LIMIT, REMEMBERED = 5.0, 100
"""A loss above LIMIT times the least of the newest REMEMBERED ones is scaled to half of that."""


@dataclass(frozen=True, slots=True)
class PipProgress:
    """After a step: `loss` is the pixel loss (Smooth-L1), before it is limited."""

    step: int
    steps: int
    loss: float


def build(settings: PipSettings) -> PipUNet:
    """The small host of two levels, whose prompts are as wide as its features."""
    return PipUNet(settings.dim, prompt_widths=(settings.dim, 2 * settings.dim), mode=settings.mode)


def train_pip(pictures: Tensor, folder: Path, settings: PipSettings, device: str = "cpu") -> Iterator[PipProgress]:
    """Trains the small host for the five kinds of damage; `pip.safetensors` in `folder` is the result.

    Closing the iterator keeps where it is, and the training ends as if it had not been stopped.

    Args:
        pictures: clean ones, [N, 3, S, S] uint8 with S of at least `settings.patch`.
    Raises:
        DataError: no pictures, or too small; or the disk is full.
        ConfigError: the folder holds another training.
        BackboneError: the file in it is damaged.
    """
    if pictures.ndim != 4 or not len(pictures) or min(pictures.shape[-2:]) < settings.patch:
        raise DataError(
            f"Pictures of at least {settings.patch} pixels are needed.", "Choose others or smaller patches."
        )
    training = _Training(pictures, folder, settings, torch.device(device))
    try:
        while training.step < settings.steps:
            loss = training.advance()
            if training.step % settings.checkpoint_every == 0 or training.step == settings.steps:
                training.save()
            yield PipProgress(training.step, settings.steps, loss)
    except GeneratorExit:
        training.save()
        raise


class _Training:
    def __init__(self, pictures: Tensor, folder: Path, settings: PipSettings, device: torch.device) -> None:
        self.pictures, self.folder, self.settings, self.device = pictures, folder, settings, device
        with torch.random.fork_rng([]):
            torch.manual_seed(settings.seed)
            self.network = build(settings).to(device).train()
        self.optimiser = torch.optim.AdamW(self.network.parameters(), settings.rate, weight_decay=settings.weight_decay)
        self.step, self.recent = 0, deque[float](maxlen=REMEMBERED)
        self.facts = {"settings": settings.model_dump(exclude={"checkpoint_every"}), "pictures": digest(pictures)}
        if (folder / STATE).exists():
            self._restore()

    def advance(self) -> float:
        draw = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        clean, kinds = self._clean(draw), torch.randint(len(DAMAGES), (self.settings.batch,), generator=draw)
        damaged = degrade(clean, kinds, draw).to(self.device)
        restored = self.network(damaged, class_weights(kinds, len(DAMAGES)).to(self.device))
        loss = F.smooth_l1_loss(restored, clean.to(self.device))
        total = limited(loss, self.recent) + self.settings.alpha * self.network.regulariser(self.settings.regulariser)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate * schedule(self.step, self.settings)
        self.optimiser.zero_grad()
        total.backward()
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())

    def _clean(self, draw: torch.Generator) -> Tensor:
        """[B, 3, P, P] in 0..1: patches at random places, turned at random."""
        side, patches = self.settings.patch, []
        for index in torch.randint(len(self.pictures), (self.settings.batch,), generator=draw).tolist():
            height, width = self.pictures.shape[-2:]
            top, left = (int(torch.randint(size - side + 1, (), generator=draw)) for size in (height, width))
            patches.append(self.pictures[index, :, top : top + side, left : left + side])
        return turned(torch.stack(patches), draw) / 255

    def save(self) -> None:
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        for at, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam/{at}.{name}": value for name, value in moments.items()}
        known = {"facts": self.facts, "step": self.step, "recent": list(self.recent)}
        write_tensors(self.folder / STATE, tensors, {"training": json.dumps(known)})
        notes = {"settings": self.settings.model_dump_json(), "steps": str(self.step)}
        write_tensors(self.folder / NETWORK, self.network.state_dict(), notes)

    def _restore(self) -> None:
        tensors, notes = read_tensors(self.folder / STATE)
        known = json.loads(notes.get("training", "{}"))
        if known.get("facts") != self.facts:
            raise ConfigError(
                f"“{self.folder.name}” holds a training with other settings or pictures.",
                "Go on with the same, or train into another folder.",
            )
        network = {name.removeprefix("network/"): v for name, v in tensors.items() if name.startswith("network/")}
        self.network.load_state_dict(network)
        whole = self.optimiser.state_dict()
        for name, value in tensors.items():
            if name.startswith("adam/"):
                at, _, moment = name.removeprefix("adam/").partition(".")
                whole["state"].setdefault(int(at), {})[moment] = value
        self.optimiser.load_state_dict(whole)
        self.step, self.recent = known["step"], deque(known["recent"], REMEMBERED)


def limited(loss: Tensor, recent: deque[float]) -> Tensor:
    """The paper's loss limiter: one that jumps is scaled down, its gradient alike. Remembers the loss in `recent`."""
    value = float(loss.detach())
    least = min(recent, default=value)
    recent.append(value)
    return loss * (LIMIT / 2 * least / value) if value > LIMIT * least else loss


def schedule(step: int, settings: PipSettings) -> float:
    """Share of the rate: linear from a tenth, then a cosine to 0 at the last step."""
    rising = round(settings.steps * settings.warm_up)
    if step < rising:
        return 0.1 + 0.9 * step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, settings.steps - rising)))


def load_pip(path: Path) -> PipUNet:
    """The network of a training's folder or file, ready to restore.

    Raises:
        BackboneError: the file is none of a PIP training.
    """
    path = path / NETWORK if path.is_dir() else path
    tensors, notes = read_tensors(path)
    try:
        network = build(PipSettings.model_validate_json(notes.get("settings", "")))
        network.load_state_dict(tensors)
    except (ValueError, RuntimeError) as error:
        raise BackboneError(
            f"“{path.name}” is no PIP network that was trained here.", "Choose another file.", str(error)
        ) from error
    return network.eval().requires_grad_(False)


def main() -> None:
    from engines.data.images import SUFFIXES
    from engines.enhance.backlit import TRAINING_PICTURES, shipped_picture
    from engines.enhance.training_photos import load_training_photos

    parser = argparse.ArgumentParser(description="Train PIP on pictures that are damaged on the fly.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, help="folder of clean pictures; scikit-image's by default")
    parser.add_argument("--steps", type=int, default=PipSettings().steps)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long; the next call goes on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.pictures:
        paths = sorted(path for path in arguments.pictures.iterdir() if path.suffix.lower() in SUFFIXES)
    else:
        paths = [shipped_picture(name) for name in TRAINING_PICTURES]
    pictures, _ = load_training_photos(paths, SIDE)
    settings, end = PipSettings(steps=arguments.steps, seed=arguments.seed), time.monotonic() + 60 * arguments.minutes
    running = train_pip(pictures, arguments.out, settings)
    for done in running:
        if done.step % 50 == 0 or done.step == done.steps:
            print(f"{done.step} of {done.steps}: loss {done.loss:.5f}", flush=True)
        if time.monotonic() > end:
            break
    running.close()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
