"""Small changes that a person makes to a data set. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from engines.errors import DataError
from engines.store.models import Annotation, Dataset, LabelClass, Run, Sample
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


def set_classes(workspace: Workspace, dataset_id: int, names: Sequence[str]) -> list[LabelClass]:
    """Give a data set the classes `names`; blank and repeated names are passed over.

    Classes that are there already keep their numbers and verdicts, new ones come behind them. One that is left out
    goes only while no image was labelled with it and no model was trained.

    Raises:
        DataError: fewer than two names, a name too long, or one left out that is in use.
    """
    wanted = list(dict.fromkeys(filter(None, map(_class_name, names))))
    if len(wanted) < 2:
        raise DataError("To tell images apart takes at least two classes.", "Type one name per line.")
    with workspace.session() as session:
        dataset = _live(session, dataset_id)
        known = {each.name: each for each in dataset.classes}
        gone = [each for each in dataset.classes if each.name not in wanted]
        trained = session.scalar(select(exists().where(Run.dataset_id == dataset_id)))
        for each in gone:
            if trained or _is_used(session, each.id):
                why = "A model was trained with" if trained else "Images are labelled with"
                raise DataError(f"{why} the class “{each.name}” already.", "Keep it in the list.")
            session.delete(each)
        kept = [each for each in dataset.classes if each not in gone]
        kept += [LabelClass(dataset_id=dataset_id, name=name) for name in wanted if name not in known]
        for position, each in enumerate(kept):
            each.position = position
        session.add_all(kept)
        session.flush()
        return kept


def add_class(workspace: Workspace, dataset_id: int, name: str) -> LabelClass:
    """Add a class behind the others; one of that name is returned as it is.

    Raises:
        DataError: the name is empty or too long, or there is no such data set.
    """
    wanted = _class_name(name)
    if not wanted:
        raise DataError("A class needs a name.", "Type one.")
    with workspace.session() as session:
        dataset = _live(session, dataset_id)
        for each in dataset.classes:
            if each.name == wanted:
                return each
        position = max((each.position for each in dataset.classes), default=-1) + 1
        added = LabelClass(dataset_id=dataset_id, position=position, name=wanted)
        session.add(added)
        session.flush()
        return added


def _class_name(text: str) -> str:
    name = " ".join(text.split())
    if len(name) > LONGEST_NAME:
        raise DataError(f"“{name[:40]}…” is longer than {LONGEST_NAME} characters.", "Choose a shorter name.")
    return name


def _live(session: Session, dataset_id: int) -> Dataset:
    dataset = session.get(Dataset, dataset_id)
    if dataset is None or dataset.deleted_at is not None:
        raise DataError("This data set no longer exists.", "Choose another one.")
    return dataset


def _is_used(session: Session, class_id: int) -> bool:
    uses = (exists().where(Sample.class_id == class_id), exists().where(Annotation.class_id == class_id))
    return any(session.scalar(select(use)) for use in uses)
