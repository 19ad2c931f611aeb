"""Small changes that a person makes to a data set. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from engines.errors import DataError
from engines.store.models import Dataset, LabelClass
from engines.store.workspace import Workspace

LONGEST_NAME = 200


def rename_dataset(workspace: Workspace, dataset_id: int, name: str) -> str:
    """Give a data set another name; returns it as kept.

    Raises:
        DataError: the name is empty or taken, or there is no such data set.
    """
    wanted = " ".join(name.split())[:LONGEST_NAME]
    if not wanted:
        raise DataError("A data set needs a name.", "Type one.")
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None or dataset.deleted_at is not None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        taken = session.scalar(select(Dataset.id).where(Dataset.name == wanted, Dataset.id != dataset_id))
        if taken is not None:
            raise DataError(f"There is a data set called “{wanted}” already.", "Choose another name.")
        dataset.name = wanted
    return wanted


def describe_class(workspace: Workspace, dataset_id: int, class_id: int, sentences: Sequence[str]) -> LabelClass:
    """Replace the sentences that describe a class.

    Raises:
        DataError: the data set has no such class.
    """
    with workspace.session() as session:
        found = session.get(LabelClass, class_id)
        if found is None or found.dataset_id != dataset_id:
            raise DataError("This class no longer exists.", "Reload the page.")
        found.descriptions = list(sentences)
        return found
