"""Compare: up to six results side by side, whether a difference can be chance, and the images behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components import compare as views
from app.components.html import Html, empty_state, link, page_title, section, tag
from app.components.icons import BARS
from app.components.live import live_html, pressed
from app.components.methods import begin_reading
from app.components.plot import drawn, plot
from app.context import AppContext, Page
from engines.store.agreement import READY_MADE, disagreements
from engines.store.browse import classes, dataset_summaries
from engines.store.run_queries import runs_stamp

PAGE = Page(route="compare", title="Compare", order=60, icon="compare")
LEAD = "Put results side by side: which is better, whether that can be chance, and on which images they differ."
PAGE_SIZE = 24


def build(context: AppContext) -> None:
    _ComparePage(context).listen()


class _ComparePage:
    """The components of the page, and what listens to them."""

    def __init__(self, context: AppContext) -> None:
        begin_reading()
        self.context, self.workspace = context, context.workspace
        gr.HTML(page_title("Compare", LEAD), apply_default_css=False)
        self.kept = context.remembered("compared", {})
        self.seen = gr.State(())
        self.empty = live_html(tag("p", "One moment …", class_="pl-quiet"))
        with gr.Column(visible=False) as self.body:
            with gr.Row():
                self.dataset = gr.Dropdown(
                    [], label="Images", info="Results of the same images.", interactive=True, elem_id="compare-dataset"
                )
                self.results = gr.Dropdown(
                    [],
                    label="Results",
                    info="Two to six; the ready-made prompt is always beside them.",
                    multiselect=True,
                    max_choices=views.MOST,
                    interactive=True,
                    scale=3,
                    elem_id="compare-results",
                )
            self.table = gr.HTML(elem_id="compare-table", apply_default_css=False)
            self.bars = plot(elem_id="compare-bars")
            gr.HTML(
                section("Is one really better?", "Image by image, on the same test images."), apply_default_css=False
            )
            with gr.Row():
                self.first = gr.Dropdown([], label="This one", interactive=True, elem_id="compare-first")
                self.second = gr.Dropdown([], label="against this one", interactive=True, elem_id="compare-second")
            self.sentence = gr.HTML(elem_id="compare-sentence", apply_default_css=False)
            self.images = live_html(elem_id="compare-images")
            gr.HTML(section("Class by class", "Share of the test images that were right."), apply_default_css=False)
            self.by_class = plot(elem_id="compare-classes")
        self.shown = [self.table, self.bars, self.first, self.second, self.by_class]
        self.pair = [self.sentence, self.images]

    def listen(self) -> None:
        context, chosen = self.context, [self.dataset, self.results]
        everything = [self.empty, self.body, *chosen, *self.shown, *self.pair]
        context.on_load(self.begin, self.kept, everything)
        context.listen(
            self.dataset.input, self.choose_images, self.dataset, [self.results, *self.shown, *self.pair, self.kept]
        )
        context.listen(self.results.input, self.choose, chosen, [*self.shown, *self.pair, self.kept])
        asked = [*chosen, self.first, self.second]
        for part in (self.first, self.second):
            context.listen(part.input, self.look, asked, self.pair)
        context.listen(self.images.action, self.turn, asked, self.images, every=True)
        context.on_tick(
            self.keep_up, [self.seen, *chosen], [self.results, self.seen, self.empty, self.body, self.dataset]
        )

    def begin(self, kept: Any) -> list[Any]:
        """What was compared last; the newest three results at first."""
        sets = views.datasets_with_results(self.workspace)
        kept = kept if isinstance(kept, dict) else {}
        dataset = kept.get("dataset") if kept.get("dataset") in sets else next(iter(sets), None)
        offered = views.offered(self.workspace, dataset) if dataset else []
        keys = [key for _, key in offered]
        chosen = [key for key in kept.get("results", []) if key in keys] or keys[:3]
        return [
            gr.update(value=_empty(), visible=not offered),
            gr.update(visible=bool(offered)),
            gr.update(choices=sets, value=dataset),
            gr.update(choices=offered, value=chosen),
            *self._answer(dataset, chosen),
        ]

    def choose_images(self, dataset: str) -> list[Any]:
        offered = views.offered(self.workspace, dataset)
        chosen = [key for _, key in offered][:3]
        kept = {"dataset": dataset, "results": chosen}
        return [gr.update(choices=offered, value=chosen), *self._answer(dataset, chosen), kept]

    def choose(self, dataset: str, keys: Any) -> list[Any]:
        return [*self._answer(dataset, keys), {"dataset": dataset, "results": keys or []}]

    def keep_up(self, known: Any, dataset: Any, keys: Any) -> list[Any]:
        """Offer results that are done since the page was opened."""
        now = runs_stamp(self.workspace)
        if now == known:
            return [gr.skip()] * 5
        if not dataset:
            sets = views.datasets_with_results(self.workspace)
            offered = views.offered(self.workspace, sets[0]) if sets else []
            shown = bool(offered)
            choices = gr.update(choices=offered, value=[key for _, key in offered][:3])
            found = gr.update(choices=sets, value=sets[0] if sets else None)
            return [choices, now, gr.update(visible=not shown), gr.update(visible=shown), found]
        offered = views.offered(self.workspace, dataset)
        kept = [key for key in keys or [] if key in [key for _, key in offered]]
        return [gr.update(choices=offered, value=kept), now, gr.skip(), gr.skip(), gr.skip()]

    def _answer(self, dataset: Any, keys: Any) -> list[Any]:
        """Everything that depends on the chosen results."""
        found = views.compared(self.workspace, keys or [], dataset) if dataset else []
        if len(found) < 2:
            nothing = tag("p", "Choose a result to see it beside the ready-made prompt.", class_="pl-quiet")
            return [nothing, drawn(None), *[gr.update(choices=[], value=None)] * 2, drawn(None), Html(""), Html("")]
        listed, bars = views.ranking(found)
        options = [(each.name, each.key) for each in found]
        best = sorted(found, key=lambda each: each.bar().value, reverse=True)[:2]
        first, second = (each.key for each in best)
        return [
            listed,
            drawn(bars),
            gr.update(choices=options, value=first),
            gr.update(choices=options, value=second),
            drawn(views.class_map(found)),
            *self.look(dataset, keys, first, second),
        ]

    def look(self, dataset: Any, keys: Any, first: Any, second: Any, place: int = 0) -> list[Html]:
        """The sentence on the pair, and the images on which the two differ."""
        found = {each.key: each for each in views.compared(self.workspace, keys or [], dataset)}
        one, other = found.get(first), found.get(second)
        if one is None or other is None or one is other:
            return [tag("p", "Choose two different results.", class_="pl-quiet"), Html("")]
        return [views.pair_sentence(self.workspace, one, other), self._differing(dataset, [one, other], place)]

    def turn(self, dataset: Any, keys: Any, first: Any, second: Any, event: gr.EventData) -> Html:
        """Another page of images."""
        _, value = pressed(event)
        return self.look(dataset, keys, first, second, int(value) if value.isdigit() else 0)[1]

    def _differing(self, dataset: str, pair: Sequence[views.Compared], place: int) -> Html:
        runs = views.same_seed(pair[0], pair[1])
        if runs is None:
            return Html("")
        ids = [READY_MADE if each.ready_made else run for each, run in zip(pair, runs, strict=True)]
        found, total = disagreements(self.workspace, ids, place, PAGE_SIZE)
        number = next((d.id for d in dataset_summaries(self.workspace) if d.name == dataset), None)
        names = [c.name for c in classes(self.workspace, number)] if number else []
        return views.differing(self.workspace, found, total, place, pair, names)


def _empty() -> Html:
    return empty_state(
        BARS,
        "Results will stand here side by side. Train two methods on the same images first.",
        link("Train", "train", "pl-button primary"),
    )
