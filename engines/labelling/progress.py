"""How far the labelling is: counts, what is left, the curve over the rounds, and when to think of stopping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from engines.labelling.answers import PoolAnswers, newest_answers
from engines.labelling.consensus import ASKED_ABOUT, settled
from engines.labelling.queue import Known, look, queue
from engines.labelling.readers import first_spelling
from engines.labelling.rows import Said, live_dataset
from engines.store.browse import classes, tally
from engines.store.models import Annotation, Occasion, Sample, SelectionRound, Verdict
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
    with workspace.session() as session:
        name = None if annotator is None else first_spelling(session, annotator)
        live_dataset(session, dataset_id)
        known = look(session, dataset_id)
        numbered = select(SelectionRound).where(SelectionRound.dataset_id == dataset_id)
        rounds = list(session.scalars(numbered.order_by(SelectionRound.number)))
        read = _read_images(session, dataset_id)
    table = classes(workspace, dataset_id)
    out = settled(known.decided, known.deciders)
    counts, pool_left = _counts(workspace, dataset_id, known, read, out)
    expected = _expected(newest_answers(workspace, dataset_id), out)
    newest = rounds[-1] if rounds else None
    left, repeats_left = _left(newest, known, name)
    said = _said(known.said, name)
    points = [_point(each, known) for each in rounds]
    return LabelProgress(
        classes=[
            ClassProgress(each.id, each.name, counts[each.id], None if expected is None else expected[each.id])
            for each in table
        ],
        round_id=newest.id if newest else None,
        number=newest.number if newest else 0,
        budget=len(newest.picks) if newest else 0,
        done=len(newest.picks) - left if newest else 0,
        left=left,
        repeats_left=repeats_left,
        labelled=counts.total(),
        pool_left=pool_left,
        unsure=said[Verdict.UNSURE],
        not_gradable=said[Verdict.NOT_GRADABLE],
        flagged=said[Verdict.FLAG],
        skipped=said[Verdict.SKIP],
        disputed=sum(each.disputed for each in known.decided.values()),
        rounds=points,
        missing=[each.name for each in table if not counts[each.id]],
        stop_hint=stop_hint(points, pool_left if rounds or out else None),
    )


def _read_images(session: Session, dataset_id: int) -> dict[int, int | None]:
    """Class that they came with, of the images to learn from that somebody has said something of."""
    said = exists().where(Annotation.sample_id == Sample.id)
    query = select(Sample.id, Sample.class_id).where(
        Sample.dataset_id == dataset_id, Sample.split.in_(ASKED_ABOUT), said
    )
    return {row.id: row.class_id for row in session.execute(query)}


def _counts(
    workspace: Workspace, dataset_id: int, known: Known, read: dict[int, int | None], out: set[int]
) -> tuple[Counter[int], int]:
    """(labelled images of each class, images that may still be asked about), for any number of images: from the counts
    at import, and what has changed for the images that were read."""
    counts: Counter[int] = Counter()
    pool_left = 0
    for (split, class_id, _), images in tally(workspace, dataset_id).items():
        if split in ASKED_ABOUT and class_id is not None:
            counts[class_id] += images
        elif split in ASKED_ABOUT:
            pool_left += images
    for sample_id, given in read.items():
        found = known.decided.get(sample_id)
        label = found.with_given(given).class_id if found is not None else given
        if given is not None:
            counts[given] -= 1
        elif sample_id in out:
            pool_left -= 1
        if label is not None:
            counts[label] += 1
    return counts, pool_left


def _expected(answers: PoolAnswers | None, out: set[int]) -> Counter[int] | None:
    """Images of the rest of the pool by the class that the model takes them for."""
    if answers is None:
        return None
    if not answers.probabilities.size:
        return Counter()
    rest = ~np.isin(answers.samples, np.fromiter(out, np.int64, len(out)))
    found = np.bincount(answers.probabilities[rest].argmax(axis=1), minlength=len(answers.classes))
    return Counter(dict(zip(answers.classes.tolist(), found.tolist(), strict=True)))


def _left(newest: SelectionRound | None, known: Known, name: str | None) -> tuple[int, int]:
    """(images, repeats) of the newest round that wait for this reader, or for anybody."""
    if newest is None:
        return 0, 0
    if name is None:
        return sum(len(known.deciders.get(p["sample"], ())) < p.get("readers", 1) for p in newest.picks), 0
    waiting = Counter(task.occasion for task in queue([newest], known, name))
    return waiting[Occasion.READING], waiting[Occasion.REPEAT]


def _said(said: Said, name: str | None) -> Counter[Verdict]:
    """Images by what the reader (or any reader) says of them."""
    found = {
        (row.sample_id, row.verdict) for each in said.values() for row in each.values() if name in (None, row.annotator)
    }
    return Counter(verdict for _, verdict in found)


def _point(each: SelectionRound, known: Known) -> RoundProgress:
    summary = each.summary
    limits = summary.get("accuracy_interval")
    told = [
        label.class_id != pick["predicted"]
        for pick in each.picks
        if pick.get("predicted") is not None
        and (label := known.decided.get(pick["sample"])) is not None
        and label.class_id is not None
    ]
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
