"""Carrying out a run: features, training, judgement, and everything it leaves behind."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.backbones import Backbone, load_backbone
from engines.data import base_new_classes
from engines.errors import DataError, PromptloupeError
from engines.prompts import create_method, load_prompt, method_class
from engines.prompts.base import PromptMethod
from engines.prompts.defects import FindsDefects
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Epoch, Examples, train
from engines.runs.anomalies import TABLE, Judged, judge_target, summary_of, together, write_table
from engines.runs.judge import Judge, Part, base_to_new, with_targets
from engines.runs.material import Item, Material, gather
from engines.runs.recipe import versions
from engines.runs.snapshots import FILE as SNAPSHOTS
from engines.runs.snapshots import Snapshots
from engines.runs.tables import write_predictions
from engines.runs.used_images import UsedImages
from engines.runs.views import Features, LiveCrops, Masks, StillPixels, crop_views
from engines.store import Artifact, Run, Workspace


@dataclass
class Observer:
    """Who watches a run: a job, or a test. Every call is cheap."""

    progress: Callable[[float, str], None] = lambda fraction, message: None
    check_cancelled: Callable[[], None] = lambda: None
    metric: Callable[[str, int, float], None] = lambda name, step, value: None
    log: Callable[[str], None] = lambda text: None


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
        self.learns_from = method_class(run.method).learns_from
        self.material: Material = gather(workspace, run, self.learns_from)
        self.notes: list[str] = list(self.material.notes)
        assert run.dataset_id is not None
        self.dataset_id = run.dataset_id
        self.judge = Judge(workspace, self.backbone, self._test_features, self._check)

    def run(self) -> dict[str, Any]:
        classes = list(range(len(self.material.class_names)))
        base, new = base_new_classes(len(classes)) if self.row.protocol == "base-to-new" else (classes, [])
        # Without labels nobody knows which images belong to the base classes: learn with all, judge both halves.
        known = classes if self.learns_from == "unlabelled" else base
        # The same seed before and after a restart: what a resumed run does not load, it draws again.
        random.seed(self.row.seed)
        np.random.seed(self.row.seed)
        torch.manual_seed(self.row.seed)
        method = create_method(self.row.method, self.backbone, self._names(known), **self.row.config["settings"])
        method.descriptions = [self.material.descriptions[c] for c in known]
        if plain := method.undescribed:
            self.notes.append(
                f"{len(plain)} of {len(known)} classes have the plain prompt, because nobody has described them,"
                f" such as “{plain[0]}”."
            )
        method.other_classes = [name for name in self._names(new) if name not in method.class_names]
        if start := self.row.config.get("start_from"):
            self._start_from(method, start)
        if known == base and (new or self.row.config.get("test_datasets")):
            method.for_classes(method.class_names)  # refuses what is bound to its classes before hours are spent
        started = time.monotonic()
        trained_on = self._train(method, known)
        seconds = time.monotonic() - started
        if isinstance(method, FindsDefects):
            parts, summary = self._judge_defects(method)
        else:
            parts = self._judge(method, known, [base, new] if new else [base])
            summaries = [part.summary() for part, _ in parts]
            summary = base_to_new(*summaries) if new else summaries[0]
            if self.material.targets:
                summary = with_targets(summary, self._judge_targets(method))
        if not parts[0][0].items:
            self.notes.append("There was no labelled image left to test on.")
        summary |= {
            "train_seconds": round(seconds, 1),
            "images_trained": trained_on,
            "learned_numbers": sum(p.numel() for p in method.trainable_parameters().values()),
            "notes": self.notes,
            "made_with": {"versions": versions(), "device": self.backbone.device.type},
        }
        self._leave_behind(method, parts, summary)
        return summary

    def _start_from(self, method: PromptMethod, run_id: str) -> None:
        """Begin with what another run learned, where it learned the same numbers for the same classes."""
        folder = self.workspace.path / "runs" / run_id / "prompt"
        try:
            before = load_prompt(folder, self.backbone)
        except PromptloupeError as error:
            self.notes.append(f"It was trained from scratch: what it should have begun with is gone. {error.what}")
            return
        same = before.info.name == method.info.name and before.class_names == method.class_names
        if same and before.config == method.config:
            method.load_state_dict(before.state_dict())
        else:
            self.notes.append("It was trained from scratch: method, settings or classes have changed.")

    def _names(self, classes: list[int]) -> list[str]:
        return [self.material.class_names[c] for c in classes]

    # --- training -------------------------------------------------------------

    def _train(self, method: PromptMethod, classes: list[int]) -> int:
        if method.fitting == "none":
            return 0
        if self.learns_from == "unlabelled":
            items, labels = self.material.train, torch.full((len(self.material.train),), -1)
        else:
            items, labels = self.material.restricted(classes, self.material.train)
            self._note_missing(classes, labels)
        if not items:
            if self.learns_from == "unlabelled":
                raise DataError("There are no images to learn from.", "Import some that are not set aside for testing.")
            raise DataError("No training image has a label yet.", "Label some images, or import them with labels.")
        examples = self._examples(method, classes, items, labels)
        if self.learns_from == "masks":
            examples.masks, examples.still = Masks(self.workspace, items, method.image_size), True
        if self.learns_from == "domains":
            names = sorted({item.domain for item in items})
            examples.domains = torch.tensor([names.index(item.domain) for item in items])
            if there := self.material.unlabelled:
                examples.unlabelled = self._examples(method, [], there, torch.full((len(there),), -1))
        snapshots = Snapshots(self.folder, method, self.config.epochs)
        snapshots.take(0)
        self.stepped = False
        for epoch in train(method, examples, self.config, self.row.seed, self.folder / "checkpoint.pt", self._on_step):
            self._report(epoch)
            if self.stepped:  # passes of an earlier attempt are told of again, but what was learned then has gone on
                snapshots.take(epoch.number)
        return len(items)

    def _note_missing(self, classes: list[int], labels: Tensor) -> None:
        missing = sorted(set(range(len(classes))) - set(labels.tolist()))
        if missing:
            name = self.material.class_names[classes[missing[0]]]
            self.notes.append(
                f"{len(missing)} of {len(classes)} classes have no labelled training image, such as “{name}”."
            )

    def _examples(self, method: PromptMethod, classes: list[int], items: list[Item], labels: Tensor) -> Examples:
        if not method.frozen_images or (self.config.views == 0 and method.fitting == "gradient"):
            plain = self._get(items, 0.02, "Looking at the training images") if method.frozen_images else None
            pixels = (
                StillPixels(self.workspace, method.prepare, items)
                if self.learns_from == "masks"
                else LiveCrops(self.workspace, self.backbone, items, self.config)
            )
            return Examples(labels, pixels=pixels, plain=plain)
        plain = self._get(items, 0.02, "Looking at the training images")
        val_items, val_labels = self.material.restricted(classes, self.material.val)
        val = self._get(val_items, 0.04, "Looking at the validation images") if val_items else None
        views = plain[None]  # methods that are solved in one go see the images as they are
        if self.config.views:
            preparing = self._share(0.05, 0.25, "Preparing cropped views")
            views = crop_views(self._features(self.dataset_id), items, self.config, preparing, self._check)
        return Examples(labels, views, val_features=val, val_labels=val_labels if val_items else None, plain=plain)

    def _on_step(self, done: int, of: int) -> None:
        self.stepped = True
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

    def _judge(self, method: PromptMethod, known: list[int], groups: list[list[int]]) -> list[tuple[Part, list[int]]]:
        """Each group of classes judged by itself, and the classes' positions in the data set."""
        parts = []
        for classes in groups:
            items, labels = self.material.restricted(classes, self.material.test)
            names, columns, asked = self._names(classes), None, method
            if classes != known and set(classes) <= set(known):
                columns = [known.index(c) for c in classes]
            elif classes != known:
                asked = method.for_classes(names)
            parts.append((self.judge.part(asked, names, items, labels, columns), classes))
        return parts

    def _judge_targets(self, method: PromptMethod) -> dict[str, dict[str, Any]]:
        """The method on every other data set or domain, by its name; few numbers of each."""
        found = {}
        for target in self.material.targets:
            names = target.class_names
            asked = method if names == method.class_names else method.for_classes(names)
            labels = torch.tensor([item.label for item in target.items])
            part = self.judge.part(asked, names, target.items, labels, dataset_id=target.dataset_id)
            whole = part.summary()
            kept = ("accuracy", "macro_f1", "ece")
            found[target.name] = {key: whole[key] for key in (*kept, "images")} | {
                "zero_shot": {key: whole["zero_shot"][key] for key in kept}
            }
        return found

    def _judge_defects(self, method: FindsDefects) -> tuple[list[tuple[Part, list[int]]], dict[str, Any]]:
        """Defects found in every data set to test on: all images as one part, and the numbers."""
        judged: dict[str, Judged] = {}
        images, done = len(self.material.test), 0
        for target in self.material.targets:

            def tell(looked_at: int, before: int = done) -> None:
                self._check()
                self.observer.progress(0.85 + 0.13 * (before + looked_at) / images, "Looking for defects")

            judged[target.name] = judge_target(self.workspace, method, target, self.folder, tell)
            done += len(target.items)
        write_table(list(judged.values()), self.folder)
        summary = summary_of(judged, own=not self.row.config.get("test_datasets"))
        return [(together([each.part for each in judged.values()]), [0, 1])], summary

    def _leave_behind(self, method: PromptMethod, parts: list[tuple[Part, list[int]]], summary: dict[str, Any]) -> None:
        self.observer.progress(0.98, "Writing the results")
        method.save(self.folder / "prompt")
        UsedImages.of(self.material).write(self.folder)
        rows = [
            (part.items, [classes[int(c)] for c in part.labels], part.learned, classes, part.zero_shot)
            for part, classes in parts
        ]
        write_predictions(self.folder / "predictions.parquet", rows, self.material.class_names)
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False), encoding="utf-8")
        files = {
            "prompt": "prompt/prompt.safetensors",
            "settings": "prompt/prompt.json",
            "predictions": "predictions.parquet",
        }
        if self.learns_from == "masks":
            files["defects"] = TABLE
        if (self.folder / SNAPSHOTS).is_file():
            files["snapshots"] = SNAPSHOTS
        with self.workspace.session() as session:
            known = {a.path for a in session.query(Artifact).filter_by(run_id=self.row.id)}
            for kind, name in files.items():
                path = os.path.relpath(self.folder / name, self.workspace.path)
                if path not in known:
                    size = (self.folder / name).stat().st_size
                    session.add(Artifact(run_id=self.row.id, kind=kind, path=Path(path).as_posix(), size=size))

    # --- progress -------------------------------------------------------------

    def _features(self, dataset_id: int) -> Features:
        return Features(self.workspace, self.backbone, dataset_id)

    def _get(self, items: list[Item], start: float, message: str) -> Tensor:
        return self._features(self.dataset_id).get(items, self._share(start, start + 0.1, message), self._check)

    def _test_features(self, items: list[Item], dataset_id: int | None) -> Tensor:
        share = self._share(0.85, 0.95, "Looking at the test images")
        return self._features(dataset_id or self.dataset_id).get(items, share, self._check)

    def _share(self, start: float, end: float, message: str) -> Callable[[float, str], None]:
        return lambda fraction, detail: self.observer.progress(
            start + (end - start) * fraction, f"{message}, {detail}" if detail else message
        )

    def _check(self) -> None:
        self.observer.check_cancelled()
