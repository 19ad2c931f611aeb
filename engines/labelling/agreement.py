"""How far readers agree with each other, and with themselves; and the images on which they do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.labelling.coefficients import (
    Measure,
    Ratings,
    Table,
    cohen,
    fleiss,
    gwet,
    krippendorff,
    measure,
    percent,
)
from engines.labelling.consensus import VOTES
from engines.labelling.queue import Known, look
from engines.labelling.readers import spellings
from engines.labelling.rows import MANY, READ, Row, Standing, as_standing, live_dataset
from engines.store.models import LabelClass, Occasion, Sample, Verdict
from engines.store.workspace import Workspace


@dataclass(frozen=True)
class Pair:
    """Two readers on the images that both have read, or a reader's first and second look."""

    first: str
    second: str
    images: int
    percent: Measure
    kappa: Measure
    """Cohen's."""
    confusion: list[list[int]]
    """Images by the category that the first (rows) and the second (columns) gave, in the order of
    `Agreement.categories`."""


@dataclass(frozen=True)
class Agreement:
    """Of images that at least two readers have labelled or called not gradable; other verdicts are no readings."""

    readers: list[str]
    """In order of their first verdict."""
    categories: list[int | None]
    """Class ids in the order of the data set, those in use, then None for “not gradable” if in use."""
    images: int
    """Images read by at least two."""
    percent: Measure
    fleiss: Measure
    krippendorff: Measure
    gwet: Measure
    pairs: list[Pair]
    """Of readers with an image in common."""
    again: list[Pair]
    """Each reader with repeated images, against themselves."""


def agreement(workspace: Workspace, dataset_id: int, readers: Sequence[str] | None = None) -> Agreement:
    """Agreement of the readers (all where None) of a data set.

    What counts is what was said when the image was read; a change of mind when looking it up again, perhaps knowing
    what others said, does not, unless the reader never read it otherwise.

    Raises:
        DataError: the data set does not exist, or is in the bin.
    """
    with workspace.session() as session:
        live_dataset(session, dataset_id)
        wanted = None if readers is None else {spelt for name in readers for spelt in spellings(session, name)}
        known = look(session, dataset_id)
        of_dataset = select(LabelClass.id).where(LabelClass.dataset_id == dataset_id)
        classes = list(session.scalars(of_dataset.order_by(LabelClass.position)))
    names = [name for name in known.readers if wanted is None or name in wanted]
    read = _readings(row for row in known.rows if row.annotator in names)
    looks = [(first, second) for first, second in _repeated(known.rows) if first.annotator in names]
    in_use = {row.class_id for row in read.values()} | {row.class_id for both in looks for row in both}
    categories: list[int | None] = [class_id for class_id in [*classes, None] if class_id in in_use]
    number = {class_id: place for place, class_id in enumerate(categories)}
    ratings = _matrix(read, names, number)
    table = Table.of(ratings, len(categories))
    pairs = [
        _pair(names[a], names[b], both, len(categories))
        for a, b in combinations(range(len(names)), 2)
        if len(both := ratings[:, [a, b]][(ratings[:, [a, b]] >= 0).all(axis=1)])
    ]
    again = []
    for name in names:
        mine = [(number[a.class_id], number[b.class_id]) for a, b in looks if a.annotator == name]
        if mine:
            again.append(_pair(name, name, np.array(mine, np.int64), len(categories)))
    return Agreement(
        readers=names,
        categories=categories,
        images=table.size,
        percent=measure(percent, table),
        fleiss=measure(fleiss, table),
        krippendorff=measure(krippendorff, table),
        gwet=measure(gwet, table),
        pairs=pairs,
        again=again,
    )


def _readings(rows: Iterable[Row]) -> dict[tuple[int, str], Row]:
    """(image, reader) -> what was said when it was read, if that was a vote; rows in order of time."""
    read: dict[tuple[int, str], Row] = {}
    for row in rows:
        key = row.sample_id, row.annotator
        if row.occasion is Occasion.READING or (row.occasion is Occasion.REVIEW and key not in read):
            read[key] = row
    return {key: row for key, row in read.items() if row.verdict in VOTES}


