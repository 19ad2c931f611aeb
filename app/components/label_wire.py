"""How the reading screen and the server speak: what the page may ask, checked, and verdicts in words for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, Field

from app.components.words import moment
from engines.labelling import Said
from engines.store import Occasion, Verdict

AT_ONCE = 500
"""Values in one query: data bases limit them. Also verdicts in one press of a key."""


class Asker(BaseModel):
    dataset: int
    annotator: str = Field(min_length=1, max_length=100)


class Look(Asker):
    samples: list[int] | None = None
    occasion: Occasion = Occasion.REVIEW
    title: str = ""


class ForPicture(BaseModel):
    dataset: int
    sample: int


class Given(Said):
    """One verdict as the page sends it."""

    sample: int


class Keep(Asker):
    entries: list[Given] = Field(min_length=1, max_length=AT_ONCE)


class Turn(Asker):
    what: Literal["undo", "redo"]
    of: int
    """The row that the page shows as the next one: no other is moved in its place."""
    event: str = Field(min_length=8, max_length=24)


def said(verdict: Verdict, class_id: int | None, names: Mapping[int, str]) -> str:
    """A verdict in words: the class, or what else was said."""
    words = {
        Verdict.UNSURE: "unsure",
        Verdict.NOT_GRADABLE: "not gradable",
        Verdict.SKIP: "skipped",
        Verdict.FLAG: "flagged",
    }
    return words.get(verdict) or names.get(class_id or 0, "a class that is gone")


def is_read(row: Any) -> bool:
    return row.occasion in (Occasion.READING, Occasion.REVIEW)


def told(given: Any) -> dict[str, Any]:
    """A verdict, a conflict or a row of the log for the page."""
    return {
        "id": given.id,
        "verdict": given.verdict.value,
        "class_id": given.class_id,
        "comment": given.comment,
        "time": time_of_day(given.created_at),
    }


def time_of_day(time: datetime) -> str:
    """ "14:05" for today, else "12 Nov, 14:05"."""
    local = time.astimezone()
    return f"{local:%H:%M}" if local.date() == datetime.now().astimezone().date() else moment(time)


def press_of(event: str | None) -> str:
    """What the events of one key press have in common: "<press>-<number>"; nothing for a verdict on its own."""
    return (event or "").rpartition("-")[0]


def portions(values: Sequence[int]) -> Iterable[Sequence[int]]:
    return (values[first : first + AT_ONCE] for first in range(0, len(values), AT_ONCE))


def address(folder: Path) -> str:
    """Address of a folder that the page may read, relative so that it works below any address."""
    return f"gradio_api/file={quote(str(folder))}"
