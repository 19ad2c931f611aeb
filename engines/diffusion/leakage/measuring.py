"""How much of each word leaks, kept beside its maps. Imports no model library, so a drawn mask is answered soon."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engines.diffusion.leak_metrics import attention_iou, leak_shares, points_at
from engines.diffusion.leakage.files import write_json
from engines.diffusion.leakage.repairs import Repair
from engines.diffusion.leakage.samples import Mask
from engines.diffusion.leakage.studies import Maps, Study


def measure(study: Study, repair: Repair | None = None) -> None:
    """Keep how much of each word with a mask leaks, before or behind a repair."""
    maps = repair.maps() if repair else study.maps()
    if maps is not None:
        folder = repair.folder if repair else study.folder
        write_json(folder / "figures.json", leak_figures(maps, study.masks()))


def leak_figures(maps: Maps, masks: dict[int, Mask]) -> dict[str, Any]:
    """`{word: [figures of the mean over steps, of the first step, of the second, ...]}` for words that have a mask.

    Figures are `own`, `others` (by word) and `background`, shares that sum to 1, `iou`, and `points`; None where a map
    is empty.

    Args:
        maps: [words, steps, s, s].
        masks: [side, side] by word.
    """
    order = sorted(masks)
    drawn = [torch.from_numpy(masks[word].copy()) for word in order]
    found: dict[str, Any] = {}
    for place, word in enumerate(order):
        heat = torch.from_numpy(maps[word])
        others = [other for other in order if other != word]
        rows = [
            None if not float(each.sum()) else _figures(each, drawn, place, others) for each in (heat.mean(0), *heat)
        ]
        found[str(word)] = rows
    return found


def _figures(heat: Tensor, masks: list[Tensor], own: int, others: list[int]) -> dict[str, Any]:
    shares = leak_shares(heat, masks, own)
    return {
        "own": shares.own,
        "others": dict(zip(map(str, others), shares.others, strict=True)),
        "background": shares.background,
        "iou": attention_iou(heat, masks[own]),
        "points": points_at(heat, masks[own]),
    }
