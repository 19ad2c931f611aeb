"""Judging a trained method: test images, the ready-made prompt beside it, and the numbers of each protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engines.backbones import Backbone
from engines.prompts import create_method
from engines.prompts.base import PromptMethod
from engines.prompts.metrics import harmonic_mean, summarise
from engines.prompts.trainer import probabilities
from engines.runs.material import Item
from engines.runs.views import pixel_batches
from engines.store import Workspace

Probabilities = NDArray[np.floating[Any]]


@dataclass
class Part:
    """Test images among a set of classes, and what was said of them."""

    names: list[str]
    """Names of the C classes."""
    items: list[Item]
    labels: Tensor
    """True classes [N], positions in `names`."""
    learned: Probabilities
    """[N, C]"""
    zero_shot: Probabilities
    """[N, C] of the ready-made prompt."""

    def summary(self) -> dict[str, Any]:
        """Numbers of the learned prompt, and under `zero_shot` of the ready-made one."""
        true = self.labels.numpy().astype(np.int64)
        ready_made = summarise(self.zero_shot, true, self.names)
        kept = ("accuracy", "macro_f1", "ece", "per_class", "confusion")
        return summarise(self.learned, true, self.names) | {"zero_shot": {key: ready_made[key] for key in kept}}


class Judge:
    """Asks a method about test images, and the ready-made prompt about the same ones."""

    def __init__(
        self,
        workspace: Workspace,
        backbone: Backbone,
        features: Callable[[list[Item], int | None], Tensor],
        check_cancelled: Callable[[], None],
    ) -> None:
        """`features(items, data set id)` gives cached features [N, D]; the id is None for the run's own data set."""
        self.workspace, self.backbone = workspace, backbone
        self.features, self.check_cancelled = features, check_cancelled

    def part(
        self,
        method: PromptMethod,
        names: list[str],
        items: list[Item],
        labels: Tensor,
        columns: Sequence[int] | None = None,
        dataset_id: int | None = None,
    ) -> Part:
        """What `method` and the ready-made prompt say of `items` among the classes `names`.

        Args:
            columns: where the method knows more classes, the positions of `names` among them: the others are ruled out.
            dataset_id: of the images, where it is not the run's own data set.
        """
        features = self.features(items, dataset_id)
        zero_shot = probabilities(create_method("zero-shot", self.backbone, names), features)
        if method.frozen_images:
            learned = probabilities(method, features)
        else:
            pixels = pixel_batches(self.workspace, method.prepare, items)
            learned = probabilities(method, pixels=pixels, on_batch=lambda done: self.check_cancelled())
        if columns is not None:
            learned = learned[:, list(columns)]
            learned = learned / np.maximum(learned.sum(axis=1, keepdims=True), np.finfo(learned.dtype).tiny)
        return Part(names, items, labels, learned, zero_shot)


def base_to_new(base: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the base classes, and beside them those of the new ones and the harmonic mean of both."""

    def together(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
        return {
            "base_accuracy": one["accuracy"],
            "new_accuracy": other["accuracy"],
            "harmonic_mean": harmonic_mean(one["accuracy"], other["accuracy"]),
        }

    ready_made = base["zero_shot"] | together(base["zero_shot"], new["zero_shot"])
    return base | together(base, new) | {"zero_shot": ready_made, "new": new}


def with_targets(own: dict[str, Any], targets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The numbers of a run's own test images, and beside them those of other data sets or domains and their mean."""

    def mean(summaries: Sequence[dict[str, Any]]) -> float:
        return fmean(summary["accuracy"] for summary in summaries)

    ready_made = own["zero_shot"] | {"target_accuracy": mean([t["zero_shot"] for t in targets.values()])}
    return own | {"targets": targets, "target_accuracy": mean(list(targets.values())), "zero_shot": ready_made}
