"""Undo and redo over everything a reader did in a data set: read from the log, so it works after a restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.errors import DataError
from engines.labelling.readers import first_spelling
from engines.labelling.rows import Row, log
from engines.labelling.verdicts import event_name, reader_name
from engines.labelling.writing import append, writing
from engines.store.models import Annotation, Occasion, Verdict
from engines.store.workspace import Workspace


class OvertakenError(DataError):
    """The step is about a verdict that is no longer the next one to move: another window was faster."""


@dataclass(frozen=True)
class Change:
    """What an undo took back, or a redo put back."""

    id: int
    """The row that was written."""
    sample_id: int
    verdict: Verdict
    """The verdict taken back or put back."""
    class_id: int | None
    left: int
    """How many more can be undone (after an undo) or redone (after a redo)."""
    refers_to: int
    """The row that was taken back, or that is put back."""


def piles(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """(what can be undone, what can be redone) of one reader's rows in order of time; the next one last.

    An undo moves its row from the one to the other; a redo is a verdict that refers to the row it puts back; any other
    verdict clears what can be redone.
    """
    done: list[Row] = []
    undone: list[Row] = []
    for row in rows:
        if row.occasion is Occasion.IMPORT:
            continue
        if row.verdict is Verdict.UNDO:
            back = _taken_back(done, row)
            if back is not None:
                done.remove(back)
                undone.append(back)
        else:
            undone = [each for each in undone if each.id != row.refers_to] if row.refers_to is not None else []
            done.append(row)
    return done, undone


def _taken_back(done: list[Row], undo: Row) -> Row | None:
    """The row that `undo` takes back; one that does not say takes back the newest on its image."""
    for row in reversed(done):
        if row.id == undo.refers_to or (undo.refers_to is None and row.sample_id == undo.sample_id):
            return row
    return None


def undo(workspace: Workspace, dataset_id: int, annotator: str, event: str, of: int | None = None) -> Change | None:
    """Take back the reader's newest verdict in this data set that stands, by a new row.

    Args:
        event: random name of this step; the same one twice is one step.
        of: the row that is to be taken back: the newest that its sender shows, which another window may have
            overtaken; None takes the newest there is.

    Returns:
        What was taken back; None where there is nothing.

    Raises:
        OvertakenError: `of` was taken back already, or the reader has said something newer of its image. Nothing else
            is taken back in its place.
        DataError: the data set does not exist, or is in the bin.
        WorkspaceError: it could not be written.
    """
    return _step(workspace, dataset_id, annotator, event, of, back=True)


def redo(workspace: Workspace, dataset_id: int, annotator: str, event: str, of: int | None = None) -> Change | None:
    """Put back what the reader undid last, by a new row; arguments, result and errors as for `undo`.

    A row `of` that was undone, but that a newer verdict has made final, is overtaken, too.
    """
    return _step(workspace, dataset_id, annotator, event, of, back=False)


def undoable(workspace: Workspace, dataset_id: int, annotator: str) -> tuple[int, int]:
    """How many steps the reader can undo and redo."""
    with workspace.session() as session:
        done, undone = piles(log(session, dataset_id, first_spelling(session, annotator)))
    return len(done), len(undone)


def _step(
    workspace: Workspace, dataset_id: int, annotator: str, event: str, of: int | None, back: bool
) -> Change | None:
    name, event = reader_name(annotator), event_name(event)
    with writing(workspace, dataset_id) as session:
        name = first_spelling(session, name)
        done, undone = piles(log(session, dataset_id, name))
        left = len(done) if back else len(undone)
        sent = session.scalar(select(Annotation).where(Annotation.event == event))
        if sent is not None:
            return _again(session, sent, name, back, left)
        chosen = _chosen(done if back else undone, of)
        if chosen is None and of is not None:
            raise _overtaken(back, stands=any(row.id == of for row in done))
        if chosen is None:
            return None
        row_id = append(session, dataset_id, _row(session, chosen, event, back))
        return Change(row_id, chosen.sample_id, chosen.verdict, chosen.class_id, left - 1, chosen.id)


def _chosen(pile: list[Row], of: int | None) -> Row | None:
    """The top of the pile, or the row `of` unless another on the same image lies on it."""
    covered: set[int] = set()
    for row in reversed(pile):
        if of is None or row.id == of:
            return None if row.sample_id in covered else row
        covered.add(row.sample_id)
    return None


def _overtaken(back: bool, stands: bool) -> OvertakenError:
    remedy = "This window now shows the newest state."
    if not back:
        return OvertakenError("Not put back: you have gone on in another window.", remedy)
    if stands:
        return OvertakenError("Not taken back: you have said something newer of that image in another window.", remedy)
    return OvertakenError("Already taken back in another window.", remedy)


def _row(session: Session, chosen: Row, event: str, back: bool) -> Annotation:
    row = Annotation(
        event=event,
        sample_id=chosen.sample_id,
        annotator=chosen.annotator,
        occasion=chosen.occasion,
        round_id=chosen.round_id,
        refers_to=chosen.id,
        verdict=Verdict.UNDO,
        class_id=None,
        comment="",
        model="",
        aids={},
    )
    if not back:
        first = session.get_one(Annotation, chosen.id)
        row.verdict, row.class_id, row.comment = first.verdict, first.class_id, first.comment
        row.model, row.aids = first.model, first.aids
    return row


def _again(session: Session, sent: Annotation, annotator: str, back: bool, left: int) -> Change:
    """The answer to a step that was sent before."""
    if sent.annotator != annotator or sent.refers_to is None or (sent.verdict is Verdict.UNDO) != back:
        raise DataError("Two steps have the same event name.", "Reload the page, then try again.")
    moved = session.get_one(Annotation, sent.refers_to)
    return Change(sent.id, sent.sample_id, moved.verdict, moved.class_id, left, moved.id)
