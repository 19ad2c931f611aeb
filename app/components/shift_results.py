"""Values of the components of the Shift page: what is known of a run, or in words why something is not."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components import shift as views
from app.components import shift_figures as figures
from app.components import shift_map as maps
from app.components.figures import Figure
from app.components.html import Html, notice, tag
from app.components.plot import drawn
from engines.inspection.map_answers import MapRequest, read_map
from engines.inspection.shift_answers import read_shift
from engines.inspection.shift_relation import shift_against_accuracy
from engines.store import Workspace
from engines.store.run_queries import runs_by_id

TO_MEASURE = "Not measured yet: press “Measure what moved”. It takes about as long as testing the prompt did."
NO_MAP = "There is no map of this yet. Press “Measure what moved”."
BEING_MADE = "The map is being made; its progress stands above."
NO_COURSE = "Of this training no moments were kept, so its course cannot be shown."
NO_BLOCKS = "Its blocks cannot be told apart."


def shift_values(workspace: Workspace, run_id: str | None) -> list[Any]:
    """Whether the run was measured; its sentences; the figure of classes; of the training and of the blocks each
    whether there is a figure, the figure, and why there is none; the most shifted images."""
    runs = runs_by_id(workspace, [run_id]) if run_id else []
    answer = read_shift(workspace, runs[0].id) if runs else None
    if answer is None:
        nothing = [drawn(None), *_drawn_or_told(None, ""), *_drawn_or_told(None, ""), Html("")]
        return [gr.update(visible=False), tag("p", TO_MEASURE, class_="pl-quiet"), *nothing]
    run = runs[0]
    course, depth = figures.course_figure(answer, run.method), figures.depth_figure(answer, run.method)
    blocks = " ".join(dict.fromkeys(filter(None, [answer.image_blocks_reason, answer.text_blocks_reason])))
    return [
        gr.update(visible=True),
        views.told(answer),
        drawn(figures.class_figure(answer, run.method)),
        *_drawn_or_told(course, answer.trajectory_reason or NO_COURSE),
        *_drawn_or_told(depth, blocks or NO_BLOCKS),
        views.most_shifted(workspace, run, answer),
    ]


def _drawn_or_told(figure: Figure | None, reason: str) -> list[Any]:
    told = notice("info", reason) if figure is None and reason else Html("")
    return [gr.update(visible=figure is not None), drawn(figure), told]


def relation_values(workspace: Workspace, run_id: str | None, results: Any) -> list[Any]:
    """The figure of gap against accuracy over the runs of some results and the chosen run, and its sentence."""
    run_ids = [*views.runs_of(workspace, results), *([run_id] if run_id else [])]
    runs = runs_by_id(workspace, list(dict.fromkeys(run_ids)))
    relation = shift_against_accuracy(workspace, [run.id for run in runs])
    drawing = figures.relation_figure(relation, {run.id: run.method for run in runs})
    if drawing is None:
        return [drawn(None), notice("info", "No run of these was measured yet.", "Press “Measure these results”.")]
    left = len(relation.missing)
    more = f" {left} of the chosen runs {'is' if left == 1 else 'are'} not measured yet." if left else ""
    return [drawn(drawing), tag("p", relation.sentence + more)]


def map_values(workspace: Workspace, request: MapRequest | None, shown: Any, coloured: Any, making: bool) -> list[Any]:
    """Whether there is a map; what it says; its figure; the ways to colour it."""
    found = read_map(workspace, request) if request else None
    if found is None:
        said = tag("p", BEING_MADE if making else NO_MAP, class_="pl-quiet")
        return [gr.update(visible=making), said, drawn(None), gr.skip()]
    groups = any(found.groups)
    offered = [each for each in maps.COLOURS if groups or each[1] != maps.BY_GROUP]
    coloured = coloured if coloured in [value for _, value in offered] else maps.BY_CLASS
    notes = [tag("p", note, class_="pl-quiet") for note in found.notes]
    says = tag("div", tag("p", maps.map_sentence(found)), *notes)
    figure = maps.map_figure(found, maps.named(workspace, found), str(shown), coloured)
    return [gr.update(visible=True), says, drawn(figure), gr.update(choices=offered, value=coloured)]


def answered(workspace: Workspace, run_id: str) -> set[str]:
    """Kinds of jobs whose usual answers about a run are there."""
    there = {
        "inspect_shift": read_shift(workspace, run_id),
        "inspect_map": read_map(workspace, MapRequest(run_id=run_id)),
    }
    return {kind for kind, answer in there.items() if answer}


def asked_map(run_id: Any, layout: Any, seed: Any, keep_gap: Any) -> MapRequest | None:
    """The map that the controls ask for; None without a run. What the browser sent may be anything."""
    if not isinstance(run_id, str) or not run_id.isalnum():
        return None
    layout = layout if layout in [value for _, value in maps.LAYOUTS] else "umap"
    seed = min(max(int(seed), 0), 2**31 - 1) if isinstance(seed, int | float) else 1
    return MapRequest(run_id=run_id, layout=layout, seed=seed, keep_gap=bool(keep_gap))
