"""One label an image, out of what all its readers said. This is the rule; everybody who needs labels asks here.

1. The newest adjudication: its class, or none (not gradable, unsure, flagged). One that was skipped settles nothing.
2. The readers' verdicts, the newest of each: a class, or “not gradable”, with more than half of the votes. Unsure,
   skipped and flagged images cast no vote. Without a majority the image is disputed, and no reader's label counts.
3. A label that was imported, the newest.
4. The label that the image came with.

Images shown once more (repeats) and suggestions never count. Not gradable by 1 or 2 takes every label away.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.labelling.rows import Row, log, newest_by_reader, still_standing
from engines.store.models import Occasion, Sample, Verdict

By = Literal["adjudication", "readers", "import", "given", ""]
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


def consensus(session: Session, dataset_id: int) -> dict[int, Consensus]:
    """The consensus on each image that has a label or a verdict (by sample id), in order of position."""
    decided = _decide(still_standing(log(session, dataset_id)))
    agreed = {}
    for sample_id, given in _given(session, dataset_id):
        found = decided.get(sample_id)
        if found is not None and found.by:
            agreed[sample_id] = found
        elif given is not None:
            agreed[sample_id] = Consensus(
                given, "given", bool(found and found.disputed), found.readers if found is not None else 0
            )
        elif found is not None:
            agreed[sample_id] = found
    return agreed


def effective_labels(session: Session, dataset_id: int) -> dict[int, int]:
    """Class id of each labelled image (by sample id) by the consensus rule, in order of position."""
    decided = _decide(still_standing(log(session, dataset_id)))
    labels = {}
    for sample_id, given in _given(session, dataset_id):
        found = decided.get(sample_id)
        label = found.class_id if found is not None and found.by else given
        if label is not None:
            labels[sample_id] = label
    return labels


def _given(session: Session, dataset_id: int) -> Iterable[tuple[int, int | None]]:
    query = select(Sample.id, Sample.class_id).where(Sample.dataset_id == dataset_id).order_by(Sample.position)
    return ((sample_id, class_id) for sample_id, class_id in session.execute(query))


def _decide(rows: list[Row]) -> dict[int, Consensus]:
    """Rules 1 to 3, on rows that stand, in order of time."""
    adjudicated: dict[int, Row] = {}
    imported: dict[int, Row] = {}
    for row in rows:
        if row.occasion is Occasion.ADJUDICATION and row.verdict is not Verdict.SKIP:
            adjudicated[row.sample_id] = row
        elif row.occasion is Occasion.IMPORT and row.verdict is Verdict.LABEL:
            imported[row.sample_id] = row
    said = newest_by_reader(rows)
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
    winner, count = Counter(votes).most_common(1)[0]
    return (winner, False) if 2 * count > len(votes) else (None, True)


def unlabelled(session: Session, dataset_id: int) -> list[int]:
    """The images that may still be asked about, in order of position: of the pool and the training images, without a
    label, and not decided by any reader (unsure, not gradable and flagged are decisions; skipped is none)."""
    labels = effective_labels(session, dataset_id)
    decided = decided_by(still_standing(log(session, dataset_id)))
    pool = select(Sample.id).where(Sample.dataset_id == dataset_id, Sample.split.in_(("train", "pool")))
    return [s for s in session.scalars(pool.order_by(Sample.position)) if s not in labels and s not in decided]


def decided_by(rows: Iterable[Row]) -> dict[int, set[str]]:
    """Image -> readers who decided it, from rows that stand; an image that was put off (skipped) is not decided."""
    deciders: dict[int, set[str]] = defaultdict(set)
    for sample_id, said in newest_by_reader(rows).items():
        names = {name for name, row in said.items() if row.verdict is not Verdict.SKIP}
        if names:
            deciders[sample_id] = names
    return dict(deciders)
