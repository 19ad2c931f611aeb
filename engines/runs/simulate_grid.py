"""Simulated labelling: what is asked for, what it runs on, and which cells are done already. Torch-free.

A cell is one strategy, with or without balancing, with one seed. Each is a job of its own, so that the workers share
the work; what it found lies in a file of its own, so that nothing is lost or done twice when one is killed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import select

from engines import jobs
from engines.active import available_strategies
from engines.data import effective_labels
from engines.data.names import file_name
from engines.errors import ConfigError, DataError
from engines.prompts.catalog import MethodEntry, method_entry
from engines.prompts.settings import TrainingConfig, parse
from engines.runs.request import check_settings
from engines.runs.simulate_stage import set_up
from engines.store import Dataset, Job, Workspace

QUICK: dict[str, Any] = {"epochs": 50, "views": 1, "augmentation": "none"}
"""Training of every round where nothing else is asked for: images as they are, cached."""
PAPER: dict[str, Any] = {"epochs": 200, "views": 0, "augmentation": "crops"}
"""Training as in Bang et al.: 200 passes, a fresh random crop for every step."""
PAPER_SETTINGS: dict[str, Any] = {"n_ctx": 16, "csc": True}
"""The paper's settings of CoOp and of CoOp with descriptions."""


class Simulation(BaseModel):
    """What all cells have in common."""

    model_config = ConfigDict(extra="forbid")

    dataset_id: int
    rounds: int = Field(8, ge=1, le=1000)
    budget: int = Field(0, ge=0, le=5000)
    """Labels per round; 0 for as many as there are classes, as in the paper."""
    backbone: str = "mini-clip"
    method: str = "coop"
    start: Literal["fresh", "warm"] = "fresh"
    """Whether each round learns its prompt anew, as in the paper, or goes on from that of the round before."""
    rule: Literal["corrected", "official"] = "corrected"
    """How balancing treats a class that has no candidate left."""
    imbalance: float = Field(1.0, ge=1, le=1000)
    """How many times as many images the most frequent class has as the rarest; 1 leaves the images as they are."""
    settings: dict[str, Any] = {}
    training: dict[str, Any] = {}


class SimulationRequest(Simulation):
    """A grid of cells."""

    strategies: list[str] = Field(min_length=1)
    balanced: list[bool] = Field([False, True], min_length=1)
    seeds: list[int] = Field([1, 2, 3], min_length=1, max_length=100)

    @field_validator("strategies", "balanced", "seeds")
    @classmethod
    def _once(cls, values: list[Any]) -> list[Any]:
        return list(dict.fromkeys(values))

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: list[int]) -> list[int]:
        if any(not 0 <= seed < 2**31 for seed in seeds):
            raise ValueError("seeds must be whole numbers from 0 to 2147483647")
        return seeds


