"""Giving verdicts: rows are only ever added, and each is on the disk before the next image shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.errors import DataError
from engines.labelling.readers import first_spellings, tidy
from engines.labelling.rows import MANY, READ, Row, as_row, log, newest_by_reader, still_standing
from engines.labelling.writing import chained, writing
from engines.store.models import Annotation, LabelClass, Occasion, Sample, SelectionRound, Verdict
from engines.store.workspace import Workspace

LONGEST_NAME = 100
LONGEST_COMMENT = 5000
LONGEST_EVENT = 36
LONGEST_MODEL = 40


class Said(BaseModel):
    """What a reader said of an image, and how it came about."""

    verdict: Verdict
    class_id: int | None = None
    comment: str = ""
    event: str
    """A random name that the page gives the verdict, so that one sent twice is kept once."""
    seen: int | None = None
    """Id of this reader's newest row on this image that the page knew; None where it knew none."""
    round_id: int | None = None
    occasion: Occasion = Occasion.READING
    seconds: float | None = None
    aids: dict[str, Any] = {}
    model: str = ""


class Entry(Said):
    """A verdict to be recorded."""

    model_config = ConfigDict(extra="forbid")

    dataset_id: int
    sample_id: int
    annotator: str


@dataclass(frozen=True)
class Conflict:
    """What the same reader said of the image elsewhere, in a window that this one knows nothing of."""

    id: int
    """To be sent as `seen` where the reader means the new verdict nevertheless."""
    verdict: Verdict
    class_id: int | None
    comment: str
    created_at: datetime


@dataclass(frozen=True)
class Receipt:
    """What became of a verdict."""

    id: int
    """Its row; the row that said the same already where `doubled`; the other row where there is a `conflict`."""
    doubled: bool = False
    """It was there already, so nothing was written."""
    conflict: Conflict | None = None
    """Nothing was written, because the reader said something else in the meantime."""
    others: list[str] = field(default_factory=list)
    """Other readers with a verdict on this image."""


def record(workspace: Workspace, entry: Entry) -> Receipt:
    """Keep a verdict. When this returns, it is on the disk.

    The same event twice is kept once. A newer verdict of the same reader on the same image that the sender did not
    know of (`entry.seen`) is not talked over: if it says the same, nothing is written; if not, the receipt tells the
    conflict, and the sender may repeat with `seen` set to it.

    Raises:
        DataError: the image, class or round is not one of the data set's, the data set is in the bin, or the entry is
            incomplete.
        WorkspaceError: it could not be written.
    """
    return record_all(workspace, [entry])[0]


def record_all(workspace: Workspace, entries: Sequence[Entry]) -> list[Receipt]:
    """Keep verdicts of one data set in one transaction: after an error none is kept. Errors as for `record`.

    Each has its own receipt: a conflict keeps that one out, not the others. What comes in files (`Occasion.IMPORT`)
    never conflicts: the newest file counts.
    """
    if not entries:
        return []
    if len({entry.dataset_id for entry in entries}) > 1:
        raise DataError("These verdicts are of several data sets.", "Send those of one data set at a time.")
    checked = [_checked(entry) for entry in entries]
    with writing(workspace, entries[0].dataset_id) as session:
        spelt = first_spellings(session, (entry.annotator for entry in checked))
        checked = [each.model_copy(update={"annotator": spelt[each.annotator]}) for each in checked]
        _check_places(session, entries[0].dataset_id, checked)
        batch = _Batch(session, checked)
        taken = [batch.take(entry) for entry in checked]
        batch.write()
        return [each if isinstance(each, Receipt) else Receipt(each.id, others=others) for each, others in taken]


class _Batch:
    """Entries on their way into the log: what is there is read once, and rows are written together."""

    def __init__(self, session: Session, entries: Sequence[Entry]) -> None:
        self.session = session
        self.dataset_id = entries[0].dataset_id
        self.rows: dict[int, list[Row]] = {entry.sample_id: [] for entry in entries}
        for row in log(session, self.dataset_id, sample_ids=list(self.rows)):
            self.rows[row.sample_id].append(row)
        self.sent: dict[str | None, Annotation] = {}
        names = [entry.event for entry in entries]
        for start in range(0, len(names), MANY):
            known = select(Annotation).where(Annotation.event.in_(names[start : start + MANY]))
            self.sent |= {row.event: row for row in session.scalars(known)}
        self.waiting: dict[int, Annotation] = {}
        """By image, and chained already."""
        self.chain: str | None = None

    def take(self, entry: Entry) -> tuple[Annotation | Receipt, list[str]]:
        """The row that will be written, or what became of the entry instead; and who else has read the image."""
        if entry.sample_id in self.waiting:
            self.write()  # what was just said of the same image counts for what is said now
        left = still_standing(self.rows[entry.sample_id])
        others = [name for name in newest_by_reader(left).get(entry.sample_id, {}) if name != entry.annotator]
        sent = self.sent.get(entry.event)
        if sent is not None:
            if (sent.sample_id, sent.annotator, sent.verdict, sent.class_id) != _said(entry):
                raise DataError("Two verdicts have the same event name.", "Reload the page, then try again.")
            return Receipt(sent.id, doubled=True, others=others), others
        unknown = _unknown(entry, left)
        if unknown is not None and _same(entry, unknown):
            return Receipt(unknown.id, doubled=True, others=others), others
        if unknown is not None and entry.occasion is not Occasion.IMPORT:
            told = Conflict(unknown.id, unknown.verdict, unknown.class_id, unknown.comment, unknown.created_at)
            return Receipt(unknown.id, conflict=told, others=others), others
        row = _row(entry)
        self.chain = row.chain = chained(self.session, self.dataset_id, row, self.chain)
        self.sent[row.event] = self.waiting[row.sample_id] = row
        return row, others

    def write(self) -> None:
        if not self.waiting:
            return
        self.session.add_all(self.waiting.values())
        self.session.flush()
        for row in self.waiting.values():
            self.rows[row.sample_id].append(as_row(row))
        self.waiting = {}


