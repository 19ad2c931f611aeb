"""A labelling study as reports read it: what was labelled, by whom, and what the labels were worth. Torch-free.

Readers are numbered in the order of their first verdict: their names stay out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from sqlalchemy import select

from engines.errors import DataError
from engines.labelling import Agreement, LabelProgress, LabelSettings, agreement, label_settings, progress
from engines.labelling.queue import look
from engines.reports.data_facts import DataFacts, data_facts
from engines.reports.words import counted, number, percent
from engines.store import Annotation, Occasion, Sample, SelectionRound, Verdict, Workspace
from engines.store.browse import classes

NOT_GRADABLE = "not gradable"
READ = (Occasion.READING, Occasion.REPEAT)


@dataclass(frozen=True)
class Reader:
    """A reader under a pseudonym."""

    name: str
    images: int
    """Images that this reader has said something of that stands."""
    unsure: int
    seconds: float | None
    """Median time that an image was on screen; None where it was not measured."""


@dataclass(frozen=True)
class Study:
    """Everything that report and slides say of a labelling study."""

    data: DataFacts
    settings: LabelSettings
    progress: LabelProgress
    agreement: Agreement
    readers: list[Reader]
    read: int
    """Images that somebody has said something of that stands."""
    pseudonyms: dict[str, str]
    names: dict[int | None, str]
    """Class names by id."""
    seeds: list[int]
    """Of the rounds."""

    @property
    def sentence(self) -> str:
        found, who = self.progress, counted(len(self.readers), "reader")
        rounds = f" in {counted(found.number, 'round')}" if found.number else ""
        was, have = ("was" if self.read == 1 else "were"), ("has" if found.labelled == 1 else "have")
        said = (
            f"{counted(self.read, 'image')} {was} read by {who}{rounds}, and {number(found.labelled)} to learn from"
            f" {have} a label now"
        )
        last = next((each for each in reversed(found.rounds) if each.accuracy is not None), None)
        if last is None or last.interval is None:
            return f"{said}."
        low, high = last.interval
        ready = "" if last.zero_shot is None else f"; the ready-made prompt gets {percent(last.zero_shot)}"
        return (
            f"{said}; a prompt that learned from {number(last.labelled)} of them gets {percent(last.accuracy)} of the"
            f" test images right ({percent(low)} to {percent(high)}){ready}."
        )


def study(workspace: Workspace, dataset_id: int) -> Study:
    """Read a labelling study.

    Raises:
        DataError: the data set does not exist, or nobody has read any of its images.
    """
    found, agreed = progress(workspace, dataset_id), agreement(workspace, dataset_id)
    data = data_facts(workspace, dataset_id)
    if data is None or not agreed.readers:
        raise DataError("Nobody has read any image of this data set yet.", "Label some images on the page Label first.")
    pseudonyms = {name: f"Reader {place}" for place, name in enumerate(agreed.readers, 1)}
    names: dict[int | None, str] = {each.id: each.name for each in classes(workspace, dataset_id)}
    with workspace.session() as session:
        seeds = session.scalars(select(SelectionRound.seed).where(SelectionRound.dataset_id == dataset_id).distinct())
        listed = sorted(seeds)
    return Study(
        data,
        label_settings(workspace, dataset_id),
        found,
        agreed,
        *_readers(workspace, dataset_id, pseudonyms),
        pseudonyms,
        names | {None: NOT_GRADABLE},
        listed,
    )


def _readers(workspace: Workspace, dataset_id: int, pseudonyms: Mapping[str, str]) -> tuple[list[Reader], int]:
    """The readers, and how many images any of them has read."""
    with workspace.session() as session:
        said = look(session, dataset_id).said
        timed = select(Annotation.annotator, Annotation.seconds).join(Sample, Sample.id == Annotation.sample_id)
        timed = timed.where(Sample.dataset_id == dataset_id, Annotation.occasion.in_(READ))
        seconds: dict[str, list[float]] = {}
        for who, took in session.execute(timed):
            if took is not None:
                seconds.setdefault(who, []).append(took)
    verdicts: dict[str, list[Verdict]] = {name: [] for name in pseudonyms}
    read = 0
    for by_reader in said.values():
        mine = {name: row.verdict for name, row in by_reader.items() if name in verdicts}
        mine = {name: verdict for name, verdict in mine.items() if verdict is not Verdict.SKIP}
        for name, verdict in mine.items():
            verdicts[name].append(verdict)
        read += bool(mine)
    readers = [
        Reader(
            pseudonyms[name], len(all_), all_.count(Verdict.UNSURE), median(seconds[name]) if name in seconds else None
        )
        for name, all_ in verdicts.items()
    ]
    return readers, read
