"""Writing to the log: one at a time, complete or not at all, on the disk before it is said to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from engines.errors import WorkspaceError
from engines.labelling.chain import head, link
from engines.labelling.rows import live_dataset
from engines.store.models import Annotation, now
from engines.store.workspace import Workspace


@contextmanager
def writing(workspace: Workspace, dataset_id: int) -> Iterator[Session]:
    """A transaction in which nobody else writes to the log of this data set; on the disk when the block has ended.

    The write lock is taken before anything is read, so that what is read stays true until it is written upon.

    Raises:
        DataError: the data set does not exist, or is in the bin.
        WorkspaceError: the data base is in use, full or damaged; nothing of the block was kept.
    """
    try:
        with workspace.session() as session:
            if workspace.engine.dialect.name == "sqlite":
                session.execute(text("BEGIN IMMEDIATE"))
            live_dataset(session, dataset_id, lock=True)  # a row lock where there is such a thing
            yield session
    except DBAPIError as error:
        raise _in_words(str(error.orig)) from error


def _in_words(reason: str) -> WorkspaceError:
    if "locked" in reason or "busy" in reason:
        what = "The verdict was not kept: another program has been using the workspace for 15 seconds."
        return WorkspaceError(what, "Close it, then give the verdict again. All earlier verdicts are safe.", reason)
    if "full" in reason or "disk I/O" in reason or "No space" in reason:
        what = "The verdict was not kept: the disk is full, or cannot be written."
        return WorkspaceError(
            what, "Make room on the disk, then give the verdict again. All earlier verdicts are safe.", reason
        )
    what = "The verdict was not kept: the workspace cannot be written."
    return WorkspaceError(what, "Give the verdict again, or reload the page. All earlier verdicts are safe.", reason)


def chained(session: Session, dataset_id: int, row: Annotation, previous: str | None = None) -> str:
    """Sign and date a row that is to be added next, within `writing`; its chain value.

    `previous` is that of the row before it, where the caller knows it.
    """
    row.program = _program()
    row.created_at = now()
    return link(head(session, dataset_id) if previous is None else previous, row)


def append(session: Session, dataset_id: int, row: Annotation) -> int:
    """Add a row, chained to the one before it, within `writing`; its id."""
    row.chain = chained(session, dataset_id, row)
    session.add(row)
    session.flush()
    return row.id


@cache
def _program() -> str:
    try:
        return f"promptloupe {version('promptloupe')}"[:40]
    except PackageNotFoundError:
        return "promptloupe"
