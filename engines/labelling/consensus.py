"""One label an image, out of what all its readers said. This is the rule; everybody who needs labels asks here.

1. The newest adjudication: its class, or none (not gradable, unsure, flagged). One that was skipped settles nothing.
2. The readers' verdicts, the newest of each: a class, or “not gradable”, with more than half of the votes. Unsure,
   skipped and flagged images cast no vote. Without a majority the image is disputed, and no reader's label counts.
3. A label that was imported, the newest.
4. The label that the image came with.

Images shown once more (repeats) and suggestions never count. Not gradable by 1 or 2 takes every label away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from engines.labelling.rows import Row, Said, log, newest_by_reader, still_standing
from engines.store.models import Annotation, Occasion, Sample, Verdict

By = Literal["adjudication", "readers", "import", "given", ""]
ASKED_ABOUT = ("train", "pool")
"""Splits whose images readers are asked about and models learn from."""
VOTES = (Verdict.LABEL, Verdict.NOT_GRADABLE)


@dataclass(frozen=True, slots=True)
class Consensus:
    """The label of an image and where it is from."""

    class_id: int | None
    by: By
    """What decided; empty where nothing did."""
    disputed: bool = False
    """The readers disagree without a majority, and nobody has adjudicated."""
    readers: int = 0
    """How many readers voted."""

    def with_given(self, class_id: int | None) -> Consensus:
        """This one, or the label that the image came with where nothing else decided."""
        return self if self.by or class_id is None else replace(self, class_id=class_id, by="given")


def consensus(session: Session, dataset_id: int) -> dict[int, Consensus]:
    """The consensus on each image that has a label or a verdict (by sample id), in order of position."""
    decided = decide(still_standing(log(session, dataset_id)))
    agreed = {}
    for sample_id, given in _labelled_or_read(session, dataset_id):
        found = decided.get(sample_id)
        if found is not None:
            agreed[sample_id] = found.with_given(given)
        elif given is not None:
            agreed[sample_id] = Consensus(given, "given")
    return agreed


def effective_labels(session: Session, dataset_id: int) -> dict[int, int]:
    """Class id of each labelled image (by sample id) by the consensus rule, in order of position."""
    decided = decide(still_standing(log(session, dataset_id)))
    labels = {}
    for sample_id, given in _labelled_or_read(session, dataset_id):
        found = decided.get(sample_id)
        label = given if found is None or not found.by else found.class_id
        if label is not None:
            labels[sample_id] = label
    return labels


def _labelled_or_read(session: Session, dataset_id: int) -> Iterable[tuple[int, int | None]]:
    """(sample id, class it came with) of images that came with a class or that somebody has said something of."""
    read = exists().where(Annotation.sample_id == Sample.id)
    query = select(Sample.id, Sample.class_id).where(
        Sample.dataset_id == dataset_id, or_(Sample.class_id.is_not(None), read)
    )
    return ((sample_id, class_id) for sample_id, class_id in session.execute(query.order_by(Sample.position)))


def decide(rows: Sequence[Row], said: Said | None = None) -> dict[int, Consensus]:
    """Rules 1 to 3: the consensus on every image among `rows`, which stand and are in order of time.

    `said` is `newest_by_reader(rows)`, where that is known already."""
    said = newest_by_reader(rows) if said is None else said
    adjudicated: dict[int, Row] = {}
    imported: dict[int, Row] = {}
    for row in rows:
        if row.occasion is Occasion.ADJUDICATION and row.verdict is not Verdict.SKIP:
            adjudicated[row.sample_id] = row
        elif row.occasion is Occasion.IMPORT and row.verdict is Verdict.LABEL:
            imported[row.sample_id] = row
    decided = {}
    for sample_id in {**said, **adjudicated, **imported}:
        votes = [row.class_id for row in said.get(sample_id, {}).values() if row.verdict in VOTES]
        winner, disputed = majority(votes)
        if sample_id in adjudicated:
            decided[sample_id] = Consensus(adjudicated[sample_id].class_id, "adjudication", False, len(votes))
        elif votes and not disputed:
            decided[sample_id] = Consensus(winner, "readers", False, len(votes))
        elif sample_id in imported:
            decided[sample_id] = Consensus(imported[sample_id].class_id, "import", disputed, len(votes))
        else:
            decided[sample_id] = Consensus(None, "", disputed, len(votes))
    return decided


def majority(votes: list[int | None]) -> tuple[int | None, bool]:
    """(what more than half of the votes say, whether there are votes but no majority); None is “not gradable”."""
    if not votes:
        return None, False
    if votes.count(votes[0]) == len(votes):
        return votes[0], False
    winner, count = Counter(votes).most_common(1)[0]
    return (winner, False) if 2 * count > len(votes) else (None, True)


def unlabelled(session: Session, dataset_id: int) -> list[int]:
    """The images that may still be asked about, in order of position: of the pool and the training images, without a
    label, and settled by nobody."""
    rows = still_standing(log(session, dataset_id))
    out = settled(decide(rows), deciders(newest_by_reader(rows)))
    pool = select(Sample.id).where(
        Sample.dataset_id == dataset_id, Sample.split.in_(ASKED_ABOUT), Sample.class_id.is_(None)
    )
    return [sample_id for sample_id in session.scalars(pool.order_by(Sample.position)) if sample_id not in out]


def settled(decided: dict[int, Consensus], read_by: dict[int, set[str]]) -> set[int]:
    """Images that nobody need be asked about: with a consensus (a class or none), or decided by a reader."""
    return {sample_id for sample_id, each in decided.items() if each.by} | read_by.keys()


def deciders(said: Said) -> dict[int, set[str]]:
    """Image -> readers who decided it. Unsure, not gradable and flagged are decisions too; an image that was put off
    (skipped) is not decided."""
    found = {}
    for sample_id, of_image in said.items():
        names = {name for name, row in of_image.items() if row.verdict is not Verdict.SKIP}
        if names:
            found[sample_id] = names
    return found
