"""A training as people follow it: its progress, its curves, what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from app.components import jobs as job_views
from app.components.figures import DASHES, READY_MADE, Bar, Curve, Figure, accuracy_bars, learning_curve, method_colour
from app.components.html import Html, action, join, notice, tag
from app.components.methods import methods
from app.components.results import Interval, interval, result_sentence, verdict, wilson
from engines.store import Job, JobState, Run

METRICS = ("loss", "train_accuracy", "val_accuracy")
Points = Mapping[tuple[str, str], Sequence[tuple[float, float]]]


def finished(runs: Sequence[Run]) -> bool:
    """Whether nothing is at work or waiting any more."""
    return all(run.state in ("done", "failed", "cancelled") for run in runs)


def summaries_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Summaries of the runs that are done."""
    return [run.summary for run in runs if run.state == "done" and run.summary]


def trains(run: Run) -> bool:
    entry = methods().get(run.method)
    return entry.trains if entry else True


def progress(runs: Sequence[Run], jobs: Mapping[str, Job]) -> Html:
    """One progress bar a seed, with buttons to cancel (action `cancel`) or to try again (`retry`)."""
    if not runs:
        return Html("")
    known = [jobs[run.id] for run in runs if run.id in jobs]
    at_work = [job for job in known if not job.state.ended]
    done = sum(job.state is JobState.DONE for job in known)
    count = f"{done} of {len(known)} seeds done" if len(known) > 1 else ""
    stop = action("Cancel all", "cancel-all", style="small") if len(at_work) > 1 else ""
    head = tag("div", tag("strong", runs[0].name), tag("span", count, " ", stop, class_="pl-quiet"), class_="pl-row")
    return tag("div", head if len(known) > 1 else "", *(job_views.progress(job) for job in known), class_="pl-card")


def curves_of(runs: Sequence[Run], points: Points) -> tuple[Figure | None, Figure | None]:
    """(loss, accuracy) over the passes, one line a seed; None where nothing was reported yet."""
    if not any(points.values()):
        return None, None
    colour, last = method_colour(runs[0].method), int(runs[0].config.get("training", {}).get("epochs", 0))
    several = len(runs) > 1

    def lines(metric: str, words: str, dash: str, tint: str) -> list[Curve]:
        return [
            Curve(
                f"{words}, seed {run.seed}" if several else words,
                points[run.id, metric],
                tint,
                DASHES[place % len(DASHES)] if several and metric != "val_accuracy" else dash,
                words,
            )
            for place, run in enumerate(runs)
            if points.get((run.id, metric))
        ]

    loss = lines("loss", "loss", "solid", colour)
    right = lines("train_accuracy", "images it learns from", "solid", colour)
    right += lines("val_accuracy", "images set aside", "dot", READY_MADE)
    return (
        learning_curve(loss, "How wrong it still is (loss)", last_step=last) if loss else None,
        learning_curve(right, "How many it gets right", share=True, last_step=last) if right else None,
    )


def outcome(runs: Sequence[Run]) -> Html:
    """The result in a sentence, whether it is more than chance, and what the trainer noted."""
    summaries = summaries_of(runs)
    if not summaries:
        return Html("")
    entry = methods().get(runs[0].method)
    sentence = result_sentence(entry.title if entry else runs[0].method, trains(runs[0]), summaries)
    kind, judged = verdict(trains(runs[0]), summaries)
    notes = list(dict.fromkeys(note for summary in summaries for note in summary.get("notes", [])))
    return join(
        [
            tag("p", sentence, class_="pl-sentence"),
            notice(kind, judged) if judged else "",
            *(tag("p", note, class_="pl-quiet") for note in notes),
        ]
    )


def comparison(runs: Sequence[Run]) -> Figure | None:
    """Bars of the learned and the ready-made prompt with their intervals; new classes hollow."""
    summaries = summaries_of(runs)
    if not summaries or not summaries[0].get("images"):
        return None
    first, entry, own = summaries[0], methods().get(runs[0].method), runs[0].method
    title = entry.title if entry else own
    images = int(first["images"])

    def ready(key: str) -> float:
        return fmean(summary["zero_shot"][key] for summary in summaries)

    if "harmonic_mean" not in first:
        mine = interval([s["accuracy"] for s in summaries], images)
        bars = [_bar(title, mine, method_colour(own))]
        if trains(runs[0]):
            bars.append(_ready_made("ready-made prompt", ready("accuracy"), images))
        return accuracy_bars(bars, f"Test images it got right ({images:,} images)")
    new_images = int(first.get("new", {}).get("images", 0))
    base = interval([s["base_accuracy"] for s in summaries], images)
    new = interval([s["new_accuracy"] for s in summaries], new_images)
    bars = [
        _bar(f"{title}: classes it was trained on", base, method_colour(own)),
        _ready_made("ready-made prompt: the same classes", ready("base_accuracy"), images),
        _bar(f"{title}: classes it never saw", new, method_colour(own), hollow=True),
        _ready_made("ready-made prompt: classes never seen", ready("new_accuracy"), new_images, True),
    ]
    return accuracy_bars(bars, "Test images it got right")


def _bar(name: str, found: Interval, colour: str, hollow: bool = False) -> Bar:
    return Bar(name, found.value, found.low, found.high, colour, hollow)


def _ready_made(name: str, share: float, images: int, hollow: bool = False) -> Bar:
    return Bar(name, share, *wilson(share * images, images), READY_MADE, hollow)
