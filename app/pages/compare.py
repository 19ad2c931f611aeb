"""Compare: up to six results side by side, whether a difference can be chance, and the images behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components import compare as views
from app.components import compare_figures as figures
from app.components import compare_images as images
from app.components import compare_table as tables
from app.components import report_actions
from app.components.compare_try import OWN, SHORT, TryIt, answers_html
from app.components.compare_why_panel import WhyPanel
from app.components.html import Html, empty_state, link, page_title, section, tag
from app.components.icons import BARS
from app.components.live import live_html, pressed
from app.components.methods import begin_reading
from app.components.plot import drawn, plot, pressed_mark
from app.context import AppContext, Page, tell_errors
from engines.inspection.answers import aligned
from engines.store.browse import classes, dataset_summaries
from engines.store.run_queries import runs_stamp

PAGE = Page(route="compare", title="Compare", order=60, icon="compare")
LEAD = "Put results side by side: which is better, whether that can be chance, and on which images they differ."
BOTH, ALL = "the two above", "all chosen results"
IMAGE_BY_IMAGE = "Image by image, on the same test images. Press a dot or an image to look closer."


def build(context: AppContext) -> None:
    _ComparePage(context).listen()


class _ComparePage:
    """The components of the page, and what listens to them."""

    def __init__(self, context: AppContext) -> None:
        begin_reading()
        self.context, self.workspace = context, context.workspace
        gr.HTML(page_title("Compare", LEAD), apply_default_css=False)
        self.kept = context.remembered("compared", {})
        self.seen, self.order = gr.State(()), gr.State(list(tables.BEST))
        self.empty = live_html(tag("p", "One moment …", class_="pl-quiet"))
        with gr.Column(visible=False) as self.body:
            self._choice()
            self.table = live_html(elem_id="compare-table")
            with gr.Row():
                self.bars = plot(elem_id="compare-bars")
                self.curves = plot(elem_id="compare-curves")
            self._pair()
            gr.HTML(section("Class by class", "Share of the test images that were right."), apply_default_css=False)
            self.by_class = plot(elem_id="compare-classes")
            self.why = WhyPanel(context)
            self.trial = TryIt(context)
            report_actions.at_compare(context, self.dataset, self.results)
        self.shown = [self.table, self.bars, self.curves, self.first, self.second, self.by_class, self.trial.looking]
        self.pair = [self.sentence, self.scatter, self.gains, self.images, self.opened, self.looked]

    def _choice(self) -> None:
        with gr.Row():
            self.dataset = gr.Dropdown(
                [], label="Images", info="Results of the same images.", interactive=True, elem_id="compare-dataset"
            )
            self.results = gr.Dropdown(
                [],
                label="Results",
                info="Two to six; the ready-made prompt is always beside them.",
                multiselect=True,
                max_choices=views.MOST - 1,
                interactive=True,
                scale=3,
                elem_id="compare-results",
            )

    def _pair(self) -> None:
        gr.HTML(section("Is one really better?", IMAGE_BY_IMAGE), apply_default_css=False)
        with gr.Row():
            self.first = gr.Dropdown([], label="This one", interactive=True, elem_id="compare-first")
            self.second = gr.Dropdown([], label="against this one", interactive=True, elem_id="compare-second")
        self.sentence = gr.HTML(elem_id="compare-sentence", apply_default_css=False)
        with gr.Row():
            self.scatter = plot(elem_id="compare-scatter")
            self.gains = plot(elem_id="compare-gains")
        self.opened = live_html(elem_id="compare-opened")
        self.looked = answers_html(elem_id="compare-looked")
        self.among = gr.Radio([BOTH, ALL], value=BOTH, label="Images on which they differ", elem_id="compare-among")
        self.images = live_html(elem_id="compare-images")

    def listen(self) -> None:
        context, chosen = self.context, [self.dataset, self.results]
        everything = [self.empty, self.body, *chosen, *self.shown, *self.pair]
        context.on_load(self.begin, self.kept, everything)
        outcome = [*self.shown, *self.pair, self.kept]
        context.listen(self.dataset.input, self.choose_images, self.dataset, [self.results, *outcome])
        context.listen(self.results.input, self.choose, [*chosen, self.order], outcome)
        context.listen(self.table.action, self.sort, [*chosen, self.order], [self.table, self.order], every=True)
        asked = [*chosen, self.first, self.second, self.among]
        for part in (self.first, self.second):
            context.listen(part.input, self.look, asked, self.pair)
        context.listen(self.among.input, self.turn, asked, self.images)
        context.listen(self.images.action, self.act, asked, [self.images, self.opened, self.looked], every=True)
        context.listen(self.scatter.press, self.open_dot, chosen, [self.opened, self.looked], every=True)
        inside = [*chosen, self.trial.looking, self.trial.rule]
        self.opened.action(tell_errors(self.inside), inside, [self.opened, self.looked], **SHORT)
        self.why.listen(chosen, self._found, self.names)
        self.trial.listen(chosen, self._found)
        context.on_tick(
            self.keep_up, [self.seen, *chosen], [self.results, self.seen, self.empty, self.body, self.dataset]
        )

    # --- the choice ---------------------------------------------------------------

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
            *self._answer(dataset, chosen, tables.BEST),
        ]

    def choose_images(self, dataset: str) -> list[Any]:
        offered = views.offered(self.workspace, dataset)
        chosen = [key for _, key in offered][:3]
        kept = {"dataset": dataset, "results": chosen}
        return [gr.update(choices=offered, value=chosen), *self._answer(dataset, chosen, tables.BEST), kept]

    def choose(self, dataset: str, keys: Any, order: Any) -> list[Any]:
        return [*self._answer(dataset, keys, order), {"dataset": dataset, "results": keys or []}]

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

    def sort(self, dataset: Any, keys: Any, order: Any, event: gr.EventData) -> list[Any]:
        now = tables.next_order(order[0], order[1], pressed(event)[1])
        return [tables.table_of(self._found(dataset, keys), *now), list(now)]

    def _found(self, dataset: Any, keys: Any) -> list[views.Compared]:
        return views.compared(self.workspace, keys or [], dataset) if dataset else []

    def _answer(self, dataset: Any, keys: Any, order: Sequence[Any]) -> list[Any]:
        """Everything that depends on the chosen results."""
        found = self._found(dataset, keys)
        if len(found) < 2:
            nothing = tag("p", "Choose a result to see it beside the ready-made prompt.", class_="pl-quiet")
            no_choice = [gr.update(choices=[], value=None)] * 2
            return [nothing, *[drawn(None)] * 2, *no_choice, drawn(None), gr.skip(), *_no_pair("")]
        options = [(each.name, each.key) for each in found]
        best = sorted(found, key=lambda each: each.bar().value, reverse=True)[:2]
        first, second = (each.key for each in best)
        return [
            tables.table_of(found, *order),
            drawn(tables.bars_of(found)),
            drawn(figures.learning_curves(self.workspace, found, dataset)),
            gr.update(choices=options, value=first),
            gr.update(choices=options, value=second),
            drawn(figures.class_map(found)),
            gr.update(choices=[OWN, *self.names(dataset)], value=OWN),
            *self.look(dataset, keys, first, second, BOTH),
        ]

    # --- two of them --------------------------------------------------------------

    def look(self, dataset: Any, keys: Any, first: Any, second: Any, among: Any) -> list[Any]:
        """The sentence on the pair, its figures, and the images on which results differ."""
        found = {each.key: each for each in self._found(dataset, keys)}
        one, other = found.get(first), found.get(second)
        if one is None or other is None or one is other:
            return _no_pair("Choose two different results.")
        seeds, names = views.paired(self.workspace, one, other), self.names(dataset)
        dots = None
        if seeds and (pair := aligned([seeds[0].first, seeds[0].second])):
            base, files = images.thumbnails(self.workspace, pair[0].sample_ids.tolist())
            dots = figures.scatter(one, other, seeds[0], names, files, base)
        return [
            images.pair_sentence(one, other, seeds),
            drawn(dots),
            drawn(figures.class_bars(one, other, seeds, names)),
            self._gallery(dataset, keys, first, second, among),
            Html(""),
            Html(""),
        ]

    def turn(self, dataset: Any, keys: Any, first: Any, second: Any, among: Any) -> Html:
        return self._gallery(dataset, keys, first, second, among)

    def act(self, dataset: Any, keys: Any, first: Any, second: Any, among: Any, event: gr.EventData) -> list[Any]:
        """Another page of images, or one of them opened."""
        name, value = pressed(event)
        if not value.isdigit():
            return [gr.skip()] * 3
        if name == "open":
            return [gr.skip(), self._opened(dataset, keys, int(value)), Html("")]
        return [self._gallery(dataset, keys, first, second, among, int(value)), gr.skip(), gr.skip()]

    def open_dot(self, dataset: Any, keys: Any, event: gr.EventData) -> list[Any]:
        """The image behind a dot of the scatter."""
        mark = pressed_mark(event)[0]
        return [self._opened(dataset, keys, mark) if isinstance(mark, int) else gr.skip(), Html("")]

    def inside(self, dataset: Any, keys: Any, wanted: Any, rule: Any, event: gr.EventData) -> list[Any]:
        """Close the opened image, or show where the prompts look in it."""
        name, value = pressed(event)
        if name == "close":
            return [Html(""), Html("")]
        sample = images.samples_by_id(self.workspace, [int(value)]).get(int(value)) if value.isdigit() else None
        if name != "look" or sample is None:
            return [gr.skip()] * 2
        file = self.workspace.resolve(sample.file)
        return [gr.skip(), self.trial.ask(self._found(dataset, keys), file, wanted, rule)]

    def names(self, dataset: Any) -> list[str]:
        """Class names of a data set by position."""
        number = next((d.id for d in dataset_summaries(self.workspace) if d.name == dataset), None)
        return [c.name for c in classes(self.workspace, number)] if number else []

    def _opened(self, dataset: Any, keys: Any, sample_id: int) -> Html:
        found = self._found(dataset, keys)
        if not found:
            return Html("")
        _, rows = views.together(self.workspace, found)
        return images.opened(self.workspace, sample_id, found, rows, self.names(dataset)) if rows else Html("")

    def _gallery(self, dataset: Any, keys: Any, first: Any, second: Any, among: Any, place: int = 0) -> Html:
        found = self._found(dataset, keys)
        if among != ALL:
            found = [each for each in found if each.key in (first, second)]
            found.sort(key=lambda each: each.key != first)
        if len(found) < 2:
            return Html("")
        _, rows = views.together(self.workspace, found)
        return images.gallery(self.workspace, found, rows, self.names(dataset), place) if rows else Html("")


def _no_pair(sentence: str) -> list[Any]:
    said = tag("p", sentence, class_="pl-quiet") if sentence else Html("")
    return [said, drawn(None), drawn(None), Html(""), Html(""), Html("")]


def _empty() -> Html:
    return empty_state(
        BARS,
        "Results will stand here side by side. Train two methods on the same images first.",
        link("Train", "train", "pl-button primary"),
    )
