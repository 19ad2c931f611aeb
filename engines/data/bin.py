"""Removing data sets: first into the bin, for good only after 30 days. Images at their source are never touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import delete, exists, func, select

from engines.data.names import free_name
from engines.data.storing import LONGEST_NAME, names
from engines.data.thumbnails import thumbnail_path
from engines.errors import DataError
from engines.store import Dataset, Sample, Workspace, now

CHUNK = 500


def _suffix(dataset: Dataset) -> str:
    return f" [removed {dataset.id}]"


def remove_dataset(workspace: Workspace, dataset_id: int) -> Dataset:
    """Move a data set to the bin; its name becomes free. Removing it again changes nothing.

    Raises:
        DataError: there is no such data set.
    """
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None:
            raise DataError("This data set no longer exists.", "There is nothing to remove.")
        if dataset.deleted_at is None:
            dataset.deleted_at = now()
            dataset.name += _suffix(dataset)
        return dataset


def restore_dataset(workspace: Workspace, dataset_id: int) -> Dataset:
    """Take a data set back out of the bin, under its old name or, where that is taken, with a number behind it.

    Raises:
        DataError: it is no longer in the bin.
    """
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None:
            raise DataError("This data set is no longer in the bin.", "Import it again from its source.")
        if dataset.deleted_at is not None:
            dataset.deleted_at = None
            name = dataset.name.removesuffix(_suffix(dataset))
            dataset.name = free_name(name[:LONGEST_NAME], set(names(session)) - {dataset.name})
        return dataset


def empty_bin(workspace: Workspace, older_than_days: float = 30) -> int:
    """Remove for good what has been in the bin for longer; returns the number of data sets.

    Rows go with all labels and verdicts, then features, copies in the workspace, and thumbnails nobody else uses.
    """
    limit = now() - timedelta(days=older_than_days)
    with workspace.session() as session:
        old = session.scalars(select(Dataset.id).where(Dataset.deleted_at.is_not(None), Dataset.deleted_at <= limit))
        doomed = list(old)
    for dataset_id in doomed:
        _remove_for_good(workspace, dataset_id)
    return len(doomed)


def _remove_for_good(workspace: Workspace, dataset_id: int) -> None:
    shutil.rmtree(workspace.folder("features") / str(dataset_id), ignore_errors=True)
    with workspace.session() as session:
        hashes = set(session.scalars(select(Sample.sha256).where(Sample.dataset_id == dataset_id)))
        folder = func.substr(Sample.file, 1, len("media/") + 12)
        of_dataset = select(folder).where(Sample.dataset_id == dataset_id, Sample.file.like("media/%")).distinct()
        media = list(session.scalars(of_dataset))
        # Verdicts and samples go by the data base's own cascade: single rows of a log are never deleted.
        session.execute(delete(Dataset).where(Dataset.id == dataset_id))
        # A practice copy shows the same files.
        media = [place for place in media if not session.scalar(select(exists().where(Sample.file.like(f"{place}/%"))))]
    for place in media:
        shutil.rmtree(workspace.path / place, ignore_errors=True)
    for sha256 in _unused(workspace, hashes):
        thumbnail_path(workspace, sha256).unlink(missing_ok=True)


def _unused(workspace: Workspace, hashes: Iterable[str]) -> set[str]:
    """Those of `hashes` that no sample has any more."""
    left = sorted(hashes)
    unused = set(left)
    with workspace.session() as session:
        for start in range(0, len(left), CHUNK):
            part = left[start : start + CHUNK]
            unused -= set(session.scalars(select(Sample.sha256).where(Sample.sha256.in_(part))))
    return unused
