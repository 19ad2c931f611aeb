"""Judging a method that finds defects: scores and maps of every test image, and the numbers of each data set."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engines.prompts.anomaly_metrics import ranking, region_overlap
from engines.prompts.defects import FindsDefects
from engines.runs.judge import Part
from engines.runs.material import Item, Target
from engines.runs.views import mask_of, pixel_batches
from engines.store import Workspace

Floats = NDArray[np.float32]
MEASURES = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pro")
FOLDER, TABLE = "defects", "defects.json"
BATCH = 8
"""Images looked at together: they are larger than a model's own."""


@dataclass
class Judged:
    """What was found in one data set."""

    part: Part
    numbers: dict[str, Any]
    rows: list[dict[str, Any]]
    """One an image, for the table that a run leaves behind."""


def judge_target(
    workspace: Workspace, method: FindsDefects, target: Target, folder: Path, on_batch: Callable[[int], None]
) -> Judged:
    """Every image of `target`, thing by thing, as published: numbers of each, and their mean.

    Writes the learned maps into `folder`. `on_batch(images done)` is called after every batch and may raise to stop.
    """
    things = sorted({item.domain for item in target.items})
    groups = [[item for item in target.items if item.domain == thing] for thing in things]
    learned: list[dict[str, Any]] = []
    ready_made: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    scores: list[tuple[Floats, Floats]] = []
    done = 0
    for thing, items in zip(things, groups, strict=True):
        words = thing if target.things and thing else "object"

        def tell(looked_at: int, before: int = done) -> None:
            on_batch(before + looked_at)

        look = _look(workspace, method, items, words, tell)
        done += len(items)
        masks = np.stack([mask_of(workspace, item, method.image_size) for item in items])
        for numbers, (score, maps) in zip((learned, ready_made), look, strict=True):
            numbers.append(measures(score, maps, masks, items))
        scores.append((look[0][0], look[1][0]))
        for item, one in zip(items, look[0][1], strict=True):
            write_map(one / method.highest, folder / FOLDER / f"{item.sample_id}.png")
        rows += _rows(target.name, items, *scores[-1])
    items = [item for group in groups for item in group]
    part = _part(target.class_names, items, scores)
    return Judged(part, _numbers(part, things, groups, learned, ready_made), rows)


def _look(
    workspace: Workspace, method: FindsDefects, items: list[Item], words: str, on_batch: Callable[[int], None]
) -> list[tuple[Floats, Floats]]:
    """Scores [N] and maps [N, H, W] of `items`: by the learned prompt, and by hand-written sentences about `words`."""
    with torch.no_grad():
        texts = [method.text_features(), method.written_features(words)]
    side = method.image_size
    found = [(np.empty(len(items), np.float32), np.empty((len(items), side, side), np.float32)) for _ in texts]
    done = 0
    for pixels in pixel_batches(workspace, method.prepare, items, BATCH):
        for (scores, maps), (score, map_) in zip(found, method.judge(pixels, texts), strict=True):
            scores[done : done + len(pixels)] = score.numpy()
            maps[done : done + len(pixels)] = map_.numpy()
        done += len(pixels)
        on_batch(done)
    return found


def measures(scores: Floats, maps: Floats, masks: NDArray[np.bool_], items: Sequence[Item]) -> dict[str, float | None]:
    """The five numbers of one thing; None for those that its images cannot give.

    Places count in normal images and in those whose defects were marked.
    """
    anomalous = np.array([item.label == 1 for item in items])
    known = np.array([item.label == 0 or bool(item.mask) for item in items])
    if not known.all():
        maps, masks = maps[known], masks[known]
    found = (*ranking(scores, anomalous), *ranking(maps, masks), region_overlap(maps, masks))
    return {name: None if isnan(value) else value for name, value in zip(MEASURES, found, strict=True)}


def mean_of(several: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Mean of each number over those that have it."""
    known = {name: [each[name] for each in several if each[name] is not None] for name in MEASURES}
    return {name: fmean(values) if values else None for name, values in known.items()}


def summary_of(judged: dict[str, Judged], own: bool) -> dict[str, Any]:
    """Numbers over all data sets: the five are means, the others count every image alike.

    Args:
        judged: by the data set's name.
        own: tested on images of the data set that was learned from.
    """
    parts = [each.part for each in judged.values()]
    whole = together(parts).summary()
    whole |= mean_of([each.numbers for each in judged.values()])
    whole["zero_shot"] |= mean_of([each.numbers["zero_shot"] for each in judged.values()])
    if own:
        return whole | {"things": next(iter(judged.values())).numbers["things"]}
    return whole | {"targets": {name: each.numbers for name, each in judged.items()}}


def together(parts: Sequence[Part]) -> Part:
    """All parts as one; their classes are the same."""
    items = [item for part in parts for item in part.items]
    learned, ready = (np.concatenate([getattr(p, name) for p in parts]) for name in ("learned", "zero_shot"))
    return Part(parts[0].names, items, torch.cat([part.labels for part in parts]), learned, ready)


def write_map(values: Floats, file: Path) -> None:
    """A map [H, W] of 0 to 1 as a greyscale picture."""
    file.parent.mkdir(exist_ok=True)
    Image.fromarray((255 * values.clip(0, 1)).round().astype(np.uint8)).save(file)


def write_table(judged: Sequence[Judged], folder: Path) -> None:
    """Every image with its scores and the place of its map."""
    rows = [row for each in judged for row in each.rows]
    (folder / TABLE).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def _rows(target: str, items: Sequence[Item], scores: Floats, ready_made: Floats) -> list[dict[str, Any]]:
    return [
        {
            "sample_id": item.sample_id,
            "target": target,
            "domain": item.domain,
            "score": float(score),
            "ready_made": float(beside),
            "anomalous": item.label == 1,
            "map": f"{FOLDER}/{item.sample_id}.png",
        }
        for item, score, beside in zip(items, scores, ready_made, strict=True)
    ]


def _part(names: list[str], items: list[Item], scores: Sequence[tuple[Floats, Floats]]) -> Part:
    """Scores as probabilities of the two classes."""
    sides = [np.concatenate([each[i] for each in scores]) if scores else np.zeros(0, np.float32) for i in (0, 1)]
    learned, ready = (np.stack([1 - score, score], axis=1) for score in sides)
    labels = Tensor([item.label for item in items]).long()
    return Part(names, items, labels, learned, ready)


def _numbers(
    part: Part, things: list[str], groups: list[list[Item]], learned: list[Any], ready_made: list[Any]
) -> dict[str, Any]:
    """What is kept of one data set."""
    whole, kept = part.summary(), ("accuracy", "macro_f1", "ece")
    each = {
        thing: {"images": len(items), **own, "zero_shot": beside}
        for thing, items, own, beside in zip(things, groups, learned, ready_made, strict=True)
    }
    return (
        {key: whole[key] for key in (*kept, "images")}
        | mean_of(learned)
        | {"zero_shot": {key: whole["zero_shot"][key] for key in kept} | mean_of(ready_made)}
        | {"things": each}
    )
