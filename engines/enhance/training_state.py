"""Everything a training of an enhancer needs in order to go on, and the file that holds it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines.enhance.checkpoint import read_tensors, write_tensors
from engines.enhance.guidance import Guidance
from engines.enhance.network import LightMapNet
from engines.enhance.settings import Stage, TrainSettings
from engines.errors import ConfigError

Weights = dict[str, Tensor]


@dataclass
class TrainState:
    """
    Attributes:
        step: steps done in this stage; planned: how many it has, prolonged or not.
        total: steps done in all stages; draws of photos depend on it alone.
        prolonged: how often this stage was.
        recent: losses of the newest 30 steps of this stage; levels: their PSNR in dB, in the warm-up.
        best: of this round, by mean loss of a full window; the weights are copies.
        results: best weights of the newest two rounds, the newest last.
    """

    network: LightMapNet
    guidance: Guidance
    network_optimiser: torch.optim.Adam
    guidance_optimiser: torch.optim.Adam | None
    stage: Stage
    round: int
    planned: int
    step: int = 0
    total: int = 0
    prolonged: int = 0
    recent: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    best_loss: float | None = None
    best: Weights = field(default_factory=dict)
    results: list[Weights] = field(default_factory=list)

    def enter(self, stage: Stage, number: int, planned: int) -> None:
        self.stage, self.round, self.planned = stage, number, planned
        self.step = self.prolonged = 0
        self.recent, self.levels, self.best_loss, self.best = [], [], None, {}

    @property
    def optimisers(self) -> dict[str, torch.optim.Adam]:
        pair = {"network-adam": self.network_optimiser, "guidance-adam": self.guidance_optimiser}
        return {name: optimiser for name, optimiser in pair.items() if optimiser is not None}


_NUMBERS = ("round", "planned", "step", "total", "prolonged", "recent", "levels", "best_loss")


def new_adam(parameters: Iterable[torch.nn.Parameter], rate: float, settings: TrainSettings) -> torch.optim.Adam:
    """Adam with coupled weight decay and a constant rate."""
    return torch.optim.Adam(parameters, rate, weight_decay=settings.weight_decay)


def copy_of(module: torch.nn.Module) -> Weights:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def save_state(state: TrainState, path: Path, facts: Mapping[str, Any]) -> None:
    """Writes all of it, whole or not at all."""
    tensors: Weights = {}
    parts = {"network": state.network.state_dict(), "guidance": state.guidance.state_dict(), "best": state.best}
    parts |= {f"result{i}": weights for i, weights in enumerate(state.results)}
    for name, optimiser in state.optimisers.items():
        moments = optimiser.state_dict()["state"]
        parts[name] = {f"{at}.{key}": value for at, values in moments.items() for key, value in values.items()}
    for part, weights in parts.items():
        tensors |= {f"{part}/{name}": value for name, value in weights.items()}
    known = {name: getattr(state, name) for name in _NUMBERS} | {"stage": state.stage.value, "facts": dict(facts)}
    write_tensors(path, tensors, {"training": json.dumps(known)})


def restore_state(state: TrainState, path: Path, facts: Mapping[str, Any]) -> bool:
    """Goes back to what `save_state` wrote; False where nothing was written.

    Raises:
        BackboneError: the file is damaged.
        ConfigError: it belongs to a training with other photos, settings or another model.
    """
    if not path.exists():
        return False
    tensors, notes = read_tensors(path)
    known = json.loads(notes.get("training", "{}"))
    other = [name for name in facts if known.get("facts", {}).get(name) != facts[name]]
    if other:
        raise ConfigError(
            f"“{path.parent.name}” holds a training with another choice of {' and '.join(other)}.",
            "Go on with the same, or train into another folder.",
        )
    parts: dict[str, Weights] = {}
    for name, value in tensors.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = value
    device = next(state.network.parameters()).device
    state.network.load_state_dict(parts["network"])
    state.guidance.load_state_dict(parts["guidance"])
    for name, optimiser in state.optimisers.items():
        whole = optimiser.state_dict()
        whole["state"] = {}
        for key, value in parts.get(name, {}).items():
            at, _, moment = key.partition(".")
            whole["state"].setdefault(int(at), {})[moment] = value
        optimiser.load_state_dict(whole)
    results = sorted(part for part in parts if part.startswith("result"))
    state.results = [{key: value.to(device) for key, value in parts[part].items()} for part in results]
    state.best = {key: value.to(device) for key, value in parts.get("best", {}).items()}
    state.stage = Stage(known["stage"])
    for name in _NUMBERS:
        setattr(state, name, known[name])
    return True
