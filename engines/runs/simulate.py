"""The experiment of active learning papers: known labels play the reader, and every round is measured."""

from __future__ import annotations

import json
import math
import random
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engines.active import select
from engines.backbones import Backbone, load_backbone
from engines.files import write_whole
from engines.prompts import create_method
from engines.prompts.base import PromptMethod
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Examples, probabilities, train
from engines.runs.material import Item, all_items
from engines.runs.perform import Observer
from engines.runs.simulate_grid import Cell
from engines.runs.simulate_stage import Stage, set_up
from engines.runs.views import Features, LiveCrops, crop_views
from engines.store import Workspace


def simulate(workspace: Workspace, cell: Cell, observer: Observer) -> dict[str, Any]:
    """Carry out a cell and keep what it found in its file, round by round; returns it.

    Round 0 is a uniform draw, the same for all strategies of a seed. Each round then trains a prompt on all labels so
    far and measures it on the test images; its answers for the pool choose the next round's images (Bang, Ahn, Lee,
    CVPR 2024, section 3). A cell that was killed goes on behind its last finished round.
    """
    return _Simulation(workspace, cell, observer).run()


def evenness(counts: Sequence[int]) -> float:
    """Entropy of class counts over that of equal ones: 1 where all are equal, 0 where all are of one class."""
    total, classes = sum(counts), len(counts)
    if not total or classes < 2:
        return 0.0
    return -sum(n / total * math.log(n / total) for n in counts if n) / math.log(classes)


def imbalance_ratio(counts: Sequence[int]) -> float | None:
    """Labels of the most frequent class over those of the rarest; None where a class has none."""
    return max(counts) / min(counts) if min(counts) else None


@dataclass
class _State:
    """What is known after some rounds."""

    rows: list[dict[str, Any]]
    picks: list[list[int]]
    """Sample ids by round; one more than `rows` while a round is open."""


