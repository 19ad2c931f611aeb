"""How far the labelling is, in words and figures: the balance of the classes, what is left, the curve of the rounds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import floor
from threading import Lock
from time import perf_counter, sleep
from typing import Any

from sqlalchemy import func, select

from app.components.figures import BLUE, READY_MADE, VERMILION, Figure, figure
from app.components.html import Html, action, join, notice, tag, term
from app.components.words import counted, number, percent
from engines.errors import DataError
from engines.labelling import LabelProgress, RoundProgress, progress
from engines.store import Annotation, Dataset, LabelClass, SelectionRound, Workspace

SHOWN = 12
"""Classes in the meter; the others are folded."""
KEPT = 32
"""Readers whose numbers are kept."""
QUICK = 0.05
"""Seconds of work after which the thread rests."""
LONGEST_REST = 2.0
WARNED = 4
"""Classes without a label that are named."""
ACCURACY = term("right", "Share of the images set aside for testing that the prompt learned so far answers rightly.")
CHANGE = term("changed", "Share of the images whose first answer is another one than a round before.")


def stamp(workspace: Workspace, dataset_id: int, name: Any) -> str:
    """Changes whenever something that `beside`, `outcome` or `curve` show has changed."""
    with workspace.session() as session:
        verdict = session.scalar(select(func.max(Annotation.id)))
        rounds = session.scalar(select(func.max(SelectionRound.id)).where(SelectionRound.dataset_id == dataset_id))
        images = session.scalar(select(Dataset.fingerprint).where(Dataset.id == dataset_id))
        classes = session.scalar(select(func.max(LabelClass.id)).where(LabelClass.dataset_id == dataset_id))
    return f"{dataset_id}/{name}/{verdict}/{rounds}/{images}/{classes}"


class Numbers:
    """How far each reader is, worked out beside the pages: with 100,000 images that takes longer than a page may wait.

    One thread for all pages; it rests as long as it works, so that labelling goes first.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.thread = ThreadPoolExecutor(1, "label-progress")
        self.known: OrderedDict[tuple[int, str], tuple[str, Future[LabelProgress]]] = OrderedDict()
        self.lock = Lock()

    def get(self, dataset_id: int, name: str, stamp: str, wait: float = 0.0) -> LabelProgress | None:
        """The numbers as of `stamp`; None while they are worked out, which this begins and waits for `wait` seconds."""
        with self.lock:
            before, found = self.known.get((dataset_id, name), ("", None))
            if found is None or (before != stamp and found.done()):
                found, before = self.thread.submit(self._work_out, dataset_id, name), stamp
                self.known[dataset_id, name] = before, found
                while len(self.known) > KEPT:
                    self.known.popitem(last=False)
        try:
            return found.result(wait) if before == stamp else None
        except (TimeoutError, DataError):  # of a data set that has gone meanwhile there is nothing to tell
            return None

    def _work_out(self, dataset_id: int, name: str) -> LabelProgress:
        began = perf_counter()
        found = progress(self.workspace, dataset_id, name or None)
        took = perf_counter() - began
        if took > QUICK:
            self.thread.submit(sleep, min(LONGEST_REST, took))
        return found


# --- beside the images ---------------------------------------------------------------


def beside(found: LabelProgress) -> Html:
    """What stands beside the images: what is left, the class-balance meter, what is missing, what was set aside."""
    return tag(
        "div", _left(found), _warnings(found), _meter(found), _set_aside(found), class_="pl-card pl-label-beside"
    )


def _left(found: LabelProgress) -> Html:
    if not found.number:
        return tag("p", tag("strong", number(found.labelled)), " labelled for training", class_="pl-count")
    share = round(100 * found.done / found.budget) if found.budget else 100
    bar = tag(
        "div",
        tag("div", style=f"width:{share}%"),
        class_="pl-bar",
        role="progressbar",
        aria_valuenow=share,
        aria_valuemin=0,
        aria_valuemax=100,
        aria_label=f"Round {found.number}",
    )
    again = f", {counted(found.repeats_left, 'image')} once more" if found.repeats_left else ""
    said = f"Round {found.number}: {number(found.done)} of {number(found.budget)} read{again}"
    return tag(
        "div",
        tag("p", tag("strong", number(found.left)), " left in this round", class_="pl-count"),
        bar,
        tag("p", said, class_="pl-quiet"),
        tag("p", f"{number(found.labelled)} labelled, {number(found.pool_left)} without a label", class_="pl-quiet"),
    )


