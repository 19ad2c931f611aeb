"""One result with everything behind it, as the values of the components that show it."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from app.components import defects
from app.components import training as views
from app.components.class_figures import confusion_matrix, per_class_bars, reliability_diagram
from app.components.figures import Bar, Figure, method_colour
from app.components.gallery import pager, picture_url
from app.components.html import Html, esc, join, link, notice, tag, term
from app.components.methods import method_title
from app.components.plot import drawn
from app.components.results import calibration_sentence, wilson
from app.components.runs import answers_grid, facts, settings_table
from app.components.words import counted
from engines.data import load_image
from engines.errors import PromptloupeError
from engines.store import Run, Workspace
from engines.store.answers import answers
from engines.store.browse import classes
from engines.store.run_queries import Experiment, curves, experiment, runs_by_id, training_jobs

TRAINED, NEVER = "classes it was trained on", "classes it never saw"
PAGE_SIZE = 24
CALIBRATION = term(
    "calibration error (ECE)",
    "The mean distance between how sure the prompt says it is and how often it is right (Guo et al., ICML 2017).",
)


@dataclass(frozen=True)
class Result:
    """A chosen run of an experiment, and which of its classes are on show."""

    workspace: Workspace
    experiment: Experiment
    runs: list[Run]
    """Those that are done, by seed."""
    run: Run | None
    """The one on show."""
    part: str
    names: list[str] = field(default_factory=list)
    """All classes of the data set, by position."""

    @property
    def summary(self) -> dict[str, Any]:
        """The summary of the part on show."""
        assert self.run is not None
        whole: dict[str, Any] = self.run.summary
        return whole["new"] if self.part == NEVER and "new" in whole else whole

    @property
    def both_parts(self) -> bool:
        return self.run is not None and "new" in self.run.summary

    @property
    def shown_classes(self) -> list[int]:
        """Positions in the data set of the classes on show."""
        return [self.names.index(name) for name in self.summary.get("class_names", []) if name in self.names]

    def position(self, place: Any) -> int | None:
        """Position in the data set of a row or column of the confusion matrix on show."""
        shown = self.summary.get("class_names", [])
        name = shown[place] if isinstance(place, int) and 0 <= place < len(shown) else None
        return self.names.index(name) if name in self.names else None


def find_result(workspace: Workspace, key: str, seed: Any = None, part: Any = TRAINED) -> Result | None:
    """The result called `key`; of the seed that was asked for, else of the first that is done."""
    found = experiment(workspace, key) if key else None
    if found is None:
        return None
    runs = runs_by_id(workspace, [line.id for line in found.done])
    run = next((r for r in runs if r.seed == seed), runs[0] if runs else None)
    names = [c.name for c in classes(workspace, found.dataset_id)] if found.dataset_id else []
    if run is not None and not names:
        names = [*run.summary.get("class_names", []), *run.summary.get("new", {}).get("class_names", [])]
    return Result(workspace, found, runs, run, part if part in (TRAINED, NEVER) else TRAINED, names)


def headline(result: Result) -> Html:
    """The sentence first; or where it stands, where there is none yet."""
    name = tag("h2", result.experiment.name)
    if result.run is None:
        return tag("div", name, _unfinished(result), class_="pl-section")
    others = len(result.experiment.lines) - len(result.runs)
    missing = tag("p", f"{counted(others, 'seed')} not done.", class_="pl-quiet") if others else ""
    return tag(
        "div", name, views.outcome(result.runs), missing, facts(result.experiment, result.run), class_="pl-result"
    )


def _unfinished(result: Result) -> Html:
    state = result.experiment.state
    if state in ("queued", "running"):
        return notice("info", "This training is not finished.", link("Watch it", "train"))
    jobs = training_jobs(result.workspace, [line.id for line in result.experiment.lines])
    job = next((job for job in jobs.values() if job.error), None)
    if state == "failed":
        said = job.error if job else "It gave no reason."
        return notice("error", "This training failed.", said, job.detail if job else "")
    return notice("info", "This training was cancelled.", "Use its settings again to start it anew.")


def mistakes_figure(result: Result) -> Figure:
    return confusion_matrix(result.summary["confusion"], result.summary["class_names"])


def mistakes(result: Result, cell: Sequence[Any] | None, first: int) -> Html:
    """The images that were wrong, the surest first; or those of one cell of the confusion matrix."""
    assert result.run is not None
    true, predicted = (result.position(place) for place in cell) if cell else (None, None)
    among = result.shown_classes if result.both_parts else None
    page = answers(
        result.workspace,
        result.run.id,
        true=true,
        predicted=predicted,
        among=among,
        first=first,
        limit=PAGE_SIZE,
    )
    if true is not None and predicted is not None:
        said = f"“{result.names[true]}” taken for “{result.names[predicted]}”"
        if true == predicted:
            said = f"“{result.names[true]}” answered rightly"
        title = f"{counted(page.total, 'image')}: {said}"
        back = tag("button", "Show all mistakes", type="button", class_="pl-button small", data_action="all")
    else:
        title = f"{counted(page.total, 'image')} it got wrong, the surest mistakes first"
        back = Html("")
    if not page.total:
        empty = "It got every test image right." if not cell else "There are no such images."
        return tag("div", tag("div", tag("h3", empty), back, class_="pl-row"), class_="pl-card")
    turn = pager(page.first, len(page.answers), page.total, PAGE_SIZE) if page.total > PAGE_SIZE else ""
    shown = answers_grid(result.workspace, page.answers, result.names)
    return tag("div", tag("div", tag("h3", title), back, class_="pl-row"), shown, turn, class_="pl-card")


def per_class(result: Result) -> Figure:
    ready = {c["name"]: c["accuracy"] for c in result.summary.get("zero_shot", {}).get("per_class", [])}
    rows = sorted(result.summary["per_class"], key=lambda c: c["accuracy"])
    colour = method_colour(result.experiment.method)
    bars = [Bar(c["name"], c["accuracy"], *wilson(c["accuracy"] * c["count"], c["count"]), colour) for c in rows]
    names = [f"{c['name']} ({c['count']:,})" for c in rows]
    trains = result.run is not None and views.trains(result.run)
    beside = [ready.get(c["name"]) for c in rows] if trains else None
    return per_class_bars(names, bars, beside, method_title(result.experiment.method))


def sureness(result: Result) -> Html:
    summary = result.summary
    bins = summary.get("reliability", [])
    if not bins:
        return tag("p", "This was not measured.")
    sentence = calibration_sentence(summary["ece"], bins)
    return join(
        [tag("p", sentence, class_="pl-sentence"), tag("p", esc("The "), CALIBRATION, f" is {summary['ece']:.2f}.")]
    )


def sureness_figure(result: Result) -> Figure | None:
    bins = result.summary.get("reliability", [])
    return reliability_diagram(bins, method_colour(result.experiment.method)) if bins else None


def how_trained(result: Result) -> tuple[Figure | None, Figure | None, Html]:
    """(loss, accuracy, settings)"""
    assert result.run is not None
    points = curves(result.workspace, [run.id for run in result.runs], views.METRICS)
    loss, accuracy = views.curves_of(result.runs, points)
    return loss, accuracy, settings_table(result.run)


# --- as values of components ----------------------------------------------------


def shown(result: Result | None) -> list[Any]:
    """Values of the components of the result on show."""
    if result is None:
        return [gr.update(visible=False), *[gr.skip()] * 19]
    if result.run is None:
        nothing = [gr.update(visible=False)] * 2
        return [
            gr.update(visible=True),
            headline(result),
            "",
            gr.update(interactive=False),
            *nothing,
            gr.update(visible=False),
            *[gr.skip()] * 8,
            *defects.shown(result.workspace, None),
        ]
    tested = bool(result.summary.get("images"))
    loss, accuracy, settings = how_trained(result)
    seeds = [(str(run.seed), run.seed) for run in result.runs]
    return [
        gr.update(visible=True),
        headline(result),
        drawn(views.comparison(result.runs)),
        gr.update(interactive=True),
        gr.update(choices=seeds, value=result.run.seed, visible=len(seeds) > 1),
        gr.update(value=result.part, visible=result.both_parts),
        gr.update(visible=True),
        drawn(mistakes_figure(result)) if tested else "",
        mistakes(result, None, 0) if tested else Html(""),
        drawn(per_class(result)) if tested else "",
        sureness(result) if tested else Html(""),
        drawn(sureness_figure(result)) if tested else "",
        drawn(loss),
        drawn(accuracy),
        settings,
        *defects.shown(result.workspace, result.run),
    ]


def wrong(workspace: Workspace, key: str, seed: Any, part: str, cell: Any, first: int) -> Html:
    """The images that were wrong, or of one cell, of the result called `key`."""
    result = find_result(workspace, key, seed, part)
    return mistakes(result, cell, first) if result and result.run else Html("")


def picture(path: str, map_: str = "") -> str:
    """A small view of an image file as an address, under a map of defects where one is given (a PNG file as Base64).

    Empty where the file cannot be read.
    """
    try:
        image = load_image(Path(path))
    except PromptloupeError:
        return ""
    image.thumbnail((320, 320))
    if map_:
        image = defects.laid_over(image, load_image(b64decode(map_)))
    return picture_url(image)
