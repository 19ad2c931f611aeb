"""Results side by side: the table, the sentence on chance, the classes, the images on which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from app.components.class_figures import NUMBERED_CELLS
from app.components.figures import HEIGHT, Bar, Figure, accuracy_bars, figure, method_colour, plain
from app.components.figures import READY_MADE as GREY
from app.components.gallery import pager, thumbnail_url
from app.components.html import Html, join, notice, table, tag
from app.components.methods import method_title
from app.components.results import interval
from app.components.runs import changed_settings
from app.components.words import counted, duration, moment, number, percent
from engines.store import Run, Workspace
from engines.store.agreement import READY_MADE, Agreement, Disagreement, agreement
from engines.store.run_queries import Experiment, experiments, runs_by_id

MOST = 6
"""Results that are compared at once."""
READY_NAME = "Ready-made prompt"
CLEAR = 0.05


@dataclass(frozen=True)
class Compared:
    """One result in the comparison; the ready-made prompt has no experiment."""

    key: str
    name: str
    colour: str
    runs: list[Run]
    """Those that are done, by seed; of the ready-made prompt those that carry it."""

    @property
    def ready_made(self) -> bool:
        return self.key == READY_MADE

    def summaries(self) -> list[dict[str, Any]]:
        return [run.summary["zero_shot"] if self.ready_made else run.summary for run in self.runs]

    def score(self, summary: dict[str, Any]) -> float:
        return float(summary.get("harmonic_mean", summary["accuracy"]))

    def bar(self) -> Bar:
        scores = [self.score(summary) for summary in self.summaries()]
        found = interval(scores[:1] if self.ready_made else scores, tested(self.runs[0]))
        return Bar(self.name, found.value, found.low, found.high, self.colour)


def tested(run: Run) -> int:
    """Number of test images of a run."""
    return int(run.summary.get("images", 0)) + int(run.summary.get("new", {}).get("images", 0))


def offered(workspace: Workspace, dataset: str) -> list[tuple[str, str]]:
    """(name, key) of the results that are done on a data set, newest first."""
    found = [e for e in experiments(workspace) if e.dataset == dataset and e.done and e.score is not None]
    found = [e for e in found if e.method != "zero-shot"]
    return [(f"{name}: {percent(e.score)}", e.key) for e, name in zip(found, names_of(found), strict=True)]


def datasets_with_results(workspace: Workspace) -> list[str]:
    """Names of the data sets that have results, those with the newest first."""
    return list(dict.fromkeys(e.dataset for e in experiments(workspace) if e.done and e.dataset))


def names_of(found: Sequence[Experiment]) -> list[str]:
    """Names that tell results of one data set apart; their settings only where nothing shorter does."""
    short = [_short(each) for each in found]
    changed = [changed_settings(each) for each in found]
    full = [f"{n}, {more}" if more and short.count(n) > 1 else n for n, more in zip(short, changed, strict=True)]
    return [f"{n} ({moment(e.created_at)})" if full.count(n) > 1 else n for e, n in zip(found, full, strict=True)]


def _short(each: Experiment) -> str:
    images = f"{each.shots} per class" if each.shots else ""
    kind = {"few-shot": "", "base-to-new": "base / new", "unsupervised": ""}.get(each.protocol, each.protocol)
    return ", ".join(filter(None, [method_title(each.method), images, kind]))


def compared(workspace: Workspace, keys: Sequence[str], dataset: str) -> list[Compared]:
    """The chosen results that are done, the ready-made prompt first."""
    known = {e.key: e for e in experiments(workspace) if e.dataset == dataset}
    chosen = [known[key] for key in list(dict.fromkeys(keys))[:MOST] if key in known]
    found = []
    for each, name in zip(chosen, names_of(chosen), strict=True):
        if runs := runs_by_id(workspace, [line.id for line in each.done]):
            found.append(Compared(each.key, name, method_colour(each.method), runs))
    if found:
        found.insert(0, Compared(READY_MADE, READY_NAME, GREY, found[0].runs))
    return found


def ranking(found: Sequence[Compared]) -> tuple[Html, Figure]:
    """The table, best first, and the bars with their uncertainty."""
    ordered = sorted(found, key=lambda each: each.bar().value, reverse=True)
    rows = []
    for each in ordered:
        bar, learned = each.bar(), None if each.ready_made else each.runs
        spread = f"±{50 * (bar.high - bar.low):.1f}"
        seconds = fmean(run.summary.get("train_seconds", 0.0) for run in learned) if learned else 0.0
        rows.append(
            [
                join([tag("i", class_="pl-dot-method", style=f"background:{each.colour}"), each.name]),
                join([percent(bar.value), tag("span", spread, class_="pl-spread")]),
                str(len(learned)) if learned else "–",
                number(int(learned[0].summary.get("images_trained", 0))) if learned else "–",
                duration(seconds) if seconds else "–",
            ]
        )
    heads = ["Result", "Right>", "Seeds>", "Learned from (images)>", "Training>"]
    return table(heads, rows), accuracy_bars([each.bar() for each in ordered], "Test images it got right")


def pair_sentence(workspace: Workspace, first: Compared, second: Compared) -> Html:
    """Whether one of two results is better, and whether that can be chance, in words (McNemar's test)."""
    found = _counted(workspace, first, second)
    if found is None:
        what = "These two were not tested on the same images, so they cannot be compared image by image."
        return notice("info", what, "Compare results of the same data set and protocol that were made lately.")
    better, worse = (first, second) if found.first_only >= found.second_only else (second, first)
    more, fewer = max(found.first_only, found.second_only), min(found.first_only, found.second_only)
    if more == fewer:
        return notice("info", f"“{first.name}” and “{second.name}” got equally many images right.", _counts(found))
    what = (
        f"“{better.name}” is right on {counted(more, 'image')} of {number(found.images)} where “{worse.name}” is wrong,"
        f" and wrong on {number(fewer)} where it is right."
    )
    p = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    if found.p_value < CLEAR:
        return notice("good", what, f"So uneven a difference would be surprising by chance ({p}). {_counts(found)}")
    return notice("info", what, f"That may well be chance ({p}): test on more images. {_counts(found)}")


def same_seed(first: Compared, second: Compared) -> tuple[str, str] | None:
    """Ids of a run of each with the same seed; the ready-made prompt goes with the other's first run."""
    if first.ready_made or second.ready_made:
        carrier = (second if first.ready_made else first).runs[0].id
        return carrier, carrier
    other = {run.seed: run.id for run in second.runs}
    return next(((run.id, other[run.seed]) for run in first.runs if run.seed in other), None)


def _counted(workspace: Workspace, first: Compared, second: Compared) -> Agreement | None:
    runs = same_seed(first, second)
    if runs is None:
        return None
    one, other = (READY_MADE if c.ready_made else run for c, run in zip((first, second), runs, strict=True))
    return agreement(workspace, one, other)


def _counts(found: Agreement) -> str:
    return f"Both right on {number(found.both)}, both wrong on {number(found.neither)}."


def class_map(found: Sequence[Compared]) -> Figure | None:
    """Share right in every class by every result, mean over seeds; classes never seen included."""
    shares = [_by_class(each) for each in found]
    names = list(dict.fromkeys(name for one in shares for name in one))
    if not names:
        return None
    data: dict[str, Any] = {
        "type": "heatmap",
        "z": [[one.get(name) for one in shares] for name in names],
        "zmin": 0,
        "zmax": 1,
        "colorscale": "Viridis",
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "%{y}, %{x}: %{z:.1%}<extra></extra>",
        "x": [plain(each.name, 30) for each in found],
        "y": [plain(name, 32) for name in names],
        "colorbar": {"tickformat": ".0%", "thickness": 12, "outlinewidth": 0, "len": 1},
    }
    if len(names) * len(found) < NUMBERED_CELLS:
        data["texttemplate"] = "%{z:.0%}"
    height = min(900, max(HEIGHT, 150 + 28 * len(names)))
    return figure(
        [data], "", yaxis={"autorange": "reversed", "showgrid": False}, xaxis={"showgrid": False}, height=height
    )


def _by_class(each: Compared) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for summary in each.summaries():
        new = summary.get("new", {}) if not each.ready_made else {}
        for row in [*summary.get("per_class", []), *new.get("per_class", [])]:
            values.setdefault(row["name"], []).append(row["accuracy"])
    if each.ready_made and (new := each.runs[0].summary.get("new")):
        for row in new.get("zero_shot", {}).get("per_class", []):
            values.setdefault(row["name"], []).append(row["accuracy"])
    return {name: fmean(found) for name, found in values.items()}


def differing(
    workspace: Workspace,
    found: Sequence[Disagreement],
    total: int,
    first: int,
    results: Sequence[Compared],
    names: Sequence[str],
) -> Html:
    """The images on which the results differ, with what each says; right answers ticked."""
    if not total:
        return tag("p", "They answer every test image alike.", class_="pl-quiet")
    cells = [_differing(workspace, each, results, names) for each in found]
    head = tag("h3", f"{counted(total, 'image')} on which they do not agree")
    return tag("div", head, tag("div", *cells, class_="pl-answers"), pager(first, len(found), total, 24))


def _differing(workspace: Workspace, each: Disagreement, results: Sequence[Compared], names: Sequence[str]) -> Html:
    lines = [
        tag(
            "span",
            tag("i", class_="pl-dot-method", style=f"background:{result.colour}"),
            f"{'✓' if said == each.true else '✗'} {names[said] if said < len(names) else '?'}",
            title=result.name,
        )
        for said, result in zip(each.said, results, strict=True)
    ]
    true = names[each.true] if each.true < len(names) else "?"
    image = tag("img", src=thumbnail_url(workspace, each.sample), alt=f"{true}", loading="lazy")
    return tag("figure", tag("span", image, class_="pl-frame"), tag("figcaption", tag("b", true), *lines))
