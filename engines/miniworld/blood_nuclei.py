"""The shapes of cell nuclei as signed distances, in the cell's own frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.miniworld import canvas
from engines.miniworld.canvas import Floats, column, length, uniform

if TYPE_CHECKING:
    from engines.miniworld.blood import BloodSpec


def nucleus_edge(
    specs: Sequence[BloodSpec], x: Floats, y: Floats, radius: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Signed distance of the nucleus and how far its centre is shifted in x."""
    kinds = [s.nucleus for s in specs]
    share = column([s.nuclear_share for s in specs]) * uniform(rng, 0.94, 1.05, len(specs), 1, 1)
    room = np.maximum(1 - share, 0.05)
    shift = np.where(column([k == "eccentric" for k in kinds]) > 0, room * np.float32(0.86), room * np.float32(0.25))
    offset = (shift * radius * (column([k in ("segmented", "band", "no") for k in kinds]) < 1)).astype(np.float32)
    edge = length((x - offset) * np.float32(1.04), y) - share * radius
    edge[canvas.where(kinds, "no")] = 9
    for kind, draw in (("segmented", _segmented), ("band", _band), ("kidney-shaped", _kidney)):
        chosen = canvas.where(kinds, kind)
        if chosen.size:
            lobes = np.array([specs[i].lobes for i in chosen])
            edge[chosen] = draw(x[chosen], y[chosen], radius[chosen], lobes, rng)
    chosen = canvas.where(kinds, "irregular")
    if chosen.size:
        dent = length(x[chosen] + radius[chosen] * np.float32(0.62), y[chosen] - radius[chosen] * np.float32(0.3))
        edge[chosen] = -canvas.smooth_minimum(-edge[chosen], dent - radius[chosen] * np.float32(0.3), 0.08)
    return edge, offset


_LOBE_STEP = np.array([0, 0, 2.1, 1.55, 1.25, 1.05, 0.94, 0.84], dtype=np.float32)


def _segmented(x: Floats, y: Floats, radius: Floats, lobes: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """Lobes on an arc, joined by thin threads."""
    most, count = int(lobes.max()), len(lobes)
    order = np.arange(most, dtype=np.float32)
    angle = (order - (lobes[:, None] - 1) / 2) * _LOBE_STEP[lobes][:, None] + uniform(rng, -0.16, 0.16, count, most)
    arc = radius[:, :, 0] * (0.5 + uniform(rng, -0.07, 0.07, count, most) + 0.05 * (lobes[:, None] > 4))
    present = order < lobes[:, None]
    lobe_x, lobe_y = arc * np.cos(angle), arc * np.sin(angle)
    middle = np.where(present, lobe_x, 0).sum(1, keepdims=True) / lobes[:, None] * 0.6
    lobe_x = (lobe_x - middle).astype(np.float32)
    size = radius[:, :, 0] * 0.57 / np.sqrt(lobes)[:, None] * uniform(rng, 0.9, 1.12, count, most)
    size = np.where(present, size, -9).astype(np.float32)
    edge = np.full(x.shape, 9, dtype=np.float32)
    thread = radius * np.float32(0.075)
    for i in range(most):
        here_x, here_y = column(lobe_x[:, i]), column(lobe_y[:, i])
        edge = canvas.smooth_minimum(edge, length(x - here_x, y - here_y) - column(size[:, i]), 0.05)
        if i:
            before = column(lobe_x[:, i - 1]), column(lobe_y[:, i - 1])
            link = canvas.segment_distance(x, y, *before, here_x, here_y) - thread + column(9.0 * ~present[:, i])
            edge = canvas.smooth_minimum(edge, link, 0.05)
    return edge


def _band(x: Floats, y: Floats, radius: Floats, lobes: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """A sausage bent to a U."""
    count = len(lobes)
    bend = radius * uniform(rng, 0.42, 0.5, count, 1, 1)
    reach = uniform(rng, 1.5, 2.15, count, 1, 1)
    thickness = radius * uniform(rng, 0.19, 0.24, count, 1, 1)
    x = x + bend * np.float32(0.3)
    along = np.abs(np.arctan2(y, x))
    end_x, end_y = bend * np.cos(reach), bend * np.sin(reach)
    to_end = length(x - end_x, np.abs(y) - end_y)
    return np.where(along < reach, np.abs(length(x, y) - bend), to_end) - thickness


def _kidney(x: Floats, y: Floats, radius: Floats, lobes: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """A disc with a deep dent."""
    count = len(lobes)
    body = length(x, y * np.float32(0.88)) - radius * np.float32(0.64)
    depth = uniform(rng, 0.6, 0.74, count, 1, 1)
    dent = length(x - radius * depth, y) - radius * uniform(rng, 0.36, 0.46, count, 1, 1)
    return -canvas.smooth_minimum(-body, dent, 0.1)
