"""Carrying out a run: features, training, judgement, and everything it leaves behind."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.backbones import Backbone, load_backbone
from engines.data import base_new_classes
from engines.errors import DataError
from engines.prompts import create_method
from engines.prompts.base import PromptMethod
from engines.prompts.metrics import harmonic_mean, summarise
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Epoch, Examples, probabilities, train
from engines.runs.material import Features, Item, LiveCrops, Material, as_int64, crop_views, gather, pixel_batches
from engines.runs.tables import write_predictions
from engines.store import Artifact, Run, Workspace


@dataclass
class Observer:
    """Who watches a run: a job, or a test. Every call is cheap."""

    progress: Callable[[float, str], None] = lambda fraction, message: None
    check_cancelled: Callable[[], None] = lambda: None
    metric: Callable[[str, int, float], None] = lambda name, step, value: None
    log: Callable[[str], None] = lambda text: None


@dataclass
class _Part:
    """Test images among a set of classes, and what the method said of them."""

    classes: list[int]
    items: list[Item]
    labels: Tensor
    learned: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    zero_shot: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


def perform(workspace: Workspace, run: Run, observer: Observer) -> dict[str, Any]:
    """Train and judge `run`; returns its summary. Goes on from the run's checkpoint where there is one."""
    return _Performance(workspace, run, observer).run()