def _repeated(rows: Iterable[Row]) -> list[tuple[Row, Row]]:
    """(what the reader had said, what they said when shown the image once more), both votes; rows in order of time."""
    had_said: dict[tuple[int, str], Row] = {}
    found = []
    for row in rows:
        key = row.sample_id, row.annotator
        if row.occasion in READ:
            had_said[key] = row
        elif row.occasion is Occasion.REPEAT and row.verdict in VOTES:
            before = had_said.get(key)
            if before is not None and before.verdict in VOTES:
                found.append((before, row))
    return found


def _matrix(read: dict[tuple[int, str], Row], names: list[str], number: dict[int | None, int]) -> Ratings:
    images = {sample_id: place for place, sample_id in enumerate(dict.fromkeys(sample_id for sample_id, _ in read))}
    columns = {name: place for place, name in enumerate(names)}
    ratings = np.full((len(images), len(names)), -1, np.int64)
    for (sample_id, name), row in read.items():
        ratings[images[sample_id], columns[name]] = number[row.class_id]
    return ratings


def _pair(first: str, second: str, both: Ratings, categories: int) -> Pair:
    table = Table.of(both, categories)
    confusion = np.zeros((categories, categories), np.int64)
    np.add.at(confusion, (both[:, 0], both[:, 1]), 1)
    return Pair(first, second, len(both), measure(percent, table), measure(cohen, table), confusion.tolist())


@dataclass(frozen=True)
class Dispute:
    """An image on which readers do not all say the same."""

    sample_id: int
    verdicts: dict[str, Standing]
    """What each reader says now, all verdicts."""
    adjudication: Standing | None
    """The last word, where it was spoken."""
    class_id: int | None
    """The class that counts by the consensus rule; None where there is none."""
    majority: bool
    """More than half of the readers agree, and nobody has adjudicated: their label counts."""

    @property
    def adjudicated(self) -> bool:
        return self.adjudication is not None


def disagreements(workspace: Workspace, dataset_id: int) -> list[Dispute]:
    """The images whose readers gave different labels (or “not gradable”): those that nothing has settled first, then by
    position.

    Raises:
        DataError: the data set does not exist, or is in the bin.
    """
    with workspace.session() as session:
        live_dataset(session, dataset_id)
        known = look(session, dataset_id)
        differing = [sample_id for sample_id in known.said if _differ(known, sample_id)]
        places = _samples(session, dataset_id, differing)
    adjudicated = {
        row.sample_id: row
        for row in known.rows
        if row.occasion is Occasion.ADJUDICATION and row.verdict is not Verdict.SKIP
    }
    found = []
    for sample_id in sorted(differing, key=lambda s: (bool(known.decided[s].by), places[s][0])):
        agreed = known.decided[sample_id].with_given(places[sample_id][1])
        last = adjudicated.get(sample_id)
        verdicts = {name: as_standing(row) for name, row in sorted(known.said[sample_id].items())}
        found.append(
            Dispute(sample_id, verdicts, as_standing(last) if last else None, agreed.class_id, agreed.by == "readers")
        )
    return found


def _differ(known: Known, sample_id: int) -> bool:
    return len({row.class_id for row in known.said[sample_id].values() if row.verdict in VOTES}) > 1


def _samples(session: Session, dataset_id: int, sample_ids: Sequence[int]) -> dict[int, tuple[int, int | None]]:
    """(position, class it came with) of these images."""
    if not sample_ids:
        return {}
    wanted = set(sample_ids)
    query = select(Sample.id, Sample.position, Sample.class_id).where(Sample.dataset_id == dataset_id)
    if len(wanted) <= MANY:
        query = query.where(Sample.id.in_(wanted))
    return {row.id: (row.position, row.class_id) for row in session.execute(query) if row.id in wanted}
