"""The log of verdicts, read: which rows still stand after what was taken back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from engines.errors import DataError
from engines.labelling.readers import first_spelling, spellings
from engines.store.models import Annotation, Dataset, Occasion, Sample, Verdict
from engines.store.workspace import Workspace

READ = (Occasion.READING, Occasion.REVIEW)
"""Occasions whose newest verdict is what a reader says of an image."""
_COLUMNS = (
    Annotation.id,
    Annotation.sample_id,
    Annotation.annotator,
    Annotation.verdict,
    Annotation.class_id,
    Annotation.occasion,
    Annotation.refers_to,
    Annotation.round_id,
    Annotation.comment,
    Annotation.created_at,
)
MANY = 500


class Row(NamedTuple):
    """What matters of a row of the log."""

    id: int
    sample_id: int
    annotator: str
    verdict: Verdict
    class_id: int | None
    occasion: Occasion
    refers_to: int | None
    round_id: int | None
    comment: str
    created_at: datetime


Said = dict[int, dict[str, Row]]
"""Image -> reader -> the verdict that counts as theirs."""


class Standing(NamedTuple):
    """What a reader says of an image now."""

    id: int
    verdict: Verdict
    class_id: int | None
    comment: str
    created_at: datetime


def log(
    session: Session, dataset_id: int, annotator: str | None = None, sample_ids: Sequence[int] | None = None
) -> Iterator[Row]:
    """The rows of a data set in order of time; of one reader, of some images."""
    # A sub-query keeps SQLite from walking through 100,000 images to find 200 verdicts.
    of_dataset = exists().where(Sample.id == Annotation.sample_id, Sample.dataset_id == dataset_id)
    query = select(*_COLUMNS).where(of_dataset).order_by(Annotation.id)
    if annotator is not None:
        query = query.where(Annotation.annotator == annotator)
    wanted = None if sample_ids is None else set(sample_ids)
    if wanted is not None and len(wanted) <= MANY:
        query, wanted = query.where(Annotation.sample_id.in_(wanted)), None
    session.flush()
    # Rows of the tables, not objects: half the time.
    rows = (Row._make(row) for row in session.connection().execute(query))
    return rows if wanted is None else (row for row in rows if row.sample_id in wanted)


def still_standing(rows: Iterable[Row]) -> list[Row]:
    """The verdicts among `rows` (in order of time) that were not taken back, in order of time.

    An undo that does not say what it takes back (from before it could) takes back the reader's newest on the image.
    """
    rows = list(rows)
    taken_back = {row.refers_to for row in rows if row.verdict is Verdict.UNDO}
    if None in taken_back:
        taken_back |= _taken_back_unnamed(rows)
    return [row for row in rows if row.verdict is not Verdict.UNDO and row.id not in taken_back]


def _taken_back_unnamed(rows: Iterable[Row]) -> set[int | None]:
    piles: dict[tuple[int, str], list[int]] = {}
    taken_back: set[int | None] = set()
    for row in rows:
        pile = piles.setdefault((row.sample_id, row.annotator), [])
        if row.verdict is not Verdict.UNDO:
            pile.append(row.id)
        elif row.refers_to in pile:
            pile.remove(row.refers_to)
        elif row.refers_to is None and pile:
            taken_back.add(pile.pop())
    return taken_back


def newest_by_reader(standing_rows: Iterable[Row]) -> Said:
    """What every reader says of every image; the readers of an image in order of their newest verdict."""
    said: Said = {}
    for row in standing_rows:
        if row.occasion in READ:
            of_image = said.setdefault(row.sample_id, {})
            of_image.pop(row.annotator, None)
            of_image[row.annotator] = row
    return said


def as_row(row: Annotation) -> Row:
    return Row(*(getattr(row, name) for name in Row._fields))


def as_standing(row: Row) -> Standing:
    return Standing(row.id, row.verdict, row.class_id, row.comment, row.created_at)


def standing(
    workspace: Workspace, dataset_id: int, annotator: str, sample_ids: Sequence[int] | None = None
) -> dict[int, Standing]:
    """What a reader says of each image now (by sample id); images without a verdict are not in it."""
    with workspace.session() as session:
        annotator = first_spelling(session, annotator)
        rows = still_standing(log(session, dataset_id, annotator, sample_ids))
    return {sample_id: as_standing(said[annotator]) for sample_id, said in newest_by_reader(rows).items()}


def history(
    workspace: Workspace,
    dataset_id: int,
    annotator: str | None = None,
    sample_id: int | None = None,
    first: int = 0,
    limit: int = 50,
) -> list[Annotation]:
    """The log as it was written, newest first: who said what when, undone or not."""
    of_dataset = exists().where(Sample.id == Annotation.sample_id, Sample.dataset_id == dataset_id)
    query = select(Annotation).where(of_dataset).order_by(Annotation.id.desc())
    if sample_id is not None:
        query = query.where(Annotation.sample_id == sample_id)
    with workspace.session() as session:
        if annotator is not None:
            query = query.where(Annotation.annotator.in_(spellings(session, annotator)))
        return list(session.scalars(query.offset(max(0, first)).limit(max(0, limit))))


def live_dataset(session: Session, dataset_id: int, lock: bool = False) -> Dataset:
    """The data set, unless it is in the bin.

    Raises:
        DataError: there is none, or it is in the bin.
    """
    dataset = session.get(Dataset, dataset_id, with_for_update={"key_share": True} if lock else None)
    if dataset is None:
        raise DataError("This data set no longer exists.", "Choose another one.")
    if dataset.deleted_at is not None:
        raise DataError("This data set is in the bin.", "Restore it first, or choose another one.")
    return dataset
