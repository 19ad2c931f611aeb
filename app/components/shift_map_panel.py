"""The part of the Shift page with the map: its controls, its figure, and the images behind the points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app.components import shift as views
from app.components import shift_map as maps
from app.components.html import tag
from app.components.live import live_html, pressed
from app.components.plot import plot, selected_marks
from app.components.shift_results import asked_map, map_values
from app.context import AppContext
from engines.inspection.map_answers import read_map

NOTHING: dict[str, Any] = {"ids": [], "first": 0, "opened": None}
NOT_SELECTED = tag("p", views.SELECT, class_="pl-quiet")
AT_FIRST = ("umap", 1, False, "both", maps.BY_CLASS)
"""How its controls stand at first."""


class MapPanel:
    """Components of the map.

    Attributes:
        which: inputs that say which map: the run, layout, seed, whether the gap is kept.
        asked: `which`, and how it is drawn: what is shown, and its colours.
        outputs: what `values` are of.
    """

    def __init__(self, context: AppContext, run: gr.Dropdown) -> None:
        self.context, self.workspace = context, context.workspace
        guide = views.GUIDES["map"]
        self.chosen = gr.State(NOTHING)
        with gr.Column(visible=False) as column:
            gr.HTML(guide.head(), apply_default_css=False)
            told = gr.HTML(elem_id="shift-map-told", apply_default_css=False)
            with gr.Row():
                shown = gr.Radio(maps.SHOWN, value="both", label="Show", elem_id="shift-shown")
                coloured = gr.Radio(maps.COLOURS, value=maps.BY_CLASS, label="Colour by", elem_id="shift-coloured")
            with gr.Row():
                with gr.Column(scale=3, min_width=480):
                    self.map = plot(elem_id="shift-map")
                with gr.Column(scale=1, min_width=240):
                    gr.HTML(guide.beside(), apply_default_css=False)
                    layout, seed, keep_gap = self._advanced()
            self.selected = live_html(elem_id="shift-selected")
        self.looks = [shown, coloured]
        self.which: list[Any] = [run, layout, seed, keep_gap]
        self.asked: list[Any] = [*self.which, *self.looks]
        self.drawing = [column, told, self.map, coloured]
        self.outputs: list[Any] = [*self.drawing, self.selected, self.chosen]

    def _advanced(self) -> tuple[gr.Radio, gr.Number, gr.Checkbox]:
        with gr.Accordion("Advanced", open=False, elem_id="shift-advanced"):
            layout = gr.Radio(maps.LAYOUTS, value="umap", label="Layout", elem_id="shift-layout")
            seed = gr.Number(1, label="Seed", info="The same seed gives the same map.", precision=0, minimum=0)
            apart = "As the model puts them; otherwise the distance between them (modality gap) is taken off."
            keep_gap = gr.Checkbox(False, label="Keep words and images apart", info=apart)
            self.anew = gr.Button("Lay out anew", size="sm", elem_id="shift-anew")
        return layout, seed, keep_gap

    def listen(self, progress: Callable[[Any], list[Any]], at_work: Sequence[Any]) -> None:
        """Wire it; `progress(run)` gives the values of the components `at_work`, which tell of jobs."""
        context = self.context

        def choose(*asked: Any) -> list[Any]:
            self.ask_for(*asked[:4])
            return [*progress(asked[0]), *self.values(*asked)]

        def anew(*which: Any) -> list[Any]:
            self.ask_for(*which, anew=True)
            return progress(which[0])

        for part in self.which[1:]:
            context.listen(part.input, choose, self.asked, [*at_work, *self.outputs])
        for part in self.looks:
            context.listen(part.input, self.draw, self.asked, self.drawing)
        context.listen(self.anew.click, anew, self.which, at_work)
        opened = [self.selected, self.chosen]
        for event in (self.map.select, self.map.press):
            context.listen(event, self.select, self.which, opened, every=True)
        context.listen(self.selected.action, self.browse, [*self.which, self.chosen], opened, every=True)

    def ask_for(self, *which: Any, anew: bool = False) -> bool:
        """Queue a map that is neither there nor being made, or lay it out anew; whether it was queued."""
        wanted = asked_map(*which)
        if wanted is None or views.being_made(self.workspace, wanted):
            return False
        if not anew and read_map(self.workspace, wanted):
            return False
        self.context.submit("inspect_map", wanted.model_dump() | {"anew": anew}, run_id=wanted.run_id)
        return True

    def draw(self, run: Any, layout: Any, seed: Any, keep_gap: Any, shown: Any, coloured: Any) -> list[Any]:
        """Values of `drawing`."""
        wanted = asked_map(run, layout, seed, keep_gap)
        making = wanted is not None and views.being_made(self.workspace, wanted)
        return map_values(self.workspace, wanted, shown, coloured, making)

    def values(self, *asked: Any) -> list[Any]:
        """Values of `outputs`; nothing is selected."""
        return [*self.draw(*asked), NOT_SELECTED, NOTHING]

    def select(self, run: Any, layout: Any, seed: Any, keep_gap: Any, event: gr.EventData) -> list[Any]:
        """Open the images inside the loop, or the one that was pressed."""
        ids = selected_marks(event)
        chosen = {"ids": ids, "first": 0, "opened": ids[0] if len(ids) == 1 else None}
        return self._opened(chosen, run, layout, seed, keep_gap)

    def browse(self, run: Any, layout: Any, seed: Any, keep_gap: Any, chosen: Any, event: gr.EventData) -> list[Any]:
        """Turn a page, open an image or close it."""
        name, value = pressed(event)
        number = int(value) if value.isdigit() else 0
        field = {"page": "first", "select": "opened", "close": "opened"}.get(name)
        changed = {field: None if name == "close" else number} if field else {}
        return self._opened({**chosen, **changed}, run, layout, seed, keep_gap)

    def _opened(self, chosen: dict[str, Any], *which: Any) -> list[Any]:
        wanted = asked_map(*which)
        found = read_map(self.workspace, wanted) if wanted else None
        if found is None:
            return [NOT_SELECTED, NOTHING]
        return [views.selection(self.workspace, found, chosen["ids"], chosen["first"], chosen["opened"]), chosen]
