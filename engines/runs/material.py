"""Which images a run trains and is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from sqlalchemy import select
from torch import Tensor

from engines.data import draw_few_shot, effective_labels
from engines.errors import DataError
from engines.runs.defects import CLASSES, normal_class
from engines.store import Dataset, Run, Sample, Workspace


@dataclass(frozen=True)
class Item:
    """One image of a run; `label` is the position of its class in the data set, -1 where it must not be known."""

    sample_id: int
    file: str
    sha256: str
    label: int
    domain: str = ""
    mask: str = ""
    """Picture that marks its defects, a path like `file`; empty where none was marked."""


@dataclass
class Target:
    """Images that a run is tested on beside its own: another data set, or domains it was not trained on."""

    name: str
    dataset_id: int
    class_names: list[str]
    items: list[Item]
    things: bool = False
    """Whether the domains are names of things, as in data sets of defects."""


@dataclass
class Material:
    """What a run trains and is judged on."""

    class_names: list[str]
    descriptions: list[list[str]]
    train: list[Item]
    val: list[Item]
    test: list[Item]
    unlabelled: list[Item] = field(default_factory=list)
    """Images of the target domains, without their labels."""
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def restricted(self, classes: Sequence[int], items: list[Item]) -> tuple[list[Item], Tensor]:
        """Those of `items` in `classes`, and their labels renumbered from 0 in the order of `classes`."""
        place = {label: new for new, label in enumerate(classes)}
        kept = [item for item in items if item.label in place]
        return kept, torch.tensor([place[item.label] for item in kept], dtype=torch.long)


@dataclass
class _Table:
    """A data set as it lies in the data base."""

    dataset: Dataset
    items: dict[int, Item]
    """Every image by sample id, with its label where it has one."""
    split: dict[int, str]

    def of(self, *splits: str) -> list[Item]:
        return [item for item in self.items.values() if self.split[item.sample_id] in splits]

    def tested(self, domains: Sequence[str] | None = None) -> list[Item]:
        """Labelled test images, in `domains` if given; all labelled ones where no image was set aside for testing."""
        labelled = [item for item in self.items.values() if item.label >= 0]
        if domains is not None:
            labelled = [item for item in labelled if item.domain in domains]
        return [item for item in labelled if self.split[item.sample_id] == "test"] or labelled

    def marked(self) -> list[Item]:
        """Labelled images as normal (0) or anomalous (1); normal ones have no mask."""
        normal = normal_class([c.name for c in self.dataset.classes], self.dataset.name)
        return [
            replace(item, label=0, mask="") if item.label == normal else replace(item, label=1)
            for item in self.items.values()
            if item.label >= 0
        ]


def gather(workspace: Workspace, run: Run, learns_from: str = "labels") -> Material:
    """The images of `run`: those to train on by its seed and protocol, and all test images.

    Methods that learn without labels get every image that is not set aside, and no label.

    Raises:
        DataError: the data set is gone or has no training images of the kind that is needed.
    """
    table = _read(workspace, run.dataset_id)
    if learns_from == "masks":
        return _defects(workspace, run, table)
    held_out = list(run.config.get("target_domains", []))
    sources = sorted({item.domain for item in table.items.values()} - set(held_out)) if held_out else []

    def own(*splits: str) -> list[Item]:
        """Images outside the domains that are held out, in `splits` (in all where none is named)."""
        known = table.of(*splits) if splits else list(table.items.values())
        return [item for item in known if not held_out or item.domain in sources]

    classes = table.dataset.classes
    material = Material([c.name for c in classes], [list(c.descriptions) for c in classes], [], [], [])
    if learns_from == "unlabelled":
        material.train = [replace(item, label=-1) for item in own("train", "pool") or own()]
    else:
        split = draw_few_shot(workspace, table.dataset.id, run.shots, run.seed, sources)
        material.train = [table.items[sample] for sample in split.train if sample in table.items]
        material.val = [table.items[sample] for sample in split.val if sample in table.items]
    material.test = [item for item in own("test") if item.label >= 0]
    if not material.test:
        used = {item.sample_id for item in material.train} if learns_from != "unlabelled" else set()
        material.test = [item for item in own() if item.label >= 0 and item.sample_id not in used]
        which = "not trained on were used" if used else "were used, and it saw them before, without their labels"
        material.notes.append(f"There are no images set aside for testing, so all labelled images {which}.")
    for name in held_out:
        material.targets.append(Target(name, table.dataset.id, material.class_names, table.tested([name])))
        there = [item for item in table.items.values() if item.domain == name]
        free = [item for item in there if table.split[item.sample_id] in ("train", "pool")] or there
        material.unlabelled += [replace(item, label=-1) for item in free]
    for other in run.config.get("test_datasets", []):
        found = _read(workspace, other)
        names = [c.name for c in found.dataset.classes]
        material.targets.append(Target(found.dataset.name, other, names, found.tested()))
    return material


def _defects(workspace: Workspace, run: Run, table: _Table) -> Material:
    """Labelled images, told apart as normal (0) and anomalous (1).

    Training reads those splits that hold anomalous images, as published (MVTec AD has them among its test images
    alone). Tested are the images set aside in the data sets to test on, or where none is named in its own.
    """
    own, others = table.marked(), [_read(workspace, other) for other in run.config.get("test_datasets", [])]
    material = Material(list(CLASSES), [[], []], [], [], [])
    splits = {table.split[item.sample_id] for item in own if item.label == 1} - (set() if others else {"test"})
    material.train = [item for item in own if table.split[item.sample_id] in splits]
    if not material.train:
        raise DataError(
            f"Of “{table.dataset.name}” only images that are set aside for testing show defects, or none at all.",
            "Choose another data set to test on: then all of these can be learned from.",
        )
    unmarked = sum(item.label == 1 and not item.mask for item in material.train)
    if unmarked:
        material.notes.append(
            f"Defects of {unmarked:,} training images are not marked; their maps count as if there were none, as"
            " published."
        )
    for each in others or [table]:
        tested = each.marked()
        tested = [item for item in tested if each.split[item.sample_id] == "test"] or (tested if others else [])
        target = Target(each.dataset.name, each.dataset.id, list(CLASSES), tested, each.dataset.reader == "defects")
        material.targets.append(target)
    material.test = [item for target in material.targets for item in target.items]
    return material


def _read(workspace: Workspace, dataset_id: int | None) -> _Table:
    with workspace.session() as session:
        dataset = session.get(Dataset, dataset_id) if dataset_id else None
        if dataset is None:
            raise DataError("The data set of this run no longer exists.", "Import it again and start a new run.")
        place = {c.id: c.position for c in dataset.classes}
        labels = effective_labels(session, dataset.id)
        columns = (Sample.id, Sample.file, Sample.sha256, Sample.split, Sample.domain, Sample.mask)
        rows = session.execute(select(*columns).where(Sample.dataset_id == dataset.id).order_by(Sample.position)).all()
    items = {
        row.id: Item(
            row.id, row.file, row.sha256, place[labels[row.id]] if row.id in labels else -1, row.domain, row.mask
        )
        for row in rows
    }
    return _Table(dataset, items, {row.id: row.split for row in rows})


def all_items(workspace: Workspace, dataset_id: int) -> list[Item]:
    """Every image of a data set, labelled (`label` is its class position) or not (-1).

    Raises:
        DataError: the data set is gone.
    """
    return list(_read(workspace, dataset_id).items.values())


def split_items(workspace: Workspace, dataset_id: int) -> dict[str, list[Item]]:
    """Every image of a data set by the split it is in; `label` is -1 where it has none.

    Raises:
        DataError: the data set is gone.
    """
    table = _read(workspace, dataset_id)
    found: dict[str, list[Item]] = {}
    for item in table.items.values():
        found.setdefault(table.split[item.sample_id], []).append(item)
    return found
