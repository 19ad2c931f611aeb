"""A repair's settings, and everything it knows between two steps: saved and loaded without pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from engines.diffusion.dynamic import Rows
from engines.diffusion.means import AttentionMeans
from engines.diffusion.model import TextToImage
from engines.diffusion.settings import RepairSettings as RepairSettings
from engines.errors import ConfigError, DataError
from engines.files import write_whole

FORMAT = 1


class Update(NamedTuple):
    """Losses before one update."""

    step: int
    """Of the diffusion, 0 is the noisiest."""
    losses: dict[str, float]


@dataclass(slots=True)
class RepairState:
    """Where a repair stands. Lists grow by one with every finished step; nothing else of a run is needed to go on."""

    prompt: str
    nouns: list[str | int]
    """As `Caption.find` understands them."""
    adjectives: dict[int, str | int]
    """Number of the noun in `nouns`: the adjective that belongs to it. Only with masks."""
    settings: RepairSettings
    model: str
    """Fingerprint of the model that repairs."""
    trajectory: list[Tensor]
    """Latents [1, C, h, w] of the inversion: clean first, noisiest last."""
    masks: Tensor | None = None
    """[n, side, side] share of each cell that the nouns cover, where the user drew them."""
    background: Tensor | None = None
    """[side, side] bool, found by clustering."""
    attention: AttentionMeans = field(default_factory=AttentionMeans)
    """Of the inversion."""
    maps_before: list[Tensor] = field(default_factory=list)
    """Cross-attention [side, side, T] at each step of the inversion: the clean image first."""
    maps_after: list[Tensor] = field(default_factory=list)
    """The same at each step of the repair: the noisiest first."""
    tokens: list[Rows] = field(default_factory=list)
    """Embeddings of the nouns' tokens at each step of the repair; see `DynamicTokens`."""
    unconditional: list[Tensor] = field(default_factory=list)
    """States [1, T, W] of the empty prompt at each step of the repair."""
    latents: Tensor | None = None
    """[1, C, h, w] of the reconstruction, after the steps so far."""
    updates: list[Update] = field(default_factory=list)
    null_losses: list[float | None] = field(default_factory=list)
    """Least loss of the empty prompt that was measured at each step; None without updates."""
    notes: list[str] = field(default_factory=list)
    """What the user should know, in sentences."""

    @property
    def inverted(self) -> bool:
        return len(self.trajectory) > self.settings.steps

    @property
    def step(self) -> int:
        """Of the repair: the next to do."""
        return len(self.tokens)

    @property
    def finished(self) -> bool:
        return self.inverted and self.step >= self.settings.steps

    def maps_at(self, step: int) -> tuple[Tensor, Tensor | None]:
        """Maps before and (None: not yet) after repair at one step, the noisiest being 0."""
        return self.maps_before[self.settings.steps - 1 - step], (
            self.maps_after[step] if step < len(self.maps_after) else None
        )

    def save(self, path: Path) -> None:
        """Writes one safetensors file, whole or not at all."""
        tensors = {
            **{f"attention/{name}": kept for name, kept in self.attention.tensors().items()},
            **{f"tokens/{number}": torch.stack(rows) for number, rows in enumerate(zip(*self.tokens, strict=True))},
        }
        for name in ("trajectory", "maps_before", "maps_after", "unconditional"):
            if kept := getattr(self, name):
                tensors[name] = torch.stack(kept)
        for name in ("masks", "background", "latents"):
            if (kept := getattr(self, name)) is not None:
                tensors[name] = kept
        facts = {
            "prompt": self.prompt,
            "nouns": self.nouns,
            "adjectives": list(self.adjectives.items()),
            "settings": self.settings.model_dump(),
            "model": self.model,
            "updates": self.updates,
            "null_losses": self.null_losses,
            "notes": self.notes,
        }
        plain = {name: kept.detach().cpu().contiguous() for name, kept in tensors.items()}
        write_whole(path, save(plain, metadata={"format": str(FORMAT), "facts": json.dumps(facts)}))

    @classmethod
    def load(cls, path: Path, model: TextToImage) -> RepairState:
        """What `save` wrote, on the model's device.

        Raises:
            DataError: no such file, or it is damaged, or a newer program wrote it.
            ConfigError: it was begun with another model.
        """
        tensors, facts = _read(path, model.device)
        try:
            state = _from_parts(tensors, facts)
        except (KeyError, TypeError, ValueError, AttributeError, ValidationError) as error:
            raise _damaged(path, error) from error
        if state.model != model.fingerprint:
            raise ConfigError(
                "This repair was begun with another text-to-image model.",
                "Go on with the model that it was begun with.",
            )
        return state


def _read(path: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            if int(metadata["format"]) > FORMAT:
                raise DataError("This repair was saved by a newer Promptloupe.", "Update Promptloupe.")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata["facts"])  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _damaged(path, error) from error


def _from_parts(tensors: dict[str, Tensor], facts: dict[str, Any]) -> RepairState:
    def several(name: str) -> list[Tensor]:
        return list(tensors[name].unbind()) if name in tensors else []

    tables = [tensors[name].unbind() for name in sorted(tensors) if name.startswith("tokens/")]
    sums = {name.removeprefix("attention/"): kept for name, kept in tensors.items() if name.startswith("attention/")}
    return RepairState(
        prompt=str(facts["prompt"]),
        nouns=list(facts["nouns"]),
        adjectives=dict(facts["adjectives"]),
        settings=RepairSettings.model_validate(facts["settings"]),
        model=str(facts["model"]),
        trajectory=several("trajectory"),
        masks=tensors.get("masks"),
        background=tensors.get("background"),
        attention=AttentionMeans.from_tensors(sums),
        maps_before=several("maps_before"),
        maps_after=several("maps_after"),
        tokens=list(zip(*tables, strict=True)),
        unconditional=several("unconditional"),
        latents=tensors.get("latents"),
        updates=[Update(step, losses) for step, losses in facts["updates"]],
        null_losses=list(facts["null_losses"]),
        notes=list(facts["notes"]),
    )


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"The saved repair “{path.name}” cannot be read.", "Start the repair again.", str(error))