def _warnings(found: LabelProgress) -> Html:
    """Classes that nobody has found yet, each with a way to look for it; only once something is labelled."""
    if not found.missing or not found.labelled:
        return Html("")
    names = found.missing[:WARNED]
    rest = len(found.missing) - len(names)
    buttons = [action(f"Look for “{name}”", "search", name, "small") for name in names]
    what = (
        "No image of this class yet." if len(found.missing) == 1 else f"No image of {len(found.missing)} classes yet."
    )
    more = tag("p", f"… and {rest} more.", class_="pl-quiet") if rest else ""
    return tag("div", notice("warning", what), *buttons, more, class_="pl-missing")


def _meter(found: LabelProgress) -> Html:
    most = max((each.labelled for each in found.classes), default=0)
    guessed = any(each.predicted is not None for each in found.classes)
    rows = [_row(each.name, each.labelled, each.predicted, most) for each in found.classes]
    head = tag(
        "div",
        tag("span", "Class"),
        tag("span", "labelled"),
        term("in the rest", "What the model expects among the images without a label.") if guessed else "",
        class_="pl-meter-head",
    )
    folded = tag("details", tag("summary", f"{len(rows) - SHOWN} more"), *rows[SHOWN:]) if len(rows) > SHOWN else ""
    return tag("div", head, *rows[:SHOWN], folded, class_="pl-meter")


def _row(name: str, labelled: int, predicted: int | None, most: int) -> Html:
    width = round(100 * labelled / most) if most else 0
    return tag(
        "div",
        tag("span", name, class_="pl-meter-name", title=name),
        tag("b", number(labelled)),
        tag("i", f"≈ {number(predicted)}" if predicted is not None else ""),
        tag("div", tag("div", style=f"width:{width}%"), class_="pl-bar"),
        class_="pl-meter-row",
    )


def _set_aside(found: LabelProgress) -> Html:
    parts = [
        (found.unsure, "unsure"),
        (found.not_gradable, "not gradable"),
        (found.flagged, "flagged"),
        (found.skipped, "skipped for later"),
        (found.disputed, "disputed between readers"),
    ]
    shown = [f"{number(count)} {words}" for count, words in parts if count]
    return tag("p", " · ".join(shown), class_="pl-quiet") if shown else Html("")


# --- what came out -------------------------------------------------------------------


def outcome(found: LabelProgress) -> Html:
    """What the labels are worth, in a sentence, and whether to stop."""
    if not found.rounds:
        words = "After two rounds a curve here shows what your labels are worth."
        return tag("p", words, class_="pl-quiet")
    hint = (
        notice("info", f"{found.stop_hint} You may stop here.", "It is advice: you decide.") if found.stop_hint else ""
    )
    return tag(
        "div", tag("p", _sentence(found), class_="pl-sentence"), _surprise(found.rounds), hint, class_="pl-stack"
    )


def _sentence(found: LabelProgress) -> Html:
    measured = [each for each in found.rounds if each.accuracy is not None]
    changed = [each for each in found.rounds if each.change is not None]
    if measured:
        return join(_measured(measured))
    if changed:
        last = changed[-1]
        said = f"In round {last.number}, {percent(last.change)} of the answers "
        no_test = ". There are no labelled images for testing: set some aside to see how many answers are right."
        return join([tag("strong", said, CHANGE, " from one round to the next"), no_test])
    first = "There are no labelled images for testing, so the next rounds will show how much the answers still change."
    return tag("span", tag("strong", f"{counted(found.labelled, 'image')} labelled. "), first)


