"""What all parts of the Label page share: the data set, the reader, the reading screen and the line above it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from sqlalchemy import select

from app.components.gallery import Cell, thumbnail_url
from app.components.html import Html, action, tag
from app.components.label_reader import LabelReader
from app.components.words import counted
from app.context import AppContext
from engines.errors import DataError
from engines.store import Dataset, Job, JobState, Occasion, Sample, SelectionRound, Workspace

QUEUE, LIST, OPENING = "queue", "list", "opening"
"""What the reading screen shows: the reader's queue, images looked up, or what the page has still to find out."""
FOUND_AT_ONCE = 500
"""Images that can be opened together."""


@dataclass(frozen=True)
class Desk:
    """The page's shared components."""

    context: AppContext
    dataset: gr.BrowserState
    """Id of the data set, the same as on Data."""
    name: gr.BrowserState
    """The reader's name."""
    reader: LabelReader
    place: gr.HTML
    """The line above the reading screen."""
    showing: gr.State
    """`QUEUE`, `LIST`, `OPENING`, or empty while the screen shows nothing."""

    @property
    def workspace(self) -> Workspace:
        return self.context.workspace

    @property
    def screen(self) -> list[Any]:
        """The components that `open_list` and `open_queue` fill."""
        return [self.reader.component, self.place, self.showing]

    def open_list(
        self, dataset_id: Any, name: Any, ids: Sequence[int], occasion: Occasion, title: str
    ) -> tuple[str, Html, str]:
        """Show these images on the reading screen.

        Raises:
            DataError: nobody said who reads, or there is nothing to show.
        """
        chosen = existing(self.workspace, dataset_id)
        if not name:
            raise DataError("Who are you?", "Type your name or initials under “What you chose” first.")
        if not ids:
            raise DataError("There is no image to show.", "Look for others.")
        ids = list(ids)[:FOUND_AT_ONCE]
        said = tag(
            "div",
            tag("span", tag("strong", title), f": {counted(len(ids), 'image')}"),
            action("Back to the queue", "queue", "", "small"),
            class_="pl-row",
        )
        return self.reader.open_list(chosen, name, ids, occasion, title), said, LIST


def existing(workspace: Workspace, dataset_id: Any) -> int:
    """The id, if there is such a data set outside the bin.

    Raises:
        DataError: there is none.
    """
    with workspace.session() as session:
        found = session.get(Dataset, dataset_id) if isinstance(dataset_id, int) else None
        if found is None or found.deleted_at is not None:
            raise DataError("No data set is chosen.", "Choose one at the top of the page.")
        return found.id


def samples_of(workspace: Workspace, dataset_id: int, ids: Iterable[int]) -> list[Sample]:
    """Samples of a data set in the order of `ids`, without those that are not there."""
    wanted = list(ids)[:FOUND_AT_ONCE]
    with workspace.session() as session:
        rows = session.scalars(select(Sample).where(Sample.id.in_(wanted), Sample.dataset_id == dataset_id))
        found = {sample.id: sample for sample in rows}
    return [found[each] for each in wanted if each in found]


def cells(
    workspace: Workspace, samples: Sequence[Sample], captions: Mapping[int, Any], selected: int | None = None
) -> list[Cell]:
    """Cells for the gallery; what a blind reader must not know (name, label) is left out."""
    return [
        Cell(
            sample.id,
            thumbnail_url(workspace, sample),
            f"Image {place}",
            captions.get(sample.id, ""),
            sample.id == selected,
        )
        for place, sample in enumerate(samples, 1)
    ]


def newest_job(workspace: Workspace, kind: str, dataset_id: int, done: bool = False) -> Job | None:
    """The newest job of a kind for a data set; with `done` the newest that is done."""
    query = select(Job).where(Job.kind == kind, Job.payload["dataset_id"].as_integer() == dataset_id)
    if done:
        query = query.where(Job.state == JobState.DONE)
    with workspace.session() as session:
        return session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(1)).first()


def has_rounds(workspace: Workspace, dataset_id: int) -> bool:
    """Whether images were ever picked for reading."""
    with workspace.session() as session:
        found = select(SelectionRound.id).where(SelectionRound.dataset_id == dataset_id).limit(1)
        return session.scalar(found) is not None


def number_of(value: str) -> int | None:
    """A number that the browser sent as text; None where it is none."""
    return int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None
