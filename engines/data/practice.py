"""Practising: a copy of a labelled data set whose training images have lost their labels."""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.data.collecting import fingerprint
from engines.data.names import free_name
from engines.data.sampling import effective_labels
from engines.data.storing import BATCH, LONGEST_NAME, SAMPLES, names
from engines.errors import DataError
from engines.labelling.rows import live_dataset
from engines.store import Dataset, LabelClass, Sample, Workspace

TESTED = 1 / 3
"""Share of the images that is set aside for testing where none is."""


def practice_copy(
    workspace: Workspace,
    dataset_id: int,
    per_class: int | None = None,
    seed: int = 1,
    progress: Callable[[float, str], object] = lambda fraction, message: None,
    check_cancelled: Callable[[], object] = lambda: None,
    token: str = "",
) -> int:
    """A data set like `dataset_id`, to be labelled anew: its id.

    Its test images keep their labels, so that what a model is worth can be measured round by round; all others become
    an unlabelled pool. Where no image is set aside for testing, a third of each class is (whole groups where images
    say which patient or slide they are of). Images are not copied: both data sets show the same files. The copy is
    there completely or not at all.

    Args:
        per_class: at most so many pool images of each class, drawn by `seed`; all where None.
        token: names this wish; the same one again gives the copy that is there already.

    Raises:
        DataError: there is no such data set, or fewer than two of its classes have labelled images.
    """
    if per_class is not None and per_class < 1:
        raise DataError("A practice copy needs at least one image per class.", "Ask for more, or for all.")
    stream = random.Random(seed)
    with workspace.session() as session:
        made = _made_before(session, token)
        if made is not None:
            return made
        dataset = live_dataset(session, dataset_id)
        progress(0.0, "Reading the labels")
        labels = effective_labels(session, dataset_id)
        if len(set(labels.values())) < 2:
            raise DataError(
                f"“{dataset.name}” has too few labels to practise on.",
                "Practising needs images that are labelled already: label this data set itself.",
            )
        class_names = {each.id: each.name for each in dataset.classes}
        samples = _labelled(session, dataset_id, labels, dataset.size, progress, check_cancelled)
    tested = {s.id for s in samples if s.split == "test"} or _set_aside(samples, labels, stream)
    pool = _drawn([s for s in samples if s.id not in tested], labels, per_class, stream)
    kept = [s for s in samples if s.id in tested or s.id in pool]
    check_cancelled()
    mark = fingerprint(
        (s.sha256, class_names[labels[s.id]] if s.id in tested else None, "test" if s.id in tested else "pool")
        for s in kept
    )
    # Nothing is told from here on: on SQLite whoever notes it would wait for this very transaction.
    progress(0.9, f"Writing {len(kept):,} images")
    with workspace.session() as session:
        dataset = live_dataset(session, dataset_id)
        copy = _copy_of(session, dataset, len(kept), mark, token)
        shutil.rmtree(workspace.folder("features") / str(copy.id), ignore_errors=True)  # of a removed one of its number
        renamed = _copy_classes(session, dataset, copy)
        rows = (_row(copy.id, n, s, renamed[labels[s.id]] if s.id in tested else None) for n, s in enumerate(kept))
        while batch := list(islice(rows, BATCH)):
            check_cancelled()
            session.execute(SAMPLES, batch)
        return copy.id


def _made_before(session: Session, token: str) -> int | None:
    if not token:
        return None
    made = session.execute(select(Dataset.id, Dataset.report).where(Dataset.deleted_at.is_(None)))
    return next((number for number, report in made if report.get("token") == token), None)


def _labelled(
    session: Session,
    dataset_id: int,
    labels: dict[int, int],
    size: int,
    progress: Callable[[float, str], object],
    check_cancelled: Callable[[], object],
) -> list[Sample]:
    """The images with a label, in order."""
    ordered = select(Sample).where(Sample.dataset_id == dataset_id).order_by(Sample.position)
    found = []
    for number, sample in enumerate(session.scalars(ordered.execution_options(yield_per=BATCH))):
        if number % BATCH == 0:
            check_cancelled()
            progress(0.2 + 0.6 * number / max(1, size), f"{number:,} of {size:,} images")
        if sample.id in labels:
            found.append(sample)
    return found


def _copy_of(session: Session, dataset: Dataset, size: int, mark: str, token: str) -> Dataset:
    copy = Dataset(
        name=free_name(f"{dataset.name[: LONGEST_NAME - 12]} (practice)", names(session)),
        reader=dataset.reader,
        source=f"practice:{dataset.id}",
        description=dataset.description,
        size=size,
        fingerprint=mark,
        report={"template": dataset.report.get("template", ""), "token": token},
    )
    session.add(copy)
    session.flush()
    return copy


def _copy_classes(session: Session, dataset: Dataset, copy: Dataset) -> dict[int, int]:
    """The classes of `dataset` for `copy`; id of the one to id of the other."""
    made = {}
    for each in dataset.classes:
        made[each.id] = LabelClass(
            dataset_id=copy.id, position=each.position, name=each.name, descriptions=list(each.descriptions)
        )
    session.add_all(made.values())
    session.flush()
    return {old: new.id for old, new in made.items()}


def _row(dataset_id: int, position: int, sample: Sample, class_id: int | None) -> dict[str, Any]:
    """`sample` in the copy: with a class for testing, otherwise in the pool."""
    return {
        "dataset_id": dataset_id,
        "position": position,
        "name": sample.name,
        "file": sample.file,
        "sha256": sample.sha256,
        "width": sample.width,
        "height": sample.height,
        "split": "pool" if class_id is None else "test",
        "class_id": class_id,
        "domain": sample.domain,
        "group_key": sample.group,
        "mask": sample.mask,
    }


def _set_aside(samples: list[Sample], labels: dict[int, int], stream: random.Random) -> set[int]:
    """About a third of the images, class by class; no group is torn."""
    by_class: dict[int, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        by_class[labels[sample.id]][sample.group or f"\0{sample.id}"].append(sample)
    chosen: set[str] = set()
    for groups in by_class.values():
        wanted = round(TESTED * sum(map(len, groups.values())))
        have = sum(len(members) for group, members in groups.items() if group in chosen)
        for group in stream.sample(sorted(groups), len(groups)):
            if have >= wanted:
                break
            if group not in chosen:
                chosen.add(group)
                have += len(groups[group])
    return {s.id for s in samples if (s.group or f"\0{s.id}") in chosen}


def _drawn(samples: list[Sample], labels: dict[int, int], per_class: int | None, stream: random.Random) -> set[int]:
    if per_class is None:
        return {s.id for s in samples}
    by_class: dict[int, list[int]] = defaultdict(list)
    for sample in samples:
        by_class[labels[sample.id]].append(sample.id)
    return {each for ids in by_class.values() for each in stream.sample(ids, min(per_class, len(ids)))}
