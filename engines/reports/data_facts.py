"""What a report says of a data set: how many images, of what, from how many patients or slides. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from engines.store import Dataset, Sample, Workspace
from engines.store.browse import SPLITS, class_counts, in_order

SPLIT_WORDS = {"train": "to learn from", "val": "for choosing", "test": "to test on", "pool": "without a label"}


@dataclass(frozen=True)
class DataFacts:
    """A data set in numbers; names of groups, files and people are not among them."""

    name: str
    fingerprint: str
    images: int
    counts: dict[str, dict[str, int]]
    """Images by class name, then by split."""
    splits: list[str]
    groups: dict[str, int]
    """Patients, slides or whatever groups the images, by split; empty where the images do not say."""
    shared_groups: int
    """Groups with images both to learn from and to test on."""
    domains: int
    """Sites, scanners or stains; 0 where the images do not say."""


def data_facts(workspace: Workspace, dataset_id: int | None) -> DataFacts | None:
    """The numbers of a data set; None where it is no longer in the workspace."""
    with workspace.session() as session:
        found = session.get(Dataset, dataset_id) if dataset_id else None
        if found is None:
            return None
        own, grouped = Sample.dataset_id == found.id, Sample.group != ""
        tallied = select(Sample.split, func.count(Sample.group.distinct())).where(own, grouped).group_by(Sample.split)
        groups = {split: int(count) for split, count in session.execute(tallied)}
        learned, tested = (_groups(found.id, splits) for splits in (("train", "val", "pool"), ("test",)))
        shared = session.scalar(select(func.count()).select_from(learned.intersect(tested).subquery())) or 0
        domains = session.scalar(select(func.count(Sample.domain.distinct())).where(own, Sample.domain != "")) or 0
    counts = class_counts(workspace, found.id)
    splits = in_order({split for by_split in counts.values() for split in by_split} or SPLITS[:1])
    return DataFacts(found.name, found.fingerprint, found.size, counts, splits, groups, int(shared), int(domains))


def _groups(dataset_id: int, splits: Sequence[str]):  # type: ignore[no-untyped-def]
    return select(Sample.group).where(Sample.dataset_id == dataset_id, Sample.split.in_(splits), Sample.group != "")
