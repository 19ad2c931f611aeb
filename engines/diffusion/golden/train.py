"""Training an NPNet on pairs of noise and golden noise (Zhou et al., arXiv:2411.09502, section 3.3)."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.diffusion.golden.checkpoint import read_npnet, save_npnet
from engines.diffusion.golden.npnet import NPNet
from engines.diffusion.golden.pairs import PairStore
from engines.diffusion.golden.settings import TrainSettings
from engines.diffusion.golden.study import BEST, LAST
from engines.diffusion.model import TextToImage, memory_watched
from engines.errors import BackboneError, ConfigError

Encode = Callable[[Sequence[str]], Tensor]
"""Prompts to text states [B, T, W]."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Mean squared errors after an epoch."""

    train: float
    held_out: float


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """Where a training is: after every step, and with `epoch` after every epoch."""

    step: int
    """Steps done, from the beginning of the training on."""
    steps: int
    loss: float
    """Of the last step."""
    epoch: Epoch | None = None
    best: int | None = None
    """Number of the best epoch so far, the first being 0."""


@dataclass(slots=True)
class Split:
    """Numbers of the store's pairs to train with, and held-out ones of other prompts."""

    train: list[int]
    held_out: list[int]


@dataclass(slots=True)
class _State:
    """Everything that a training needs in order to go on."""

    network: NPNet
    optimiser: torch.optim.AdamW
    history: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> int | None:
        errors = [epoch.held_out for epoch in self.history]
        return errors.index(min(errors)) if errors else None


