"""Whether the gap between the towers goes with accuracy, over runs that were looked into. Torch-free.

    relation = shift_against_accuracy(workspace, run_ids)

RESTORE's claim (arXiv 2403.06136) is that the gap explains what prompts lose on new classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from engines.inspection.shift_answers import ShiftAnswer, read_shift
from engines.store import Run, Workspace

FEWEST_RUNS = 5
"""Fewer runs than this are shown without a correlation."""
SHUFFLES = 4999


@dataclass(frozen=True)
class Point:
    """One run in the picture of gap against accuracy. Accuracies are fractions of 1."""

    run_id: str
    name: str
    method: str
    seed: int
    images: float | None
    words: float | None
    gap: float | None
    """D_out over all its classes."""
    block_gap: float | None
    """D"""
    accuracy: float
    """On new classes where the run has them, on its test images otherwise."""
    base_minus_new: float | None
    over_ready_made: float
    """`accuracy` less that of the ready-made sentence on the same images."""


@dataclass(frozen=True)
class Relation:
    """Runs as points, and whether their order by gap is their order by accuracy."""

    points: list[Point]
    measure: str
    """What `accuracy` is: `new classes` or `test images`."""
    rho: float | None
    """Spearman's rank correlation of `gap` and `accuracy`; None with fewer than five runs, or where all are equal."""
    rho_blocks: float | None
    """Of `block_gap` and `accuracy`."""
    rho_difference: float | None
    """Of `gap` and `base_minus_new`."""
    count: int
    """Runs that `rho` is of."""
    count_blocks: int
    sentence: str
    missing: list[str]
    """Runs that nobody has looked into yet, or that are not finished."""


def shift_against_accuracy(workspace: Workspace, run_ids: Sequence[str]) -> Relation:
    """The runs that were looked into, as points of gap and accuracy, and their rank correlation.

    New classes count where some of these runs have them, and runs without are left out; test images otherwise.
    """
    with workspace.session() as session:
        rows = [row for run_id in run_ids if (row := session.get(Run, run_id)) is not None]
    known = [(row, answer) for row in rows if row.state == "done" and (answer := read_shift(workspace, row.id))]
    named = {row.id: row for row, _ in known}
    new = any("new_accuracy" in row.summary for row, _ in known)
    without = len(known)
    known = [(row, answer) for row, answer in known if not new or "new_accuracy" in row.summary]
    without -= len(known)
    points = [_point(row, answer, "new_accuracy" if new else "accuracy") for row, answer in known]
    rho, count = _correlation([(p.gap, p.accuracy) for p in points])
    rho_blocks, count_blocks = _correlation([(p.block_gap, p.accuracy) for p in points])
    difference, _ = _correlation([(p.gap, p.base_minus_new) for p in points])
    measure = "new classes" if new else "test images"
    return Relation(
        points,
        measure,
        rho,
        rho_blocks,
        difference,
        count,
        count_blocks,
        _sentence(points, rho, measure) + _repeated([row.experiment for row, _ in known], rho) + _left_out(without),
        [run_id for run_id in run_ids if run_id not in named],
    )


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Spearman's rank correlation of N pairs, ties with mean ranks; None where all values of a side are equal."""
    a, b = (_ranks(np.asarray(values, dtype=float)) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length else None


def surprise(x: ArrayLike, y: ArrayLike) -> float:
    """How often shuffled pairs are ranked as much alike as these, either way round (two-sided permutation p)."""
    a, b = (_ranks(np.asarray(values, dtype=float)) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()
    shuffled = np.random.default_rng(0).permuted(np.tile(b, (SHUFFLES, 1)), axis=1) @ a
    return float((np.abs(shuffled) >= abs(a @ b) - 1e-9).sum() + 1) / (SHUFFLES + 1)


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def _correlation(pairs: Sequence[tuple[float | None, float | None]]) -> tuple[float | None, int]:
    told = [(x, y) for x, y in pairs if x is not None and y is not None]
    if len(told) < FEWEST_RUNS:
        return None, len(told)
    return spearman(*zip(*told, strict=True)), len(told)


def _point(row: Run, answer: ShiftAnswer, measure: str) -> Point:
    group, summary = answer.groups["all"], row.summary
    base, new = summary.get("base_accuracy"), summary.get("new_accuracy")
    accuracy, ready_made = float(summary[measure]), float(summary["zero_shot"][measure])
    return Point(
        run_id=row.id,
        name=row.name,
        method=answer.method,
        seed=row.seed,
        images=group.images.mean if group.images else None,
        words=group.words.mean if group.words else None,
        gap=group.gap.mean if group.gap else None,
        block_gap=answer.block_gap.mean if answer.block_gap else None,
        accuracy=accuracy,
        base_minus_new=None if base is None or new is None else base - new,
        over_ready_made=accuracy - ready_made,
    )


def _repeated(experiments: Sequence[str], rho: float | None) -> str:
    told = [each for each in experiments if each]
    if rho is None or len(set(told)) == len(told):
        return ""
    return " Some differ by the seed alone; they are not independent, so that p is smaller than it should be."


def _left_out(runs: int) -> str:
    if not runs:
        return ""
    told = "1 run was" if runs == 1 else f"{runs} runs were"
    return f" {told} not tested on new classes and left out."


def _sentence(points: list[Point], rho: float | None, measure: str) -> str:
    told = [(p.gap, p.accuracy) for p in points if p.gap is not None]
    count = len(told)
    if count < FEWEST_RUNS:
        runs = "1 run" if count == 1 else f"{count} runs"
        guess = f"with fewer than {FEWEST_RUNS} a tendency would be guesswork, so only the points are shown."
        return f"Both is known of {runs}; {guess}"
    if rho is None:
        return f"All {count} runs are equal in one of the two, so there is no tendency to tell."
    p = surprise(*zip(*told, strict=True))
    numbers = f"Spearman ρ = {rho:.2f}, p = {p:.3f}" if p >= 0.001 else f"Spearman ρ = {rho:.2f}, p < 0.001"
    if p > 0.05:
        return f"Over {count} runs the gap says nothing firm about accuracy on {measure} ({numbers})."
    way = "less" if rho < 0 else "more"
    return f"Over {count} runs a larger gap goes with {way} accuracy on {measure} ({numbers})."
