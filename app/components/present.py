"""What there is to present: comparisons that were kept, and labelling studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr
from sqlalchemy import func, select

from app.components.html import Html, action, empty_state, link, section, tag
from app.components.icons import BARS
from app.components.live import scripted_html
from app.components.words import counted, moment
from engines.reports.saved import Comparison, comparisons
from engines.store import Annotation, Dataset, Occasion, Sample, Workspace

_SCRIPT = Path(__file__).parents[1] / "static" / "present.js"


@dataclass(frozen=True)
class Labelled:
    """A data set that somebody has read images of."""

    dataset_id: int
    name: str
    images: int
    """That somebody has read."""
    readers: int


def stage(**options: Any) -> gr.HTML:
    """The place that slides are shown from; give it `shown(page)` as a new value. A press of any button with the action
    `present` opens it at once."""
    return scripted_html(_SCRIPT, "<div></div>", **options)


def shown(page: str = "", problem: str = "", number: int = 0) -> str:
    """Slides as the value of `stage`, or why there are none. `number` makes the same slides news."""
    return json.dumps({"page": page, "problem": problem, "number": number})


def labelled(workspace: Workspace) -> list[Labelled]:
    """Data sets with images that somebody has read, newest first."""
    counted_rows = (
        select(
            Dataset.id,
            Dataset.name,
            func.count(Annotation.sample_id.distinct()),
            func.count(Annotation.annotator.distinct()),
        )
        .join(Sample, Sample.dataset_id == Dataset.id)
        .join(Annotation, Annotation.sample_id == Sample.id)
        .where(Dataset.deleted_at.is_(None), Annotation.occasion != Occasion.IMPORT)
        .group_by(Dataset.id, Dataset.name)
        .order_by(Dataset.id.desc())
    )
    with workspace.session() as session:
        return [Labelled(*row) for row in session.execute(counted_rows)]


def listing(workspace: Workspace) -> Html:
    """Everything that can be presented. Actions: `present` and `report` with `c:<id>` or `d:<data set>`, `delete`."""
    kept, studies = comparisons(workspace), labelled(workspace)
    if not kept and not studies:
        return empty_state(
            BARS,
            "Comparisons that you keep will stand here, to be shown full screen. Keep one on the page Compare first.",
            link("Compare", "compare", "pl-button primary"),
        )
    return tag("div", _comparisons(kept), _studies(studies))


def _comparisons(kept: Sequence[Comparison]) -> Html:
    if not kept:
        return tag(
            "div",
            section("Comparisons"),
            tag("p", "None is kept yet: do that at the end of ", link("Compare", "compare"), ".", class_="pl-quiet"),
        )
    rows = [
        _row(
            each.name,
            f"{counted(len(each.results), 'result')} on “{each.dataset}”, kept {_when(each)}",
            f"c:{each.id}",
            action("Move to the bin", "delete", each.id, "small", title=f"Move to the bin: {each.name}"),
        )
        for each in kept
    ]
    return tag("div", section("Comparisons"), tag("div", *rows, class_="pl-shows"))


def _when(each: Comparison) -> str:
    return moment(datetime.fromisoformat(each.saved_at))


def _studies(studies: Sequence[Labelled]) -> Html:
    if not studies:
        return Html("")
    rows = [
        _row(
            each.name,
            f"{counted(each.images, 'image')} read by {counted(each.readers, 'reader')}",
            f"d:{each.dataset_id}",
        )
        for each in studies
    ]
    return tag("div", section("Labelling studies"), tag("div", *rows, class_="pl-shows"))


def _row(name: str, words: str, value: str, *more: Html) -> Html:
    return tag(
        "div",
        tag("div", tag("h3", name), tag("p", words, class_="pl-quiet")),
        action("Present", "present", value, "primary", title=f"Present: {name}"),
        action("Report", "report", value, title=f"Report: {name}"),
        *more,
        class_="pl-card pl-show",
    )


def bin_notice(name: str, comparison_id: str) -> Html:
    """What was moved to the bin just now, with a button to undo it (action `undo`)."""
    return tag(
        "div",
        tag("p", tag("strong", f"“{name}” is in the bin."), " It stays there for 30 days."),
        action("Undo", "undo", comparison_id, "small"),
        class_="pl-notice pl-row",
        role="status",
    )
