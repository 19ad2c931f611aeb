"""Practising: a copy of a labelled data set whose training images have lost their labels."""

from __future__ import annotations

import random
from collections import defaultdict

from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.data.collecting import fingerprint
from engines.data.names import free_name
from engines.data.sampling import effective_labels
from engines.data.storing import LONGEST_NAME, SAMPLES, names
from engines.errors import DataError
from engines.store import Dataset, LabelClass, Sample, Workspace

TESTED = 1 / 3
"""Share of the images that is set aside for testing where none is."""


def practice_copy(workspace: Workspace, dataset_id: int, per_class: int | None = None, seed: int = 1) -> int:
    """A data set like `dataset_id`, to be labelled anew: its id.

    Its test images keep their labels, so that what a model is worth can be measured round by round; all others become
    an unlabelled pool. Where no image is set aside for testing, a third of each class is (whole groups where images
    say which patient or slide they are of). Images are not copied: both data sets show the same files.

    Args:
        per_class: at most so many pool images of each class, drawn by `seed`; all where None.

    Raises:
        DataError: there is no such data set, or fewer than two of its classes have labelled images.
    """
    if per_class is not None and per_class < 1:
        raise DataError("A practice copy needs at least one image per class.", "Ask for more, or for all.")
    stream = random.Random(seed)
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None or dataset.deleted_at is not None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        labels = effective_labels(session, dataset_id)
        if len(set(labels.values())) < 2:
            raise DataError(
                f"“{dataset.name}” has too few labels to practise on.",
                "Practising needs images that are labelled already: label this data set itself.",
            )
        ordered = select(Sample).where(Sample.dataset_id == dataset_id).order_by(Sample.position)
        samples = [sample for sample in session.scalars(ordered) if sample.id in labels]
        tested = {s.id for s in samples if s.split == "test"} or _set_aside(samples, labels, stream)
        pool = _drawn([s for s in samples if s.id not in tested], labels, per_class, stream)
        kept = [s for s in samples if s.id in tested or s.id in pool]
        copy = Dataset(
            name=free_name(f"{dataset.name[: LONGEST_NAME - 12]} (practice)", names(session)),
            reader=dataset.reader,
            source=f"practice:{dataset_id}",
            description=dataset.description,
            size=len(kept),
            report={"template": dataset.report.get("template", "")},
        )
        session.add(copy)
        session.flush()
        renamed = _copy_classes(session, dataset, copy)
        class_names = {each.id: each.name for each in dataset.classes}
        copy.fingerprint = fingerprint(
            (s.sha256, class_names[labels[s.id]] if s.id in tested else None, "test" if s.id in tested else "pool")
            for s in kept
        )
        session.execute(
            SAMPLES,
            [
                {
                    "dataset_id": copy.id,
                    "position": position,
                    "name": s.name,
                    "file": s.file,
                    "sha256": s.sha256,
                    "width": s.width,
                    "height": s.height,
                    "split": "test" if s.id in tested else "pool",
                    "class_id": renamed[labels[s.id]] if s.id in tested else None,
                    "domain": s.domain,
                    "group_key": s.group,
                    "mask": s.mask,
                }
                for position, s in enumerate(kept)
            ],
        )
        return copy.id


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