class Cell(BaseModel):
    """One strategy, with or without balancing, and one seed: what a job gets."""

    simulation: Simulation
    folder: str
    """Below the workspace."""
    strategy: str
    balanced: bool
    seed: int

    @property
    def title(self) -> str:
        return f"Simulate {row_name(self.strategy, self.balanced)}, seed {self.seed}"

    def file(self, workspace: Workspace) -> Path:
        """Where its result is kept."""
        name = f"{self.strategy}-{'pcb' if self.balanced else 'plain'}-{self.seed}.json"
        return workspace.path / self.folder / "cells" / name

    def result(self, workspace: Workspace) -> dict[str, Any] | None:
        """What it found; None as long as it is not done."""
        try:
            found = json.loads(self.file(workspace).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("done") else None


@dataclass
class Grid:
    """What a simulation comes down to."""

    folder: Path
    cells: list[Cell] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    """Jobs that are not done yet."""
    kept: int = 0
    """Cells that were done already."""

    def results(self, workspace: Workspace) -> list[dict[str, Any]]:
        """What the finished cells found, in their order."""
        return [found for cell in self.cells if (found := cell.result(workspace)) is not None]


def row_name(strategy: str, balanced: bool) -> str:
    """How a strategy stands in tables."""
    title = next((each.title for each in available_strategies() if each.name == strategy), strategy)
    return f"{title} + PCB" if balanced else title


def submit_simulation(workspace: Workspace, request: SimulationRequest, resume: bool = False) -> Grid:
    """Check everything, then queue a job for each cell; with `resume`, not for those that are done.

    Raises:
        ConfigError: unknown strategy, method or settings, or a method that cannot be simulated.
        DataError: the data set is gone, or has too few labelled images.
    """
    shared = check_simulation(workspace, request)
    folder = f"exports/simulations/{_name(workspace, shared)}"
    grid = Grid(workspace.path / folder)
    for seed in request.seeds:  # outermost: what is done at any time compares all strategies
        for strategy in request.strategies:
            for balanced in request.balanced:
                cell = Cell(simulation=shared, folder=folder, strategy=strategy, balanced=balanced, seed=seed)
                grid.cells.append(cell)
    open_jobs = _open_jobs(workspace)
    for cell in grid.cells:
        if resume and cell.result(workspace) is not None:
            grid.kept += 1
            continue
        running = open_jobs.get(str(cell.file(workspace)))
        if running is None and not resume:
            cell.file(workspace).unlink(missing_ok=True)
        grid.waiting.append(running or jobs.submit(workspace, "simulate", cell))
    return grid


def check_simulation(workspace: Workspace, request: SimulationRequest) -> Simulation:
    """What all cells share, with every setting filled in; errors as for `submit_simulation`."""
    known = [each.name for each in available_strategies()]
    for name in request.strategies:
        if name not in known:
            raise ConfigError(f"There is no strategy called “{name}”.", f"Choose one of {', '.join(known)}.")
    entry = method_entry(request.method)
    _check_method(entry)
    check_settings(entry, request.settings)
    training = parse(TrainingConfig, training_defaults(entry) | request.training, "the training").model_dump()
    values = request.model_dump(exclude={"strategies", "balanced", "seeds"}) | {"training": training}
    for seed in request.seeds:
        stage = set_up(workspace, request.dataset_id, request.imbalance, seed)
        budget = values["budget"] = request.budget or len(stage.class_names)
        if len(stage.pool) < request.rounds * budget:
            raise DataError(
                f"{request.rounds} rounds of {budget} labels need {request.rounds * budget:,} images, but there are"
                f" {len(stage.pool):,} to label.",
                "Ask for fewer rounds, fewer labels a round, or less imbalance.",
            )
    return Simulation(**values)


def training_defaults(entry: MethodEntry) -> dict[str, Any]:
    """The method's own training settings, with images as they are and fewer passes where it has many."""
    own = entry.training_for("few-shot", 16)
    return own | QUICK | {"epochs": min(own["epochs"], QUICK["epochs"])}


def _check_method(entry: MethodEntry) -> None:
    if not entry.trains or entry.learns_from != "labels":
        raise ConfigError(
            f"{entry.title} does not learn from labelled images, so there is nothing to simulate.", "Choose CoOp."
        )
    if not entry.frozen_images:
        raise ConfigError(
            f"{entry.title} changes how images are seen, so every round would look at all of them again.",
            "Choose a method that leaves the image side as it is, such as CoOp.",
        )


def _name(workspace: Workspace, simulation: Simulation) -> str:
    """Folder of a simulation: another one where a setting, an image or a label differs."""
    with workspace.session() as session:
        dataset = session.get_one(Dataset, simulation.dataset_id)
        labels = list(effective_labels(session, dataset.id).items())
    parts = [simulation.model_dump(), dataset.fingerprint, labels]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
    return f"{file_name(dataset.name)}-{digest}"


def _open_jobs(workspace: Workspace) -> dict[str, str]:
    """Job by the file of its cell, of those that wait or run."""
    with workspace.session() as session:
        rows = session.scalars(select(Job).where(Job.kind == "simulate", Job.state.in_(("queued", "running")))).all()
    return {str(Cell(**row.payload).file(workspace)): row.id for row in rows if not row.cancel_requested}
