"""The table of a comparison, sorted by pressing a head, and the bars beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from app.components.compare import Compared
from app.components.figures import Figure, accuracy_bars
from app.components.html import Html, join, tag
from app.components.words import duration, number, percent

BEST = ("right", True)
"""Column and direction at first."""


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and what its row is sorted by; None stands last either way."""

    shown: Any
    key: Any


@dataclass(frozen=True)
class Column:
    head: str
    cell: Callable[[Compared], Cell]
    numbers: bool = True
    meaning: str = ""


def _scores(each: Compared, name: str) -> Cell:
    """Mean and standard deviation over the seeds (by their number)."""
    values = [float(summary[name]) for summary in each.summaries() if summary.get(name) is not None]
    if not values:
        return Cell("–", None)
    values = values[:1] if each.ready_made else values
    spread = f"±{100 * pstdev(values):.1f}" if len(values) > 1 else ""
    shown = join([percent(fmean(values)), tag("span", spread, class_="pl-spread") if spread else ""])
    return Cell(shown, fmean(values))


def _right(each: Compared) -> Cell:
    scores = [each.score(summary) for summary in each.summaries()][: 1 if each.ready_made else None]
    bar = each.bar()
    told = f"±{100 * pstdev(scores):.1f}" if len(scores) > 1 else f"{100 * bar.low:.0f} to {100 * bar.high:.0f}"
    why = "over the seeds" if len(scores) > 1 else "95% interval from one seed"
    return Cell(join([percent(bar.value), tag("span", told, class_="pl-spread", title=why)]), bar.value)


def _learned(each: Compared) -> Cell:
    images = None if each.ready_made else int(each.runs[0].summary.get("images_trained", 0))
    return Cell("–" if images is None else number(images), images)


def _seeds(each: Compared) -> Cell:
    return Cell("–", None) if each.ready_made else Cell(str(len(each.runs)), len(each.runs))


def _training(each: Compared) -> Cell:
    seconds = fmean(run.summary.get("train_seconds", 0.0) for run in each.runs)
    return Cell("–", None) if each.ready_made or not seconds else Cell(duration(seconds), seconds)


COLUMNS = {
    "name": Column("Result", lambda each: Cell(_named(each), each.name.lower()), False),
    "right": Column("Right", _right, meaning="Test images it got right: mean ± standard deviation over the seeds."),
    "f1": Column("Macro F1", lambda e: _scores(e, "macro_f1"), meaning="F1 score of every class, averaged."),
    "ece": Column(
        "Off by", lambda e: _scores(e, "ece"), meaning="Expected calibration error: how far its probabilities are off."
    ),
    "seeds": Column("Seeds", _seeds),
    "images": Column("Learned from (images)", _learned),
    "seconds": Column("Training", _training),
}


def _named(each: Compared) -> Html:
    return join([tag("i", class_="pl-dot-method", style=f"background:{each.colour}"), each.name])


def ordered(found: Sequence[Compared], column: str, descending: bool) -> list[Compared]:
    """Results by a column; those that have no value there last."""
    cell = COLUMNS.get(column, COLUMNS["right"]).cell
    known = sorted((e for e in found if cell(e).key is not None), key=lambda e: cell(e).key, reverse=descending)
    return [*known, *(e for e in found if cell(e).key is None)]


def table_of(found: Sequence[Compared], column: str = BEST[0], descending: bool = BEST[1]) -> Html:
    """The table. Its action `sort` brings the name of a column."""
    heads = []
    for name, each in COLUMNS.items():
        arrow = (" ↓" if descending else " ↑") if name == column else ""
        sort = ("descending" if descending else "ascending") if name == column else None
        title = each.meaning or None
        button = tag("button", each.head, arrow, type="button", data_action="sort", data_value=name, title=title)
        heads.append(tag("th", button, scope="col", aria_sort=sort, class_="num" if each.numbers else None))
    rows = [_row(each) for each in ordered(found, column, descending)]
    whole = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    return tag("div", whole, class_="pl-runs", tabindex="0")


def _row(each: Compared) -> Html:
    cells = (
        tag("td", tag("span", column.cell(each).shown), class_="num" if column.numbers else None)
        for column in COLUMNS.values()
    )
    return tag("tr", *cells)


def next_order(column: Any, descending: Any, pressed: str) -> tuple[str, bool]:
    """The order after a press on a head: the other way round where it is sorted by it already."""
    if pressed not in COLUMNS:
        return BEST
    if pressed == column:
        return pressed, not descending
    return pressed, pressed not in ("name", "ece", "seconds", "images")


def bars_of(found: Sequence[Compared]) -> Figure:
    """Best first, with their uncertainty."""
    return accuracy_bars([each.bar() for each in ordered(found, *BEST)], "Test images it got right")