class _Simulation:
    def __init__(self, workspace: Workspace, cell: Cell, observer: Observer) -> None:
        self.workspace, self.cell, self.observer = workspace, cell, observer
        self.settings = cell.simulation
        self.config = TrainingConfig(**self.settings.training)
        observer.progress(0.0, "Loading the model")
        self.backbone: Backbone = load_backbone(self.settings.backbone)
        self.stage: Stage = set_up(workspace, self.settings.dataset_id, self.settings.imbalance, cell.seed)
        items = {item.sample_id: item for item in all_items(workspace, self.settings.dataset_id)}
        self.pool: list[Item] = [items[sample] for sample in self.stage.pool]
        self.place = {sample: row for row, sample in enumerate(self.stage.pool)}
        self.features = Features(workspace, self.backbone, self.settings.dataset_id)
        self.seen = self._look_at(self.pool, "Looking at the images to label")
        self.tested = self._look_at([items[sample] for sample in self.stage.test], "Looking at the test images")
        self.true = np.array([self.stage.labels[sample] for sample in self.stage.test])
        self.method: PromptMethod | None = None

    def run(self) -> dict[str, Any]:
        state = self._earlier()
        if not state.picks:
            state.picks.append(self._first())
        while len(state.rows) < self.settings.rounds:
            number = len(state.rows)
            started = time.monotonic()
            method = self._learn(number, [sample for part in state.picks for sample in part])
            state.rows.append(self._measure(method, state.picks) | {"seconds": round(time.monotonic() - started, 2)})
            if number + 1 < self.settings.rounds:
                state.picks.append(self._choose(method, state.picks, number + 1))
            self._keep(state, done=False)
        return self._keep(state, done=True)

    # --- choosing -------------------------------------------------------------

    def _first(self) -> list[int]:
        return random.Random(self._stream("first")).sample(self.stage.pool, self.settings.budget)

    def _choose(self, method: PromptMethod, picks: list[list[int]], number: int) -> list[int]:
        self.observer.check_cancelled()
        labelled = [self.place[sample] for part in picks for sample in part]
        chosen = select(
            self.cell.strategy,
            F.normalize(self.seen, dim=-1).numpy(),
            probabilities(method, self.seen),
            labelled,
            self.settings.budget,
            self._stream(f"select/{number}"),
            labels=[self.stage.labels[self.stage.pool[row]] for row in labelled],
            balanced=self.cell.balanced,
            rule=self.settings.rule,
            class_features=self._class_words,
        )
        return [self.stage.pool[row] for row in chosen]

    @cached_property
    def _class_words(self) -> NDArray[np.float32]:
        """Unit text features [C, D] of the class names, which a balanced pick gets in the workbench as well."""
        with torch.no_grad():
            return self._ready_made.text_features().cpu().numpy()

    @cached_property
    def _ready_made(self) -> PromptMethod:
        return create_method("zero-shot", self.backbone, self.stage.class_names)

    # --- learning -------------------------------------------------------------

    def _learn(self, number: int, labelled: list[int]) -> PromptMethod:
        """A prompt from the labels so far, begun anew or (warm) where the last round left it."""
        seed = self._stream(f"train/{number}")
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        if self.method is None or self.settings.start == "fresh":
            names = self.stage.class_names
            self.method = create_method(self.settings.method, self.backbone, names, **self.settings.settings)
            self.method.descriptions = self.stage.descriptions
        examples = self._examples(labelled)
        rounds, message = self.settings.rounds, f"Round {number + 1} of {self.settings.rounds}: learning from"

        def on_step(done: int, of: int) -> None:
            self.observer.check_cancelled()
            self.observer.progress((number + done / of) / rounds, f"{message} {len(labelled):,} labels")

        for _ in train(self.method, examples, self.config, seed, on_step=on_step):
            pass
        return self.method.eval()

    def _examples(self, labelled: list[int]) -> Examples:
        rows = [self.place[sample] for sample in labelled]
        items = [self.pool[row] for row in rows]
        labels = torch.tensor([self.stage.labels[sample] for sample in labelled])
        plain = self.seen[rows]
        if self.config.augmentation == "none" or self.method is None or self.method.fitting != "gradient":
            return Examples(labels, plain[None], plain=plain)
        if self.config.views == 0:
            return Examples(labels, pixels=LiveCrops(self.workspace, self.backbone, items, self.config), plain=plain)
        views = crop_views(
            self.features, items, self.config, lambda fraction, message: None, self.observer.check_cancelled
        )
        return Examples(labels, views, plain=plain)

    # --- measuring ------------------------------------------------------------

    def _measure(self, method: PromptMethod, picks: list[list[int]]) -> dict[str, Any]:
        answers = probabilities(method, self.tested).argmax(axis=1)
        labels = [self.stage.labels[sample] for part in picks for sample in part]
        counts = np.bincount(labels, minlength=len(self.stage.class_names)).tolist()
        present = self._present(counts)
        return {
            "round": len(picks),
            "labelled": len(labels),
            **self._right(answers),
            "evenness": evenness(present),
            "ratio": imbalance_ratio(present),
            "missing": present.count(0),
            "counts": counts,
        }

    def _present(self, counts: list[int]) -> list[int]:
        """Counts of those classes that the pool has any image of."""
        there = {self.stage.labels[sample] for sample in self.stage.pool}
        return [count for place, count in enumerate(counts) if place in there]

    def _right(self, answers: NDArray[np.int64]) -> dict[str, float]:
        """Share of right answers, of all test images and as the mean over classes."""
        right = answers == self.true
        each = [float(right[self.true == label].mean()) for label in np.unique(self.true)]
        return {"accuracy": float(right.mean()), "class_accuracy": float(np.mean(each))}

    @cached_property
    def _zero_shot(self) -> dict[str, float]:
        return self._right(probabilities(self._ready_made, self.tested).argmax(axis=1))

    # --- keeping --------------------------------------------------------------

    def _keep(self, state: _State, done: bool) -> dict[str, Any]:
        pool = np.bincount([self.stage.labels[s] for s in self.stage.pool], minlength=len(self.stage.class_names))
        found = {
            "done": done,
            "strategy": self.cell.strategy,
            "balanced": self.cell.balanced,
            "seed": self.cell.seed,
            "simulation": self.settings.model_dump(),
            "classes": self.stage.class_names,
            "pool": pool.tolist(),
            "images_tested": len(self.true),
            "set_aside": self.stage.set_aside,
            "undescribed": [
                n for n, own in zip(self.stage.class_names, self.stage.descriptions, strict=True) if not own
            ],
            "zero_shot": self._zero_shot,
            "rows": state.rows,
            "picks": state.picks,
        }
        file = self.cell.file(self.workspace)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(found, ensure_ascii=False))
        return found

    def _earlier(self) -> _State:
        """What an attempt that was killed had found; nothing where a prompt went from round to round."""
        try:
            found = json.loads(self.cell.file(self.workspace).read_text(encoding="utf-8"))
            state = _State(list(found["rows"]), [[int(sample) for sample in part] for part in found["picks"]])
        except (OSError, ValueError, KeyError, TypeError):
            return _State([], [])
        known = all(sample in self.place for part in state.picks for sample in part)
        if self.settings.start == "warm" or not known or len(state.picks) <= len(state.rows) < self.settings.rounds:
            return _State([], [])
        return state

    # --- helpers --------------------------------------------------------------

    def _look_at(self, items: list[Item], message: str) -> Tensor:
        return self.features.get(
            items, lambda fraction, detail: self.observer.progress(0.0, message), self.observer.check_cancelled
        )

    def _stream(self, what: str) -> int:
        """A seed for one purpose, the same for all strategies."""
        return zlib.crc32(f"{self.cell.seed}/{what}".encode())
