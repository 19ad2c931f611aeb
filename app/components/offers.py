"""What can be trained with the images at hand: data sets, methods, protocols, and what can be tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.components.choices import PROTOCOLS
from app.components.html import Html, empty_state, link
from app.components.icons import BARS
from app.components.jobs import bar
from app.components.methods import method_cards, methods
from engines import jobs
from engines.errors import DataError
from engines.prompts.catalog import MethodEntry
from engines.runs.defects import has_marks, normal_class
from engines.runs.request import has_labels
from engines.store import Workspace
from engines.store.browse import classes, dataset_summaries, domains

NO_MARKS = (
    "Needs images of other things whose defects were marked by hand, to learn what a defect is: these have no marks."
    " Import some as folders in the layout of MVTec AD, or as a folder “images” beside a folder “masks”."
)


def trainable_datasets(workspace: Workspace) -> dict[str, int]:
    """Ids of the data sets by their names with their sizes, newest first."""
    return {f"{d.name} ({d.images:,} images)": d.id for d in dataset_summaries(workspace) if d.images}


def no_images(workspace: Workspace) -> Html:
    coming = [job for job in jobs.active(workspace) if job.kind in ("import", "sample")]
    if coming:
        return empty_state(BARS, "The images are on their way. This page goes on when they are here.", bar(coming[0]))
    return empty_state(
        BARS,
        "Results will stand here. First load images: the sample set of blood cells is ready at once.",
        link("Load images", "data", "pl-button primary"),
    )


def cards(workspace: Workspace, dataset_id: Any, chosen: str, refused: Mapping[str, str]) -> Html:
    """The methods; greyed where the model (`refused`, with reasons) or the images cannot carry one."""
    reasons = dict(refused)
    if isinstance(dataset_id, int):
        sites = len(domains(workspace, dataset_id))
        with workspace.session() as session:
            labelled, marked = has_labels(session, dataset_id), has_marks(session, dataset_id)
        for entry in methods().values():
            if reason := _lacking(entry, labelled, sites, marked):
                reasons.setdefault(entry.name, reason)
    return method_cards(list(methods().values()), chosen, reasons)


def _lacking(entry: MethodEntry, labelled: bool, sites: int, marked: bool) -> str:
    """What a method needs and the images do not have; empty where nothing is missing."""
    if not entry.trains:
        return ""
    if entry.learns_from == "masks":
        return "" if marked else NO_MARKS
    if entry.learns_from == "domains" and sites < 2:
        return "Needs images of at least two sites or scanners: these do not say where they are from."
    if entry.learns_from != "unlabelled" and not labelled:
        return "Needs labelled images to learn from: these have no labels yet."
    return ""


def protocols_for(entry: MethodEntry, sites: int, others: int) -> dict[str, str]:
    """The protocols that a method can follow, by their words.

    Args:
        sites: number of domains in the data set.
        others: number of other data sets with labels.
    """
    possible = {"domain-generalisation": sites > 1 or entry.learns_from == "domains", "cross-dataset": others > 0}
    fits = [name for name in entry.protocols if possible.get(name, True)]
    if not entry.trains:
        fits = [name for name in fits if name not in ("unsupervised", "zero-shot-anomaly")]
    return {words: name for words, name in PROTOCOLS.items() if name in fits}


def target_choices(workspace: Workspace, dataset_id: Any, protocol: str) -> list[tuple[str, Any]]:
    """(name, value) of what a protocol can test on: domains by name, data sets by number."""
    if protocol == "domain-generalisation" and isinstance(dataset_id, int):
        return [(name or "not said", name) for name in domains(workspace, dataset_id)]
    if protocol in ("cross-dataset", "zero-shot-anomaly"):
        others = [d for d in dataset_summaries(workspace) if d.id != dataset_id and d.classes]
        return [(d.name, d.id) for d in others if protocol == "cross-dataset" or _has_normal(workspace, d.id)]
    return []


def _has_normal(workspace: Workspace, dataset_id: int) -> bool:
    """Whether a data set says which of its images are normal."""
    try:
        normal_class([each.name for each in classes(workspace, dataset_id)])
    except DataError:
        return False
    return True


def fitting_targets(chosen: Any, choices: Sequence[tuple[str, Any]], protocol: str) -> list[Any]:
    """Those of the `chosen` targets that exist; where none does, the last site or all other data sets."""
    known = [value for _, value in choices]
    kept = [value for value in chosen if value in known] if isinstance(chosen, list) else []
    if kept or protocol == "zero-shot-anomaly":
        return kept
    return known[-1:] if protocol == "domain-generalisation" else known
