"""What the Shift page says: which runs it offers, its sentences, what to look for in each figure, its galleries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select

from app.components.compare import names_of
from app.components.gallery import PAGE_SIZE, Cell, grid, pager, thumbnail_url, viewer
from app.components.html import Html, fold, join, section, tag, term
from app.components.jobs import progress
from app.components.methods import methods
from app.components.shift_map import said
from app.components.words import counted, percent
from engines.inspection.map_answers import MapRequest, RunMap
from engines.inspection.shift_answers import ShiftAnswer
from engines.store import Job, JobState, Run, Sample, Workspace
from engines.store.agreement import answers_to
from engines.store.browse import classes
from engines.store.run_queries import Experiment, experiments

KINDS = ("inspect_shift", "inspect_map")
OPEN = (JobState.QUEUED, JobState.RUNNING)
NO_WORDS = {"zero-shot", "linear-probe"}
"""Methods that have no learned words and move no image."""
SHOWN_MOST = 24
"""Most shifted images on show."""
MOST_OFFERED = 200
SELECT = "Draw a loop or a box around points: their images appear here."
WORDS_TERM = term("words", "Feature shift of the text tower: 1 - cosine of a class's text before and after the prompt.")
IMAGES_TERM = term("images", "Feature shift of the image tower: 1 - cosine of an image before and after the prompt.")
GAP_TERM = term("gap", "Inter-modal discrepancy (RESTORE): how much farther one tower moved than the other.")


@dataclass(frozen=True)
class Guide:
    """What stands beside a figure."""

    title: str
    look: Html | str
    worry: Html | str

    def beside(self, style: str = "") -> Html:
        parts = [("What to look for", self.look), ("What would be worrying", self.worry)]
        return tag(
            "div", *(tag("div", tag("h3", head), tag("p", text)) for head, text in parts), class_=f"pl-guide {style}"
        )

    def head(self) -> Html:
        return section(self.title)


GUIDES = {
    "classes": Guide(
        "Which classes moved",
        join(
            [
                "Each row is a class: one dot for its ",
                WORDS_TERM,
                ", one for its ",
                IMAGES_TERM,
                ". Two dots close together moved in step; the bar between them is the ",
                GAP_TERM,
                ". Filled: classes it was trained on. Hollow: classes it never saw.",
            ]
        ),
        "Long bars, above all on hollow dots: there the prompt changed what the words mean and the images did not"
        " follow, or the reverse. One class far outside the others deserves a look at its images.",
    ),
    "course": Guide(
        "When they moved",
        "Curves that climb in the first passes and then level off: the prompt has found its place.",
        "A gap that still grows at the end, while the accuracy on the Runs page does not: train for fewer passes. Both"
        " towers far away from 0 mean that much of what the model knew was overwritten, even where the gap is small.",
    ),
    "depth": Guide(
        "Where inside the model",
        "Block 1 sees the input first, the last block gives the answer. Moves usually grow from left to right. The band"
        " is how much single images or classes differ (one standard deviation); the bars below are the gap with its 95%"
        " interval.",
        "A jump in one block of one tower only, or a wide band: some images are treated quite unlike others.",
    ),
    "map": Guide(
        "Before and after on one map",
        "Near means alike to the model. Stars are the words of a class, dots its images. You hope for stars amid the"
        " dots of their own colour, and arrows that lead there. Draw a loop around dots to see their images; hover"
        " for one. Distances between far islands, and the axes, mean little.",
        "Stars that leave their own dots, islands that run into each other, hollow dots (classes it never saw) that"
        " moved into a foreign island.",
    ),
    "relation": Guide(
        "Does the gap cost accuracy?",
        "Each dot is a run. RESTORE’s claim is that dots further to the right lie lower, on classes that were not seen"
        " in training. From five runs on the rank correlation is given.",
        "A clear slope downwards. No slope is no proof that all is well: with few runs chance rules, so add seeds and"
        " methods before you believe either.",
    ),
    "images": Guide(
        "The images that moved most",
        "Under each image its class, then what the ready-made prompt said and what the learned one says.",
        "Right before and wrong now; or images that are odd as such (blurred, another stain, a wrong label): then the"
        " prompt learned from something else than you wanted.",
    ),
}


# --- what can be chosen ---


def runs_offered(workspace: Workspace, dataset: str | None) -> list[tuple[str, str]]:
    """(name, run id) of the finished runs on a data set that learned words or moved images, newest first."""
    offered = []
    for name, each in _results(workspace, dataset):
        for line in each.done:
            seed = f", seed {line.seed}" if len(each.done) > 1 else ""
            offered.append((f"{name}{seed}: {percent(line.harmonic_mean or line.accuracy)}", line.id))
    return offered[:MOST_OFFERED]


def results_offered(workspace: Workspace, dataset: str | None) -> list[tuple[str, str]]:
    """(name, key) of the results, each with all its seeds, that can be compared."""
    return [(name, each.key) for name, each in _results(workspace, dataset)]


def runs_of(workspace: Workspace, keys: Any) -> list[str]:
    """Ids of the finished runs of results; `keys` come from the browser."""
    wanted = {key for key in keys if isinstance(key, str)} if isinstance(keys, list) else set()
    return [line.id for each in experiments(workspace) if each.key in wanted for line in each.done]


def _results(workspace: Workspace, dataset: str | None) -> list[tuple[str, Experiment]]:
    known = methods()
    found = [e for e in experiments(workspace) if e.dataset == dataset and e.done and e.method not in NO_WORDS]
    found = [e for e in found if e.method not in known or known[e.method].learns_from != "masks"]
    return list(zip(names_of(found), found, strict=True))


def datasets_offered(workspace: Workspace) -> list[str]:
    """Names of the data sets with runs to look into, those with the newest first."""
    names = dict.fromkeys(e.dataset for e in experiments(workspace) if e.done and e.dataset)
    return [name for name in names if runs_offered(workspace, name)]


# --- jobs ---


def jobs_of(workspace: Workspace, run_id: str) -> list[Job]:
    """The newest job of each kind that looks into a run, and those at work for others; oldest first."""
    newest = select(Job).where(Job.kind.in_(KINDS)).order_by(Job.created_at.desc(), Job.id.desc()).limit(100)
    with workspace.session() as session:
        rows = list(session.scalars(newest))
    shown: dict[str, Job] = {}
    for job in rows:
        if run_id in (job.payload.get("run_id"), *job.payload.get("run_ids", [])):
            shown.setdefault(job.kind, job)
        elif not job.state.ended:
            shown[job.id] = job
    return sorted(shown.values(), key=lambda job: (job.created_at, job.id))


def being_made(workspace: Workspace, wanted: MapRequest) -> bool:
    """Whether that map is queued or being made."""
    payloads = _payloads(workspace, "inspect_map")
    return any(all(each.get(name) == value for name, value in wanted.model_dump().items()) for each in payloads)


def being_measured(workspace: Workspace) -> set[str]:
    """Ids of the runs whose shift is queued or being measured."""
    return {run_id for each in _payloads(workspace, "inspect_shift") for run_id in each.get("run_ids", [])}


def _payloads(workspace: Workspace, kind: str) -> list[dict[str, Any]]:
    with workspace.session() as session:
        return list(session.scalars(select(Job.payload).where(Job.kind == kind, Job.state.in_(OPEN))))


def working(found: Sequence[Job], known: Collection[str]) -> Html:
    """Jobs as blocks with progress and cancel: those at work, and those that failed or were cancelled.

    Args:
        known: kinds whose answer is there all the same, so that nobody needs to try again.
    """
    return join(
        progress(job) for job in found if job.state is not JobState.DONE and not (job.state.ended and job.kind in known)
    )


def stamp(found: Sequence[Job]) -> tuple[tuple[str, str], ...]:
    """Changes when one of the jobs begins or ends."""
    return tuple((job.id, job.state.value) for job in found)


# --- what came out ---


def told(answer: ShiftAnswer) -> Html:
    """The answer in words: the first sentence large, how it was measured folded."""
    first, *more = answer.sentences
    notes = [*answer.notes, *filter(None, [answer.trajectory_reason])]
    return tag(
        "div",
        tag("p", first, class_="pl-sentence"),
        *(tag("p", sentence) for sentence in more),
        fold("How this was measured", tag("ul", *(tag("li", note) for note in notes))) if notes else "",
        class_="pl-told",
    )


def class_names(workspace: Workspace, dataset_id: int | None) -> list[str]:
    return [each.name for each in classes(workspace, dataset_id)] if dataset_id else []


def most_shifted(workspace: Workspace, run: Run, answer: ShiftAnswer) -> Html:
    """The images that moved most, with the ready-made and the learned answer."""
    moved = [each for each in answer.samples if each.shift > 0][:SHOWN_MOST]
    if not moved:
        return tag("p", "No image moved: this method leaves the image tower as it is.", class_="pl-quiet")
    names, answers = class_names(workspace, run.dataset_id), answers_to(workspace, run.id, [m.sample_id for m in moved])
    samples = _samples(workspace, [each.sample_id for each in moved])
    cells = []
    for each in moved:
        if (sample := samples.get(each.sample_id)) is None:
            continue
        before, after = answers.get(each.sample_id, (-1, -1))
        said_of = " → ".join(names[place] for place in (before, after) if 0 <= place < len(names))
        true = names[each.class_position] if each.class_position < len(names) else ""
        marks = _verdict(before, after, each.class_position)
        caption = [tag("b", true), tag("span", said_of), tag("span", f"moved by {each.shift:.3f}{marks}")]
        image = tag("img", src=thumbnail_url(workspace, sample), alt=f"{true}: {sample.name}", loading="lazy")
        cells.append(tag("figure", tag("span", image, class_="pl-frame"), tag("figcaption", *caption)))
    return tag("div", *cells, class_="pl-answers")


def selection(workspace: Workspace, found: RunMap, ids: Sequence[int], first: int, opened: int | None) -> Html:
    """The images inside the loop, a page of them, and one of them large."""
    if not ids:
        return tag("p", SELECT, class_="pl-quiet")
    place = {sample: row for row, sample in enumerate(found.samples.tolist())}
    known = [each for each in ids if each in place]
    first = max(0, min(first, (len(known) - 1) // PAGE_SIZE * PAGE_SIZE)) if known else 0
    page = known[first : first + PAGE_SIZE]
    samples = _samples(workspace, [*page, *([opened] if opened else [])])
    cells = [
        Cell(
            each,
            thumbnail_url(workspace, samples[each]),
            f"{said(found, place[each])}",
            said(found, place[each]),
            each == opened,
        )
        for each in page
        if each in samples
    ]
    labels = found.labels[[place[each] for each in known]]
    common = [f"{found.classes[c]} {int((labels == c).sum())}" for c in _most_common(labels)]
    if (others := len(np.unique(labels)) - len(common)) > 0:
        common.append(f"and of {counted(others, 'more class', 'more classes')}")
    head = tag("p", tag("strong", f"{counted(len(known), 'image')} selected: "), ", ".join(common))
    large = ""
    if opened in samples and opened in place:
        large = viewer(workspace, samples[opened], said(found, place[opened]))
    body = tag("div", tag("div", grid(cells)), large, class_=f"pl-browse {'open' if large else ''}")
    return join([head, pager(first, len(page), len(known), keys=False) if len(known) > PAGE_SIZE else "", body])


def _most_common(labels: np.ndarray) -> list[int]:
    values, counts = np.unique(labels, return_counts=True)
    return [int(values[place]) for place in np.argsort(-counts, kind="stable")[:6]]


def _verdict(before: int, after: int, true: int) -> str:
    if before < 0 or after < 0 or (before == true) == (after == true):
        return ""
    return ", now right" if after == true else ", now wrong"


def _samples(workspace: Workspace, ids: Sequence[int]) -> dict[int, Sample]:
    with workspace.session() as session:
        return {sample.id: sample for sample in session.scalars(select(Sample).where(Sample.id.in_(ids)))}
