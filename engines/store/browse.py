"""What pages and the command line read: short, indexed queries that stay quick with 100,000 images. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, select, union_all

from engines.store.models import Dataset, Job, JobState, LabelClass, Run, Sample
from engines.store.workspace import Workspace

SPLITS = ("train", "val", "test", "pool")
OPEN = (JobState.QUEUED, JobState.RUNNING)
NO_LABEL = "(no label)"
Tally = dict[tuple[str, int | None, str], int]
"""Number of images for each (split, class id, domain)."""


@dataclass(frozen=True)
class DatasetSummary:
    """A data set in one line."""

    id: int
    name: str
    images: int
    classes: int
    reader: str
    description: str
    created_at: datetime

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Glance:
    """What a workspace holds."""

    datasets: int
    images: int
    runs: int
    untouched: bool
    """True where nothing was ever imported, trained or queued."""


@dataclass(frozen=True)
class GalleryPage:
    """One page of images and how many there are in all."""

    samples: list[Sample]
    total: int
    first: int
    """Place of the first image in what was asked for, counted from 0."""


def glance(workspace: Workspace) -> Glance:
    live = Dataset.deleted_at.is_(None)
    with workspace.session() as session:
        datasets, images = session.execute(select(func.count(), func.sum(Dataset.size)).where(live)).one()
        runs = session.scalar(select(func.count()).select_from(Run).where(Run.deleted_at.is_(None))) or 0
        ever = union_all(select(Dataset.id.is_not(None)), select(Run.id.is_not(None)), select(Job.id.is_not(None)))
        untouched = session.execute(ever.limit(1)).first() is None
    return Glance(datasets, images or 0, runs, untouched)


def dataset_summaries(workspace: Workspace, deleted: bool = False) -> list[DatasetSummary]:
    """The data sets, newest first; with `deleted` those in the bin."""
    classes = select(func.count()).where(LabelClass.dataset_id == Dataset.id).scalar_subquery()
    binned = Dataset.deleted_at.is_not(None) if deleted else Dataset.deleted_at.is_(None)
    columns = (
        Dataset.id,
        Dataset.name,
        Dataset.size,
        classes,
        Dataset.reader,
        Dataset.description,
        Dataset.created_at,
    )
    with workspace.session() as session:
        rows = session.execute(select(*columns).where(binned).order_by(Dataset.created_at.desc(), Dataset.id.desc()))
        return [DatasetSummary(*row) for row in rows]


def classes(workspace: Workspace, dataset_id: int) -> list[LabelClass]:
    """The classes of a data set in the order of their numbers."""
    with workspace.session() as session:
        return list(
            session.scalars(select(LabelClass).where(LabelClass.dataset_id == dataset_id).order_by(LabelClass.position))
        )


_tallies: dict[tuple[str, int], tuple[tuple[int, str], Tally]] = {}


def tally(workspace: Workspace, dataset_id: int) -> Tally:
    """Images by split, class and domain. Counted once, and again when the data set's fingerprint has changed."""
    key = (str(workspace.path), dataset_id)
    with workspace.session() as session:
        found = session.execute(select(Dataset.size, Dataset.fingerprint).where(Dataset.id == dataset_id)).first()
        if found is None:
            return {}
        stamp = (found.size, found.fingerprint)
        known = _tallies.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        group = (Sample.split, Sample.class_id, Sample.domain)
        rows = session.execute(
            select(*group, func.count()).where(Sample.dataset_id == dataset_id).group_by(*group)
        ).all()
    counts: Tally = {(split, class_id, domain): count for split, class_id, domain, count in rows}
    _tallies[key] = (stamp, counts)
    return counts


def labelled_images(workspace: Workspace) -> int:
    """Images with a label, over all data sets that are not in the bin."""
    with workspace.session() as session:
        ids = session.scalars(select(Dataset.id).where(Dataset.deleted_at.is_(None))).all()
    return sum(
        count for each in ids for (_, class_id, _), count in tally(workspace, each).items() if class_id is not None
    )


def class_counts(workspace: Workspace, dataset_id: int) -> dict[str, dict[str, int]]:
    """Images by class name, then by split; images without a label come last as `NO_LABEL`."""
    names: dict[int | None, str] = {c.id: c.name for c in classes(workspace, dataset_id)}
    names[None] = NO_LABEL
    counts: dict[str, dict[str, int]] = {name: {} for name in names.values()}
    for (split, class_id, _), count in tally(workspace, dataset_id).items():
        by_split = counts[names.get(class_id, NO_LABEL)]
        by_split[split] = by_split.get(split, 0) + count
    if not counts[NO_LABEL]:
        del counts[NO_LABEL]
    return counts


def domains(workspace: Workspace, dataset_id: int) -> list[str]:
    """Names of the data set's domains (site, scanner, stain), in order; empty where there is only one."""
    names = {domain for _, _, domain in tally(workspace, dataset_id)}
    return sorted(names) if len(names) > 1 else []


def in_order(splits: Iterable[str]) -> list[str]:
    """Names of splits as people expect them: train, val, test, then others."""
    return sorted(set(splits), key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))


def gallery_page(
    workspace: Workspace,
    dataset_id: int,
    *,
    split: str | None = None,
    class_id: int | None = None,
    domain: str | None = None,
    first: int = 0,
    limit: int = 60,
) -> GalleryPage:
    """At most `limit` images from place `first` on, by position (within a split: by class, then position).

    No filter on what is None. A place beyond the end gives the last page.
    """
    wanted = {0: split, 1: class_id, 2: domain}
    total = sum(
        count
        for key, count in tally(workspace, dataset_id).items()
        if all(value is None or key[place] == value for place, value in wanted.items())
    )
    first = max(0, min(first, (total - 1) // limit * limit)) if total else 0
    query = select(Sample).where(Sample.dataset_id == dataset_id)
    if split is not None:
        query = query.where(Sample.split == split)
    if class_id is not None:
        query = query.where(Sample.class_id == class_id)
    if domain is not None:
        query = query.where(Sample.domain == domain)
    # The orders that the two browsing indexes give without sorting.
    order = [Sample.class_id, Sample.position] if split is not None and class_id is None else [Sample.position]
    with workspace.session() as session:
        samples = list(session.scalars(query.order_by(*order).offset(first).limit(limit))) if total else []
    return GalleryPage(samples, total, first)


def jobs_page(
    workspace: Workspace, which: Literal["all", "running", "finished"] = "all", first: int = 0, limit: int = 50
) -> list[Job]:
    """Jobs, those at work and waiting before those that ended, newest first."""
    open_jobs, ended = Job.state.in_(OPEN), Job.state.not_in(OPEN)
    parts = {"all": [open_jobs, ended], "running": [open_jobs], "finished": [ended]}[which]
    jobs: list[Job] = []
    with workspace.session() as session:
        for part in parts:
            newest = select(Job).where(part).order_by(Job.created_at.desc(), Job.id.desc())
            jobs += session.scalars(newest.offset(first if which != "all" else 0).limit(limit - len(jobs)))
    return jobs


def get_jobs(workspace: Workspace, job_ids: Sequence[str]) -> list[Job]:
    """The jobs with these ids, in that order, without those that are gone."""
    with workspace.session() as session:
        found = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(job_ids)))}
    return [found[job_id] for job_id in job_ids if job_id in found]


def recent_runs(workspace: Workspace, limit: int = 5) -> list[Run]:
    with workspace.session() as session:
        newest = select(Run).where(Run.deleted_at.is_(None)).order_by(Run.created_at.desc()).limit(limit)
        return list(session.scalars(newest))