def text_states(model: TextToImage) -> Encode:
    """How a text-to-image model reads prompts."""

    def encode(prompts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return model.encode(list(prompts)).states

    return encode


def split_pairs(store: PairStore, settings: TrainSettings) -> Split:
    """Selected pairs in two parts that share no prompt.

    Raises:
        ConfigError: fewer than two prompts have a selected pair.
    """
    chosen = store.selected(settings.margin)
    prompts = sorted({store.pairs[number].prompt for number in chosen}, key=lambda text: _place(text, settings.seed))
    if len(prompts) < 2:
        raise ConfigError(
            f"Of {len(store.pairs)} pairs {len(chosen)} are selected, for {len(prompts)} prompts; training needs two "
            "prompts or more, one of them to judge by.",
            "Collect pairs for more prompts, or use all pairs.",
        )
    count = min(len(prompts) - 1, max(1, round(settings.held_out * len(prompts))))
    kept = set(prompts[:count])
    return Split(
        [number for number in chosen if store.pairs[number].prompt not in kept],
        [number for number in chosen if store.pairs[number].prompt in kept],
    )


def make_optimiser(network: NPNet, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW without a schedule."""
    return torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)


def noise_loss(network: NPNet, noise: Tensor, golden: Tensor, text: Tensor) -> Tensor:
    """Mean squared error of the predicted golden noise: a scalar."""
    return F.mse_loss(network(noise, text), golden)


def train_npnet(
    network: NPNet, store: PairStore, encode: Encode, folder: Path, settings: TrainSettings
) -> Iterator[TrainProgress]:
    """Trains a network in place; `npnet.safetensors` in `folder` is the one of the best epoch.

    A training that was stopped goes on at the last whole epoch, with the same result as if it had not been stopped; one
    that has ended goes on if there are more epochs now.
    The network may hold weights already (fine-tuning).

    Raises:
        ConfigError: too few pairs, or the folder holds a training with other pairs or settings.
        BackboneError: the error became infinite, or the GPU's memory does not suffice. The best epoch stays.
        DataError: the disk is full. The best epoch stays.
    """
    split = split_pairs(store, settings)
    state = _State(network, make_optimiser(network, settings))
    facts = {
        # It may go on for longer than was meant at first.
        "settings": settings.model_dump(exclude={"epochs"}),
        "pairs": _identity(store, split),
        "recipe": store.recipe,
    }
    _resume(state, folder / LAST, facts)
    steps = math.ceil(len(split.train) / settings.batch)
    for number in range(len(state.history), settings.epochs):
        order = random.Random(f"{settings.seed}/{number}").sample(split.train, len(split.train))
        losses = []
        for step, start in enumerate(range(0, len(order), settings.batch), number * steps):
            loss = _step(state, store, order[start : start + settings.batch], encode, seed=settings.seed + step)
            losses.append(loss)
            yield TrainProgress(step + 1, settings.epochs * steps, loss)
        state.history.append(Epoch(sum(losses) / len(losses), held_out_error(network, store, split, encode, settings)))
        _keep(state, folder, facts, number)
        yield TrainProgress((number + 1) * steps, settings.epochs * steps, losses[-1], state.history[-1], state.best)
    network.eval()


@torch.no_grad()
def held_out_error(
    network: NPNet | None, store: PairStore, split: Split, encode: Encode, settings: TrainSettings
) -> float:
    """Mean squared error on held-out pairs; without a network that of the noise itself, to compare with."""
    total = 0.0
    if network is not None:
        network.eval()
    for start in range(0, len(split.held_out), settings.batch):
        numbers = split.held_out[start : start + settings.batch]
        noise, golden = _load(store, numbers)
        if network is not None:
            device = network.device
            text = encode([store.pairs[number].prompt for number in numbers])
            noise, golden = network(noise.to(device), text.to(device)), golden.to(device)
        total += float((noise - golden).square().mean()) * len(numbers)
    return total / len(split.held_out)


def _step(state: _State, store: PairStore, numbers: Sequence[int], encode: Encode, seed: int) -> float:
    network, device = state.network, state.network.device
    noise, golden = (part.to(device) for part in _load(store, numbers))
    text = encode([store.pairs[number].prompt for number in numbers]).to(device)
    network.train()
    # Blocks that the Swin leaves out at random are the same after resuming.
    with memory_watched(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        loss = noise_loss(network, noise, golden, text)
        state.optimiser.zero_grad()
        loss.backward()
    found = float(loss.detach())
    if not math.isfinite(found):
        raise BackboneError("The training's error became infinite.", "Choose a smaller learning rate.")
    state.optimiser.step()
    return found


def _load(store: PairStore, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
    arrays = [store.arrays(number) for number in numbers]
    return torch.stack([one.noise for one in arrays]), torch.stack([one.golden for one in arrays])


def _keep(state: _State, folder: Path, facts: dict[str, Any], number: int) -> None:
    """The state for going on, and the network if it is the best so far."""
    known = facts | {"history": [(epoch.train, epoch.held_out) for epoch in state.history]}
    if state.best == number:
        save_npnet(state.network, folder / BEST, known)
    moments = {
        f"optimiser/{at}/{name}": value
        for at, values in state.optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }
    save_npnet(state.network, folder / LAST, known, moments)


def _resume(state: _State, path: Path, facts: dict[str, Any]) -> None:
    """Goes back to what `_keep` wrote, if it did."""
    if not path.exists():
        return
    try:
        saved, known, moments = read_npnet(path)
    except BackboneError as error:
        raise BackboneError(
            f"The training in “{path.parent.name}” cannot go on: “{path.name}” is damaged.",
            f"Train into another folder. “{BEST}” beside it is the best epoch so far, and can still be used.",
            error.detail,
        ) from error
    if saved.config != state.network.config or any(known.get(name) != facts[name] for name in facts):
        raise ConfigError(
            f"“{path.parent.name}” holds a training with other pairs or settings.",
            "Go on with the same ones, or train into another folder.",
        )
    state.network.load_state_dict(saved.state_dict())
    state.history = [Epoch(*errors) for errors in known["history"]]
    whole = state.optimiser.state_dict()
    whole["state"] = {}
    for name, value in moments.items():
        _, at, moment = name.split("/")
        whole["state"].setdefault(int(at), {})[moment] = value
    state.optimiser.load_state_dict(whole)


def _identity(store: PairStore, split: Split) -> str:
    """A short name of the pairs that are trained with."""
    keys = [(store.pairs[number].prompt, store.pairs[number].seed) for number in (*split.train, *split.held_out)]
    return hashlib.sha256(repr(keys).encode()).hexdigest()[:16]


def _place(prompt: str, seed: int) -> bytes:
    """Where a prompt stands among shuffled ones; the same however many there are."""
    return hashlib.sha256(f"{seed}/{prompt}".encode()).digest()