class _Performance:
    def __init__(self, workspace: Workspace, run: Run, observer: Observer) -> None:
        self.workspace, self.row, self.observer = workspace, run, observer
        self.folder = workspace.run_folder(run.id)
        self.config = TrainingConfig(**run.config.get("training", {}))
        observer.progress(0.0, "Loading the model")
        self.backbone: Backbone = load_backbone(run.backbone)
        self.material: Material = gather(workspace, run)
        self.notes: list[str] = list(self.material.notes)
        assert run.dataset_id is not None
        self.features = Features(workspace, self.backbone, run.dataset_id)

    def run(self) -> dict[str, Any]:
        classes = list(range(len(self.material.class_names)))
        base, new = base_new_classes(len(classes)) if self.row.protocol == "base-to-new" else (classes, [])
        # The same seed before and after a restart: what a resumed run does not load, it draws again.
        random.seed(self.row.seed)
        np.random.seed(self.row.seed)
        torch.manual_seed(self.row.seed)
        method = create_method(self.row.method, self.backbone, self._names(base), **self.row.config["settings"])
        method.descriptions = [self.material.descriptions[c] for c in base]
        started = time.monotonic()
        trained_on = self._train(method, base)
        seconds = time.monotonic() - started
        parts = [self._judge(method, base)] + ([self._judge(method.for_classes(self._names(new)), new)] if new else [])
        summary = self._summary(parts) | {
            "train_seconds": round(seconds, 1),
            "images_trained": trained_on,
            "learned_numbers": sum(p.numel() for p in method.trainable_parameters().values()),
            "notes": self.notes,
        }
        self._leave_behind(method, parts, summary)
        return summary

    def _names(self, classes: list[int]) -> list[str]:
        return [self.material.class_names[c] for c in classes]

    # --- training -------------------------------------------------------------

    def _train(self, method: PromptMethod, classes: list[int]) -> int:
        if method.fitting == "none":
            return 0
        items, labels = self.material.restricted(classes, self.material.train)
        if not items:
            raise DataError("No training image has a label yet.", "Label some images, or import them with labels.")
        missing = sorted(set(range(len(classes))) - set(labels.tolist()))
        if missing:
            name = self.material.class_names[classes[missing[0]]]
            self.notes.append(
                f"{len(missing)} of {len(classes)} classes have no labelled training image, such as “{name}”."
            )
        examples = self._examples(method, classes, items, labels)
        for epoch in train(method, examples, self.config, self.row.seed, self.folder / "checkpoint.pt", self._on_step):
            self._report(epoch)
        return len(items)

    def _examples(self, method: PromptMethod, classes: list[int], items: list[Item], labels: Tensor) -> Examples:
        if not method.frozen_images or (self.config.views == 0 and method.fitting == "gradient"):
            return Examples(labels, pixels=LiveCrops(self.workspace, self.backbone, items, self.config))
        centre = self._get(items, 0.02, "Looking at the training images")
        val_items, val_labels = self.material.restricted(classes, self.material.val)
        val = self._get(val_items, 0.04, "Looking at the validation images") if val_items else None
        if not self.config.views:  # solved in one go, on the images as they are
            return Examples(labels, centre[None], val_features=val, val_labels=val_labels if val_items else None)
        views = crop_views(
            self.features, items, self.config, self._share(0.05, 0.25, "Preparing cropped views"), self._check
        )
        return Examples(labels, views, val_features=val, val_labels=val_labels if val_items else None)

    def _on_step(self, done: int, of: int) -> None:
        self.observer.check_cancelled()
        self.observer.progress(0.25 + 0.6 * done / of, f"Training, step {done:,} of {of:,}")

    def _report(self, epoch: Epoch) -> None:
        self.observer.metric("loss", epoch.number, epoch.loss)
        self.observer.metric("learning_rate", epoch.number, epoch.learning_rate)
        if epoch.train_accuracy is not None:
            self.observer.metric("train_accuracy", epoch.number, epoch.train_accuracy)
        if epoch.val_accuracy is not None:
            self.observer.metric("val_accuracy", epoch.number, epoch.val_accuracy)
        if epoch.note:
            self.notes.append(epoch.note)
            self.observer.log(epoch.note)

    # --- judgement ------------------------------------------------------------

    def _judge(self, method: PromptMethod, classes: list[int]) -> _Part:
        items, labels = self.material.restricted(classes, self.material.test)
        part = _Part(classes, items, labels)
        features = self._get(items, 0.85, "Looking at the test images")
        zero_shot = create_method("zero-shot", self.backbone, method.class_names)
        part.zero_shot = probabilities(zero_shot, features)
        if method.frozen_images:
            part.learned = probabilities(method, features)
        else:
            part.learned = probabilities(
                method, pixels=pixel_batches(self.workspace, self.backbone, items), on_batch=lambda done: self._check()
            )
        return part

    def _summary(self, parts: list[_Part]) -> dict[str, Any]:
        summaries = [
            summarise(part.learned, as_int64(part.labels), self._names(part.classes))
            | {"zero_shot": _brief(summarise(part.zero_shot, as_int64(part.labels), self._names(part.classes)))}
            for part in parts
        ]
        if not len(parts[0].items):
            self.notes.append("There was no labelled image left to test on.")
        if len(parts) == 1:
            return summaries[0]
        base, new = summaries
        together = {
            "base_accuracy": base["accuracy"],
            "new_accuracy": new["accuracy"],
            "harmonic_mean": harmonic_mean(base["accuracy"], new["accuracy"]),
        }
        ready_made = {
            "base_accuracy": base["zero_shot"]["accuracy"],
            "new_accuracy": new["zero_shot"]["accuracy"],
            "harmonic_mean": harmonic_mean(base["zero_shot"]["accuracy"], new["zero_shot"]["accuracy"]),
        }
        return base | together | {"zero_shot": base["zero_shot"] | ready_made, "new": new}

    def _leave_behind(self, method: PromptMethod, parts: list[_Part], summary: dict[str, Any]) -> None:
        self.observer.progress(0.98, "Writing the results")
        method.save(self.folder / "prompt")
        rows = [(part.items, [part.classes[int(c)] for c in part.labels], part.learned, part.classes) for part in parts]
        write_predictions(self.folder / "predictions.parquet", rows, self.material.class_names)
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False), encoding="utf-8")
        files = {
            "prompt": "prompt/prompt.safetensors",
            "settings": "prompt/prompt.json",
            "predictions": "predictions.parquet",
        }
        with self.workspace.session() as session:
            known = {a.path for a in session.query(Artifact).filter_by(run_id=self.row.id)}
            for kind, name in files.items():
                path = os.path.relpath(self.folder / name, self.workspace.path)
                if path not in known:
                    size = (self.folder / name).stat().st_size
                    session.add(Artifact(run_id=self.row.id, kind=kind, path=Path(path).as_posix(), size=size))

    # --- progress -------------------------------------------------------------

    def _get(self, items: list[Item], start: float, message: str) -> Tensor:
        return self.features.get(items, self._share(start, start + 0.1, message), self._check)

    def _share(self, start: float, end: float, message: str) -> Callable[[float, str], None]:
        return lambda fraction, detail: self.observer.progress(
            start + (end - start) * fraction, f"{message}, {detail}" if detail else message
        )

    def _check(self) -> None:
        self.observer.check_cancelled()


def _brief(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: summary[key] for key in ("accuracy", "macro_f1", "ece", "per_class", "confusion")}
