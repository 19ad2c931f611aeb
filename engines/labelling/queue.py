"""What a reader is shown next."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.labelling.consensus import Consensus, decide, deciders
from engines.labelling.readers import first_spelling
from engines.labelling.rows import Row, Said, live_dataset, log, newest_by_reader, still_standing
from engines.labelling.settings import LabelSettings
from engines.store.models import Occasion, SelectionRound, Verdict
from engines.store.workspace import Workspace


@dataclass(frozen=True)
class Task:
    """One image to be read."""

    sample_id: int
    round_id: int | None
    why: str
    """Why it was picked, for people."""
    occasion: Occasion
    predicted: int | None
    """The class that the model expected when it picked the image."""
    second: bool = False
    """Another reader has read it already."""


def assign(picks: Sequence[dict[str, Any]], settings: LabelSettings, seed: int) -> list[dict[str, Any]]:
    """The picks of a round with `readers` (1 or 2) and `repeat` set: which are read twice, which are shown once more.

    The shares are those of the settings, rounded to whole images; a share above 0 is at least one image. The same seed
    chooses the same images.
    """
    stream = random.Random(f"assign/{seed}")
    twice = _drawn(stream, len(picks), settings.second_share)
    again = _drawn(stream, len(picks), settings.repeat_share)
    return [
        {**pick, "readers": 2 if place in twice else 1, "repeat": place in again} for place, pick in enumerate(picks)
    ]


def _drawn(stream: random.Random, picks: int, share: float) -> set[int]:
    wanted = min(picks, max(1, round(share * picks))) if share > 0 else 0
    return set(stream.sample(range(picks), wanted))


@dataclass(frozen=True)
class Known:
    """What the log says, read once."""

    rows: list[Row]
    """Rows that stand."""
    said: Said
    deciders: dict[int, set[str]]
    decided: dict[int, Consensus]
    readers: list[str]
    """In order of their first verdict."""


def look(session: Session, dataset_id: int) -> Known:
    rows = list(log(session, dataset_id))
    readers = list(dict.fromkeys(row.annotator for row in rows if row.occasion is not Occasion.IMPORT))
    left = still_standing(rows)
    said = newest_by_reader(left)
    return Known(left, said, deciders(said), decide(left, said), readers)


def tasks(workspace: Workspace, dataset_id: int, annotator: str) -> list[Task]:
    """The reader's queue, the next image first.

    The picks of the newest round, then what is left of older ones. An image that somebody has decided leaves
    everybody's queue, unless its pick asks for two readers: then it stays until two have. Images that this reader has
    read and that are to be shown once more come behind the rest of their round, in another order. What the reader has
    skipped comes last. Several readers begin at different places, so that they rarely meet on the same image.

    Raises:
        DataError: the data set does not exist, or is in the bin.
    """
    with workspace.session() as session:
        live_dataset(session, dataset_id)
        newest = select(SelectionRound).where(SelectionRound.dataset_id == dataset_id)
        rounds = list(session.scalars(newest.order_by(SelectionRound.number.desc())))
        known = look(session, dataset_id)
        name = first_spelling(session, annotator)
    return queue(rounds, known, name)


def queue(rounds: Sequence[SelectionRound], known: Known, annotator: str) -> list[Task]:
    """`tasks`, from rounds (the newest first) and what is known."""
    mine = {sample_id: said[annotator] for sample_id, said in known.said.items() if annotator in said}
    repeated = {
        (row.sample_id, row.round_id): row
        for row in known.rows
        if row.occasion is Occasion.REPEAT and row.annotator == annotator
    }
    found: list[Task] = []
    put_off: list[tuple[int, Task]] = []
    taken: set[int] = set()
    for each in rounds:
        for pick in _from_place(each.picks, known.readers, annotator):
            task = _reading(each, pick, known, annotator)
            if task is None or task.sample_id in taken:
                continue
            taken.add(task.sample_id)
            skipped = mine.get(task.sample_id)
            if skipped is not None:
                put_off.append((skipped.id, task))
            else:
                found.append(task)
        for task in _repeats(each, mine):
            before = repeated.get((task.sample_id, each.id))
            if before is None:
                found.append(task)
            elif before.verdict is Verdict.SKIP:
                put_off.append((before.id, task))
    return found + [task for _, task in sorted(put_off, key=lambda pair: pair[0])]


def _reading(each: SelectionRound, pick: dict[str, Any], known: Known, annotator: str) -> Task | None:
    readers = known.deciders.get(pick["sample"], set())
    if annotator in readers or len(readers) >= pick.get("readers", 1):
        return None
    return _task(each, pick, Occasion.READING, second=bool(readers))


def _repeats(each: SelectionRound, mine: dict[int, Row]) -> list[Task]:
    """Images of the round that this reader has decided and is to be shown once more, shuffled."""
    due = [
        _task(each, pick, Occasion.REPEAT)
        for pick in each.picks
        if pick.get("repeat") and pick["sample"] in mine and mine[pick["sample"]].verdict is not Verdict.SKIP
    ]
    # Keyed by image, so that the order stays while images are added to it and leave it.
    return sorted(due, key=lambda task: random.Random(f"repeat/{each.seed}/{task.sample_id}").random())


def _task(each: SelectionRound, pick: dict[str, Any], occasion: Occasion, second: bool = False) -> Task:
    return Task(pick["sample"], each.id, pick.get("why", ""), occasion, pick.get("predicted"), second)


def _from_place(picks: Sequence[dict[str, Any]], readers: Sequence[str], annotator: str) -> list[dict[str, Any]]:
    """The picks from the reader's own place on and around: the first reader begins at the first, the second half-way,
    the third at a quarter, and so on."""
    rank = readers.index(annotator) if annotator in readers else len(readers)
    start = int(_place(rank) * len(picks))
    return [*picks[start:], *picks[:start]]


def _place(rank: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8, …: each as far as can be from those before it (van der Corput's sequence)."""
    place, step = 0.0, 0.5
    while rank:
        place, rank, step = place + step * (rank & 1), rank >> 1, step / 2
    return place


def adjudication_tasks(workspace: Workspace, dataset_id: int, annotator: str) -> list[Task]:
    """Disputed images that nobody has adjudicated and this reader has not read, in the order of the data set; what
    this reader has put off comes last.

    Raises:
        DataError: the data set does not exist, or is in the bin.
    """
    with workspace.session() as session:
        live_dataset(session, dataset_id)
        known = look(session, dataset_id)
        name = first_spelling(session, annotator)
    put_off = {
        row.sample_id: row.id
        for row in known.rows
        if row.occasion is Occasion.ADJUDICATION and row.annotator == name and row.verdict is Verdict.SKIP
    }
    disputed = [s for s, each in known.decided.items() if each.disputed and name not in known.said[s]]
    return [
        Task(sample_id, None, "Its readers disagree.", Occasion.ADJUDICATION, None, second=True)
        for sample_id in sorted(disputed, key=lambda s: (put_off.get(s, 0), s))
    ]
