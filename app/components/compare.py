"""Results side by side: which there are, what they are called, and what they said of the same test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.components.figures import READY_MADE as GREY
from app.components.figures import Bar
from app.components.methods import method_title
from app.components.results import interval
from app.components.runs import changed_settings
from app.components.words import moment, percent
from engines.inspection.answers import Answers, read_answers
from engines.reports.colours import distinct_colours
from engines.store import Run, Workspace
from engines.store.agreement import READY_MADE
from engines.store.run_queries import Experiment, experiments, runs_by_id

MOST = 6
"""Results that are compared at once, the ready-made prompt among them."""
READY_NAME = "Ready-made prompt"


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
    """Names that tell results of one data set apart; their own names or settings only where nothing shorter does."""
    short, own = [_short(each) for each in found], [each.name for each in found]

    def longer(each: Experiment, name: str) -> str:
        if short.count(name) == 1:
            return name
        if own.count(each.name) == 1:
            return each.name
        changed = changed_settings(each)
        return f"{name}, {changed}" if changed else name

    full = [longer(each, name) for each, name in zip(found, short, strict=True)]
    return [f"{n} ({moment(e.created_at)})" if full.count(n) > 1 else n for e, n in zip(found, full, strict=True)]


def _short(each: Experiment) -> str:
    images = f"{each.shots} per class" if each.shots else ""
    kind = {"few-shot": "", "base-to-new": "base / new", "unsupervised": ""}.get(each.protocol, each.protocol)
    return ", ".join(filter(None, [method_title(each.method), images, kind]))


def compared(workspace: Workspace, keys: Sequence[str], dataset: str) -> list[Compared]:
    """The chosen results that are done, the ready-made prompt first."""
    known = {e.key: e for e in experiments(workspace) if e.dataset == dataset}
    chosen = [known[key] for key in list(dict.fromkeys(keys))[: MOST - 1] if key in known]
    colours = distinct_colours([each.method for each in chosen])
    found = []
    for each, name, colour in zip(chosen, names_of(chosen), colours, strict=True):
        if runs := runs_by_id(workspace, [line.id for line in each.done]):
            found.append(Compared(each.key, name, colour, runs))
    if found:
        found.insert(0, Compared(READY_MADE, READY_NAME, GREY, found[0].runs))
    return found


@dataclass(frozen=True)
class Seed:
    """One seed of two results on the images that both were tested on."""

    number: int
    first: Answers
    second: Answers


def answers_of(workspace: Workspace, each: Compared, run: Run) -> Answers | None:
    """What a result said in one of its runs; of the ready-made prompt what that run carries of it."""
    return read_answers(workspace, run.id, each.ready_made)


def paired(workspace: Workspace, first: Compared, second: Compared) -> list[Seed]:
    """The answers of two results, seed by seed; the ready-made prompt goes with every seed of the other."""
    mine = {run.seed: run for run in (second if first.ready_made else first).runs}
    theirs = {run.seed: run for run in (first if second.ready_made else second).runs}
    found = []
    for seed in sorted(mine.keys() & theirs.keys()):
        one, other = answers_of(workspace, first, mine[seed]), answers_of(workspace, second, theirs[seed])
        if one is not None and other is not None:
            found.append(Seed(seed, one, other))
    return found


def together(workspace: Workspace, found: Sequence[Compared]) -> tuple[int, list[Answers]]:
    """(seed, answers of every result in it): a seed that all have, else the first of each (and seed 0)."""
    common = set.intersection(*({run.seed for run in each.runs} for each in found if not each.ready_made))
    seed = min(common, default=0)
    rows = []
    for each in found:
        run = next((run for run in each.runs if run.seed == seed), each.runs[0])
        if (answers := answers_of(workspace, each, run)) is not None:
            rows.append(answers)
    return seed, rows if len(rows) == len(found) else []
