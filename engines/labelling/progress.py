"""How far the labelling is: counts, what is left, the curve over the rounds, and when to think of stopping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
from sqlalchemy import select

from engines.labelling.answers import newest_answers
from engines.labelling.consensus import consensus
from engines.labelling.queue import look, queue
from engines.labelling.rows import live_dataset
from engines.store.models import LabelClass, Occasion, Sample, SelectionRound, Verdict
from engines.store.workspace import Workspace

SMALL_GAIN = 0.005
FEW_CHANGES = 0.01


@dataclass(frozen=True)
class ClassProgress:
    class_id: int
    name: str
    labelled: int
    """Images for training with this label, by the consensus rule; test images are not among them."""
    predicted: int | None
    """How many of the rest of the pool the newest round's model takes for this class; None before there is one."""


@dataclass(frozen=True)
class RoundProgress:
    """A point of the curve: the model that a round's labels before it made, and what readers said of its picks."""

    id: int
    number: int
    strategy: str
    labelled: int
    """Labels that the model learned from."""
    accuracy: float | None
    """Of the test images; None without any."""
    interval: tuple[float, float] | None
    """95 %, of the accuracy."""
    zero_shot: float | None
    change: float | None
    """Share of the answers that are not what they were a round before."""
    surprises: float | None
    """Share of the picks labelled since whose label is not what the model expected; None before there are any."""


@dataclass(frozen=True)
class LabelProgress:
    classes: list[ClassProgress]
    round_id: int | None
    number: int
    """Of the newest round; 0 before the first."""
    budget: int
    """Images that the newest round asks for."""
    done: int
    """Those of them that this reader (or, without one, anybody) need not read any more."""
    left: int
    repeats_left: int
    labelled: int
    pool_left: int
    """Images that could still be asked about."""
    unsure: int
    not_gradable: int
    flagged: int
    skipped: int
    disputed: int
    rounds: list[RoundProgress] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Names of classes without any labelled image."""
    stop_hint: str = ""
    """Advice in a sentence; empty where there is none."""


def progress(workspace: Workspace, dataset_id: int, annotator: str | None = None) -> LabelProgress:
    """How far a reader (or everybody together) is with a data set.

    Unsure, not gradable, flagged and skipped count the verdicts that stand: those of the reader, or images for which
    any reader said so.

    Raises:
        DataError: the data set does not exist, or is in the bin.
    """
    name = None if annotator is None else annotator.strip()
    with workspace.session() as session:
        live_dataset(session, dataset_id)
        agreed = consensus(session, dataset_id)
        known = look(session, dataset_id)
        numbered = select(SelectionRound).where(SelectionRound.dataset_id == dataset_id)
        rounds = list(session.scalars(numbered.order_by(SelectionRound.number)))
        of_dataset = select(LabelClass.id, LabelClass.name).where(LabelClass.dataset_id == dataset_id)
        classes = session.execute(of_dataset.order_by(LabelClass.position)).all()
        pool = select(Sample.id).where(Sample.dataset_id == dataset_id, Sample.split.in_(("train", "pool")))
        training = list(session.scalars(pool))
    labels = {s: agreed[s].class_id for s in training if s in agreed and agreed[s].class_id is not None}
    rest = [s for s in training if s not in labels and s not in known.deciders]
    counts = Counter(labels.values())
    expected = _expected(workspace, dataset_id, rest)
    table = [
        ClassProgress(class_id, title, counts[class_id], None if expected is None else expected[class_id])
        for class_id, title in classes
    ]
    newest = rounds[-1] if rounds else None
    left = repeats_left = 0
    if newest is not None and name is not None:
        open_tasks = [task for task in queue([newest], known, name) if task.round_id == newest.id]
        left = sum(task.occasion is Occasion.READING for task in open_tasks)
        repeats_left = len(open_tasks) - left
    elif newest is not None:
        left = sum(len(known.deciders.get(p["sample"], ())) < p.get("readers", 1) for p in newest.picks)
    said = _said(known.said, name)
    points = [_point(each, labels) for each in rounds]
    return LabelProgress(
        classes=table,
        round_id=newest.id if newest else None,
        number=newest.number if newest else 0,
        budget=len(newest.picks) if newest else 0,
        done=len(newest.picks) - left if newest else 0,
        left=left,
        repeats_left=repeats_left,
        labelled=len(labels),
        pool_left=len(rest),
        unsure=said[Verdict.UNSURE],
        not_gradable=said[Verdict.NOT_GRADABLE],
        flagged=said[Verdict.FLAG],
        skipped=said[Verdict.SKIP],
        disputed=sum(each.disputed for each in agreed.values()),
        rounds=points,
        missing=[each.name for each in table if not each.labelled],
        stop_hint=stop_hint(points, len(rest) if training else None),
    )


def _said(said: dict[int, dict[str, Any]], name: str | None) -> Counter[Verdict]:
    counts: Counter[Verdict] = Counter()
    for of_image in said.values():
        counts.update({row.verdict for reader, row in of_image.items() if name is None or reader == name})
    return counts


def _expected(workspace: Workspace, dataset_id: int, rest: Sequence[int]) -> Counter[int] | None:
    answers = newest_answers(workspace, dataset_id)
    if answers is None:
        return None
    among = np.isin(answers.samples, np.asarray(rest, dtype=np.int64))
    best = answers.classes[answers.probabilities[among].argmax(axis=1)] if len(answers.classes) else answers.classes
    return Counter(best.tolist())


def _point(each: SelectionRound, labels: dict[int, int | None]) -> RoundProgress:
    summary = each.summary
    limits = summary.get("accuracy_interval")
    expected = [(labels[p["sample"]], p.get("predicted")) for p in each.picks if p["sample"] in labels]
    told = [label != predicted for label, predicted in expected if predicted is not None]
    return RoundProgress(
        id=each.id,
        number=each.number,
        strategy=each.strategy,
        labelled=summary.get("labelled") or 0,
        accuracy=summary.get("accuracy"),
        interval=(limits[0], limits[1]) if limits and None not in limits else None,
        zero_shot=summary.get("zero_shot"),
        change=summary.get("change"),
        surprises=sum(told) / len(told) if told else None,
    )


def stop_hint(rounds: Sequence[RoundProgress], pool_left: int | None) -> str:
    """Advice on stopping, from the curve and what is left of the pool (None where there never was one)."""
    if pool_left == 0:
        return "Every image of the pool has been read."
    measured = [each.accuracy for each in rounds if each.accuracy is not None][-3:]
    if len(measured) == 3:
        first, *later = measured
        return "The last two rounds gained less than 0.5 points." if max(later) - first < SMALL_GAIN else ""
    changes = [each.change for each in rounds if each.change is not None][-2:]
    if not measured and len(changes) == 2 and max(changes) < FEW_CHANGES:
        return "In the last two rounds, fewer than 1 in 100 answers changed."
    return ""


def wilson(right: int, of: int, z: float = 1.959963984540054) -> tuple[float, float] | None:
    """Interval of a share (Wilson, JASA 1927), 95 % by default; None of nothing."""
    if of <= 0:
        return None
    share, square = right / of, z * z
    centre = (share + square / (2 * of)) / (1 + square / of)
    half = z * sqrt(share * (1 - share) / of + square / (4 * of * of)) / (1 + square / of)
    return max(0.0, centre - half), min(1.0, centre + half)