def _measured(measured: Sequence[RoundProgress]) -> list[Any]:
    last = measured[-1]
    sure = f" (95% sure: {percent(last.interval[0])} to {percent(last.interval[1])})" if last.interval else ""
    after = f"With {counted(last.labelled, 'labelled image')}" if last.labelled else "Before the first label"
    said: list[Any] = [tag("strong", f"{after} it gets {percent(last.accuracy)} ", ACCURACY), sure]
    if last.zero_shot is not None and last.labelled:
        said.append(f"; the ready-made prompt {percent(last.zero_shot)}")
    if len(measured) > 1 and last.accuracy is not None and measured[-2].accuracy is not None:
        gain = 100 * (last.accuracy - measured[-2].accuracy)
        said.append(f". The last round brought {gain:+.1f} points.".replace("-", "−"))
    else:
        said.append(".")
    return said


def _surprise(rounds: Sequence[RoundProgress]) -> Html:
    """How often the readers said something else than the model expected: small when it has little left to learn."""
    told = [each for each in rounds if each.surprises is not None]
    if not told:
        return Html("")
    last = told[-1]
    words = f"Of the images of round {last.number}, {percent(last.surprises)} were not what the model had expected."
    return tag("p", words, class_="pl-quiet")


def curve(found: LabelProgress) -> Figure | None:
    """Right answers by labelled images, with intervals and the ready-made prompt's line; else how much changed."""
    measured = [each for each in found.rounds if each.accuracy is not None]
    if len(measured) > 1:
        return _accuracy(measured)
    changed = [each for each in found.rounds if each.change is not None]
    return _change(changed) if len(changed) > 1 and not measured else None


def _accuracy(measured: Sequence[RoundProgress]) -> Figure:
    x = [each.labelled for each in measured]
    y = [each.accuracy or 0.0 for each in measured]
    low = [each.interval[0] if each.interval else value for each, value in zip(measured, y, strict=True)]
    high = [each.interval[1] if each.interval else value for each, value in zip(measured, y, strict=True)]
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": x + x[::-1],
            "y": high + low[::-1],
            "fill": "toself",
            "fillcolor": "rgba(0,114,178,0.15)",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        },
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": x,
            "y": y,
            "line": {"color": BLUE, "width": 2.5},
            "customdata": [[each.number, a, b] for each, a, b in zip(measured, low, high, strict=True)],
            "hovertemplate": "round %{customdata[0]}, %{x} labels: %{y:.1%} (%{customdata[1]:.1%} to "
            "%{customdata[2]:.1%})<extra></extra>",
        },
    ]
    level = next((each.zero_shot for each in reversed(measured) if each.zero_shot is not None), None)
    lowest = min([*low, *([] if level is None else [level])])
    least = max(0.0, floor(10 * lowest - 0.5) / 10)  # gains of a few points shall be seen
    return _over_labels(data, "Right answers on the test images, round by round", level, least)


def _change(changed: Sequence[RoundProgress]) -> Figure:
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [each.labelled for each in changed],
        "y": [each.change for each in changed],
        "line": {"color": VERMILION, "width": 2.5},
        "customdata": [each.number for each in changed],
        "hovertemplate": "round %{customdata}, %{x} labels: %{y:.1%} changed<extra></extra>",
    }
    return _over_labels([line], "Answers that changed from one round to the next", None)


def _over_labels(data: list[dict[str, Any]], title: str, level: float | None, least: float = 0.0) -> Figure:
    shapes, labels = [], []
    if level is not None:
        line = {"color": READY_MADE, "dash": "dash", "width": 2}
        shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "line": line})
        labels.append(
            {"xref": "paper", "x": 1, "xanchor": "right", "y": level, "yanchor": "top", "showarrow": False}
            | {"text": f"ready-made prompt {level:.1%}"}
        )
    return figure(
        data,
        title,
        xaxis={"title": {"text": "labelled images"}, "rangemode": "tozero"},
        yaxis={"tickformat": ".0%", "range": [least, 1 + 0.02 * (1 - least)]},
        shapes=shapes,
        annotations=labels,
        showlegend=False,
    )