def _row(entry: Entry) -> Annotation:
    names = ("event", "sample_id", "class_id", "verdict", "occasion", "annotator", "comment", "round_id", "model")
    kept = {name: getattr(entry, name) for name in (*names, "seconds", "aids")}
    return Annotation(**kept)


def _said(entry: Entry) -> tuple[int, str, Verdict, int | None]:
    return entry.sample_id, entry.annotator, entry.verdict, entry.class_id


def _same(entry: Entry, row: Row) -> bool:
    """Whether `row` says what the entry says; a new comment is something new."""
    return _said(entry) == row[1:5] and entry.comment in ("", row.comment)


def _unknown(entry: Entry, standing_rows: Iterable[Row]) -> Row | None:
    """The newest verdict of this reader for the same purpose, if the sender did not know of it."""
    mine = [row for row in standing_rows if row.annotator == entry.annotator and _purpose(row) == _purpose(entry)]
    return mine[-1] if mine and mine[-1].id > (entry.seen or 0) else None


def _purpose(of: Row | Entry) -> tuple[object, ...]:
    """Verdicts of one purpose replace each other: reading and looking up again, the repeats of one round, and so on."""
    if of.occasion is Occasion.REPEAT:
        return of.occasion, of.round_id
    if of.occasion is Occasion.IMPORT:
        return of.occasion, of.verdict is Verdict.SUGGESTION
    return (READ,) if of.occasion in READ else (of.occasion,)


def reader_name(text: str) -> str:
    """A reader's name as it is kept.

    Raises:
        DataError: it is empty, too long, or has control characters in it.
    """
    name = tidy(text)
    if not name:
        raise DataError("A verdict needs a reader.", "Say who you are.")
    if len(name) > LONGEST_NAME:
        raise DataError(f"A reader's name has at most {LONGEST_NAME} characters.", "Choose a shorter one.")
    if not name.isprintable():
        raise DataError("This reader's name has characters in it that cannot be shown.", "Type it anew.")
    return name


def event_name(text: str) -> str:
    """The name that a page gave to what it sends.

    Raises:
        DataError: it cannot be one.
    """
    if not 1 <= len(text) <= LONGEST_EVENT or not text.isascii() or not text.isprintable():
        raise DataError("What was sent has no proper event name.", "Reload the page, then try again.")
    return text


def _checked(entry: Entry) -> Entry:
    """The entry, tidied. What can be checked without the data base is checked here."""
    if entry.verdict is Verdict.UNDO:
        raise DataError("Undo is not a verdict.", "Take a verdict back instead.")
    if entry.verdict in (Verdict.LABEL, Verdict.SUGGESTION) and entry.class_id is None:
        raise DataError("A label needs a class.", "Choose one.")
    if entry.verdict not in (Verdict.LABEL, Verdict.SUGGESTION) and entry.class_id is not None:
        raise DataError("Only a label names a class.", "Choose either a class or another verdict.")
    if entry.verdict is Verdict.SUGGESTION and entry.occasion is not Occasion.IMPORT:
        raise DataError("Suggestions come from files, not from readers.", "Import them.")
    comment = "".join(c for c in entry.comment if c in "\n\t" or c.isprintable()).strip()
    if entry.verdict is Verdict.FLAG and not comment:
        raise DataError("A flag needs a comment.", "Say what is the matter with this image.")
    if len(comment) > LONGEST_COMMENT:
        raise DataError(f"A comment has at most {LONGEST_COMMENT:,} characters.", "Shorten it.")
    event_name(entry.event)
    if len(entry.model) > LONGEST_MODEL:
        raise DataError("The name of the model that was shown is too long.", "Reload the page.")
    try:
        aids = json.loads(json.dumps(entry.aids, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DataError("What was shown beside the image cannot be kept.", "Reload the page.", str(error)) from error
    seconds = entry.seconds
    if seconds is not None and (not isfinite(seconds) or seconds < 0):
        seconds = None  # a clock that was set back in the meantime; the verdict matters more
    return entry.model_copy(
        update={
            "annotator": reader_name(entry.annotator),
            "comment": comment,
            "aids": aids,
            "seconds": None if seconds is None else round(seconds, 3),
        }
    )


def _check_places(session: Session, dataset_id: int, entries: Sequence[Entry]) -> None:
    """Images, classes and rounds must be those of the data set."""
    samples = {entry.sample_id for entry in entries}
    if len(samples) <= MANY:
        of_dataset = select(Sample.id).where(Sample.dataset_id == dataset_id, Sample.id.in_(samples))
    else:
        of_dataset = select(Sample.id).where(Sample.dataset_id == dataset_id)
    if samples - set(session.scalars(of_dataset)):
        raise DataError("This image is not in the data set (any more).", "Reload the page.")
    classes = set(session.scalars(select(LabelClass.id).where(LabelClass.dataset_id == dataset_id)))
    if {entry.class_id for entry in entries} - classes - {None}:
        raise DataError("The data set has no such class (any more).", "Reload the page.")
    wanted = {entry.round_id for entry in entries} - {None}
    if wanted and wanted - set(
        session.scalars(select(SelectionRound.id).where(SelectionRound.dataset_id == dataset_id))
    ):
        raise DataError("The data set has no such round (any more).", "Reload the page.")
