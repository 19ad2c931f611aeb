"""The images of a simulated labelling: a pool whose labels are known, made imbalanced if asked, and test images."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from engines.data import effective_labels
from engines.errors import DataError
from engines.store import Dataset, Sample, Workspace

TESTED = 1 / 3
"""Share of the images that is set aside for testing where none is."""


@dataclass
class Stage:
    """The images of a simulation, by sample id."""

    class_names: list[str]
    descriptions: list[list[str]]
    labels: dict[int, int]
    """Class position of every labelled image."""
    pool: list[int]
    test: list[int]
    set_aside: bool
    """Whether the test images were set aside for this, as the data set has none."""


def set_up(workspace: Workspace, dataset_id: int, imbalance: float, seed: int) -> Stage:
    """Pool and test images of a simulation.

    The pool are the labelled training images, thinned out by `seed` to a long tail where `imbalance` is more than 1.
    Test images are those of the data set, all of them, or where it has none a third of each class (the same for every
    seed, and no patient or slide on both sides).

    Raises:
        DataError: the data set is gone, or fewer than two of its classes have labelled images.
    """
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None or dataset.deleted_at is not None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        classes = list(dataset.classes)
        place = {each.id: position for position, each in enumerate(classes)}
        labels = {sample: place[each] for sample, each in effective_labels(session, dataset_id).items()}
        columns = (Sample.id, Sample.split, Sample.group)
        rows = session.execute(select(*columns).where(Sample.dataset_id == dataset_id).order_by(Sample.position)).all()
    rows = [row for row in rows if row.id in labels]
    pool = [row.id for row in rows if row.split in ("train", "pool")]
    test = [row.id for row in rows if row.split == "test"]
    set_aside = not test
    if set_aside:
        test = _set_aside([(row.id, row.group) for row in rows if row.split in ("train", "pool")], labels)
        kept_out = set(test)
        pool = [sample for sample in pool if sample not in kept_out]
    if len({labels[sample] for sample in pool}) < 2 or not test:
        raise DataError(
            f"“{dataset.name}” has too few labels for a simulation, which plays the reader with known labels.",
            "Choose a data set with labelled images of at least two classes.",
        )
    names = [each.name for each in classes]
    if imbalance > 1:
        pool = long_tail(pool, [labels[sample] for sample in pool], imbalance, seed)
    return Stage(names, [list(map(str, each.descriptions)) for each in classes], labels, pool, test, set_aside)


def long_tail(samples: Sequence[int], labels: Sequence[int], imbalance: float, seed: int) -> list[int]:
    """Some of `samples`, in their order, so that class sizes fall evenly from the largest to the rarest.

    The class of rank i among C (drawn by `seed`) keeps a share of imbalance^(-i / (C - 1)) of what the largest keeps,
    at least one image; the largest keeps as many as the images allow.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for sample, label in zip(samples, labels, strict=True):
        members[label].append(sample)
    stream = random.Random(seed)
    ranked = stream.sample(sorted(members), len(members))
    shares = {label: imbalance ** (-rank / max(1, len(ranked) - 1)) for rank, label in enumerate(ranked)}
    largest = min(len(members[label]) / share for label, share in shares.items())
    kept: set[int] = set()
    for label in ranked:
        count = min(len(members[label]), max(1, round(largest * shares[label])))
        kept |= set(stream.sample(members[label], count))
    return [sample for sample in samples if sample in kept]


def _set_aside(samples: Sequence[tuple[int, str]], labels: dict[int, int]) -> list[int]:
    """About a third of each class, whole groups at a time."""
    groups: dict[str, list[int]] = defaultdict(list)
    sizes: dict[int, int] = defaultdict(int)
    for sample, group in samples:
        groups[group or f"\0{sample}"].append(sample)
        sizes[labels[sample]] += 1
    chosen: list[int] = []
    have: dict[int, int] = defaultdict(int)
    for name in random.Random(0).sample(sorted(groups), len(groups)):
        members = groups[name]
        if all(have[labels[sample]] < round(TESTED * sizes[labels[sample]]) for sample in members):
            chosen += members
            for sample in members:
                have[labels[sample]] += 1
    return sorted(chosen)
