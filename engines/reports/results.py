"""The results that a report is about: their runs, their numbers with intervals, what they are called. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from engines.errors import ConfigError
from engines.prompts.catalog import MethodEntry, method_catalog
from engines.reports.colours import READY_MADE, distinct_colours
from engines.reports.sentences import Interval, interval, wilson
from engines.reports.svg import Bar
from engines.reports.words import counted, moment
from engines.store import Run, Workspace
from engines.store.agreement import READY_MADE as READY_KEY
from engines.store.agreement import agreement
from engines.store.browse import classes
from engines.store.run_queries import Experiment, experiment, runs_by_id

READY_NAME = "Ready-made prompt"
MOST = 6
"""Results that are compared at once."""
CLEAR = 0.05
"""p below which a difference is called surprising."""


@dataclass(frozen=True)
class Result:
    """Runs that differ by the seed alone; or the ready-made prompt, whose numbers these runs carry."""

    key: str
    name: str
    colour: str
    runs: list[Run]
    """Those that are done, by seed."""
    entry: MethodEntry | None
    """The method; None where this program no longer has it, and of the ready-made prompt."""

    @property
    def ready_made(self) -> bool:
        return self.key == READY_KEY

    @property
    def summary(self) -> dict[str, Any]:
        """Of the first seed."""
        return self.summaries[0]

    @property
    def summaries(self) -> list[dict[str, Any]]:
        return [run.summary.get("zero_shot", {}) if self.ready_made else run.summary for run in self.runs]

    @property
    def trains(self) -> bool:
        return not self.ready_made and (self.entry is None or self.entry.trains)

    @property
    def images(self) -> int:
        """Test images, those of new classes included."""
        return int(self.runs[0].summary.get("images", 0)) + int(self.runs[0].summary.get("new", {}).get("images", 0))

    def interval(self, number: str = "", images: int | None = None) -> Interval | None:
        """A share with its uncertainty: ± the standard deviation over the seeds, of one seed Wilson's interval.

        Args:
            number: its name in the summary; the score where empty.
            images: that were tested for it; all where None.
        """
        found = [_number(summary, number) for summary in self.summaries]
        shares = [share for share in found if share is not None]
        if not shares:
            return None
        return interval(shares[:1] if self.ready_made else shares, self.images if images is None else images)

    def bar(self) -> Bar | None:
        found = self.interval()
        return Bar(self.name, found.value, found.low, found.high, self.colour) if found else None

    def class_bars(self) -> dict[str, Bar]:
        """By class name: the share right, mean over seeds, with Wilson's interval over the class's test images."""
        found: dict[str, list[dict[str, Any]]] = {}
        never = set(self.runs[0].summary.get("new", {}).get("class_names", []))
        for summary, run in zip(self.summaries, self.runs, strict=True):
            new = run.summary.get("new", {})
            for row in [
                *summary.get("per_class", []),
                *(new.get("zero_shot", new) if self.ready_made else new).get("per_class", []),
            ]:
                found.setdefault(row["name"], []).append(row)
        bars = {}
        for name, rows in found.items():
            share, count = fmean(row["accuracy"] for row in rows), int(rows[0]["count"])
            bars[name] = Bar(self.name, share, *wilson(share * count, count), self.colour, name in never)
        return bars

    def class_counts(self) -> dict[str, int]:
        """Test images by class name."""
        whole = self.runs[0].summary
        rows = [*whole.get("per_class", []), *whole.get("new", {}).get("per_class", [])]
        return {row["name"]: int(row["count"]) for row in rows}


def _number(summary: dict[str, Any], name: str) -> float | None:
    value = summary.get(name) if name else summary.get("harmonic_mean", summary.get("accuracy"))
    return float(value) if isinstance(value, int | float) else None


def find_results(workspace: Workspace, keys: Sequence[str]) -> list[Result]:
    """Results by the keys of their experiments, or by a run's id for one seed alone; in their order.

    Raises:
        ConfigError: one does not exist or is not done, there are too many, or they are of different data sets.
    """
    keys = list(dict.fromkeys(keys))
    if len(keys) > MOST:
        raise ConfigError(f"{len(keys)} results are too many for one report.", f"Choose at most {MOST}.")
    found = [_find(workspace, key) for key in keys]
    if len({each.dataset_id for each, _ in found}) > 1:
        raise ConfigError("These results are of different images.", "Compare results of the same data set.")
    entries = {entry.name: entry for entry in method_catalog()}
    names, colours = _names([each for each, _ in found], entries), distinct_colours([each.method for each, _ in found])
    return [
        Result(key, name, colour, runs, entries.get(each.method))
        for key, (each, runs), name, colour in zip(keys, found, names, colours, strict=True)
    ]


def ready_made(of: Result) -> Result:
    """The ready-made prompt on the same test images as a result."""
    return Result(READY_KEY, READY_NAME, READY_MADE, of.runs, None)


def _find(workspace: Workspace, key: str) -> tuple[Experiment, list[Run]]:
    found = experiment(workspace, key) or _of_run(workspace, key)
    if found is None:
        raise ConfigError(f"There is no result “{key}”.", "List them with: promptloupe runs. It may be in the bin.")
    wanted = [key] if key in found.all_ids else [line.id for line in found.done]
    runs = [run for run in runs_by_id(workspace, wanted) if run.state == "done" and run.summary]
    if not runs:
        raise ConfigError(f"“{found.name}” is not finished, so there is nothing to report yet.", "Wait for it.")
    return found, runs


def _of_run(workspace: Workspace, run_id: str) -> Experiment | None:
    run = next(iter(runs_by_id(workspace, [run_id])), None)
    return experiment(workspace, run.experiment or run.id) if run else None


def _names(found: Sequence[Experiment], entries: dict[str, MethodEntry]) -> list[str]:
    """Names that tell the results apart; with the date only where nothing shorter does."""
    kinds = {"few-shot": "", "unsupervised": "", "base-to-new": "base / new"}
    short = []
    for each in found:
        entry = entries.get(each.method)
        images = f"{each.shots} per class" if each.shots else ""
        parts = [entry.title if entry else each.method, images, kinds.get(each.protocol, each.protocol)]
        short.append(", ".join(filter(None, parts)))
    dated = [f"{n} ({moment(e.created_at)})" if short.count(n) > 1 else n for e, n in zip(found, short, strict=True)]
    return [f"{n} [{place}]" if dated.count(n) > 1 else n for place, n in enumerate(dated, 1)]


def class_names(workspace: Workspace, run: Run) -> list[str]:
    """Names by the positions that the answers of a run use."""
    own = [*run.summary.get("class_names", []), *run.summary.get("new", {}).get("class_names", [])]
    names = [c.name for c in classes(workspace, run.dataset_id)] if run.dataset_id else []
    return names if set(own) <= set(names) else own


def best_two(results: Sequence[Result]) -> tuple[Result, Result]:
    """The two with the highest scores, the best first; of equal ones the earlier."""
    first, second, *_ = sorted(results, key=lambda each: -(found.value if (found := each.interval()) else -1.0))
    return first, second


def same_seed(first: Result, second: Result) -> tuple[str, str] | None:
    """For `engines.store.agreement`: a run of each with the same seed; the ready-made prompt goes with any."""
    if first.ready_made or second.ready_made:
        carrier = (second if first.ready_made else first).runs[0].id
        return (READY_KEY, carrier) if first.ready_made else (carrier, READY_KEY)
    other = {run.seed: run.id for run in second.runs}
    return next(((run.id, other[run.seed]) for run in first.runs if run.seed in other), None)


def difference_sentence(workspace: Workspace, first: Result, second: Result) -> str:
    """Whether one of two results is better, image by image, and whether that can be chance (McNemar's test)."""
    pair = same_seed(first, second)
    found = agreement(workspace, *pair) if pair else None
    if found is None:
        return (
            f"“{first.name}” and “{second.name}” were not tested on the same images with the same seed, so they cannot"
            " be compared image by image."
        )
    better, worse = (first, second) if found.first_only >= found.second_only else (second, first)
    more, fewer = max(found.first_only, found.second_only), min(found.first_only, found.second_only)
    rest = f"Both are right on {found.both:,} images, both wrong on {found.neither:,}."
    if more == fewer:
        return f"“{first.name}” and “{second.name}” got equally many of {counted(found.images, 'image')} right. {rest}"
    p = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    chance = (
        f"So uneven a difference would be surprising by chance ({p})."
        if found.p_value < CLEAR
        else f"That may well be chance ({p})."
    )
    return (
        f"“{better.name}” is right on {more:,} of {counted(found.images, 'image')} where “{worse.name}” is wrong, and"
        f" wrong on {fewer:,} where it is right. {chance} {rest}"
    )
