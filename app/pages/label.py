"""Label: what to read and why, the reading itself, and what it brought."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components import label_progress as views
from app.components import label_setup as setup
from app.components.html import page_title, section, tag
from app.components.label_agreement import SecondReader
from app.components.label_desk import has_rounds
from app.components.label_files import Files
from app.components.label_history import History
from app.components.label_practice import Practice
from app.components.label_reader import KEYS
from app.components.label_review import LikelyErrors
from app.components.label_rounds import awaited_round
from app.components.label_search import FindImages, searching
from app.components.label_work import Work
from app.components.live import live_html, pressed
from app.components.methods import begin_reading
from app.components.plot import drawn, plot
from app.context import AppContext, Page, tell_errors
from engines.errors import ConfigError, DataError
from engines.labelling import label_settings, save_label_settings
from engines.store.browse import DatasetSummary, dataset_summaries, tally
from engines.store.edit import set_classes

PAGE = Page(
    route="label",
    title="Label",
    order=30,
    icon="label",
    keys=KEYS,
)
LEAD = "The program picks the images that teach it most; you say what they show. One key is one label."


def build(context: AppContext) -> None:
    LabelPage(context).build()


class LabelPage:
    """The components of the page, in three zones, and what listens to them."""

    def __init__(self, context: AppContext) -> None:
        begin_reading()
        self.context, self.workspace = context, context.workspace
        self.form = setup.SettingsForm(context.workspace)
        self.numbers = views.Numbers(context.workspace)

    def build(self) -> None:
        context = self.context
        self.dataset = context.remembered("dataset")
        self.name = context.remembered("reader", "")
        self.seen = gr.State("")
        gr.HTML(page_title("Label", LEAD), apply_default_css=False)
        self.empty = live_html(tag("p", "One moment …", class_="pl-quiet"))
        with gr.Column(visible=False, elem_id="label-body") as self.body:
            with gr.Accordion("What you chose", open=True, elem_id="label-setup") as self.setup:
                self._setup()
            self._classes()
            self.offer = live_html(elem_id="label-offer", visible=False)
            self.practice = Practice(context, self.dataset, self.name)
            with gr.Column(elem_id="label-work") as self.middle:
                self.work = Work(context, self.dataset, self.name, self.form)
            self._outcome()
        self.listen()

    def _setup(self) -> None:
        with gr.Row(equal_height=True):
            self.chooser = gr.Dropdown(
                [], label="Images", info="The data set to label.", interactive=True, scale=2, elem_id="label-dataset"
            )
            self.who = gr.Dropdown(
                [],
                label="Who you are",
                info="Your name or initials: every label carries it.",
                allow_custom_value=True,
                interactive=True,
                scale=2,
                elem_id="label-name",
            )
            self.form.place("budget")
        with gr.Row(equal_height=True):
            self.form.place("strategy")
            self.form.place("balanced")
        gr.HTML(setup.strategy_help(), apply_default_css=False, padding=False)
        with gr.Accordion("Advanced", open=False, elem_id="label-advanced"):
            self.form.place_rest()

    def _classes(self) -> None:
        with gr.Column(visible=False, elem_id="label-classes") as self.naming:
            self.naming_words = gr.HTML(apply_default_css=False)
            self.names = gr.Textbox(
                label="Classes, one per line",
                placeholder="neutrophil\neosinophil\nlymphocyte",
                lines=4,
                max_lines=30,
                elem_id="label-class-names",
            )
            self.save_names = gr.Button("Save the classes", variant="primary", scale=0, elem_id="label-save-classes")

    def _outcome(self) -> None:
        gr.HTML(section("What came out"), apply_default_css=False)
        self.sentence = live_html(elem_id="label-outcome")
        self.curve = plot(elem_id="label-curve")
        desk = self.work.desk
        with gr.Tabs(elem_id="label-tabs") as self.tabs:
            with gr.Tab("Find images", id="find") as find:
                self.find = FindImages(desk)
            with gr.Tab("Second reader", id="second") as second:
                self.second = SecondReader(desk)
            with gr.Tab("Likely errors", id="errors") as errors:
                self.errors = LikelyErrors(desk)
            with gr.Tab("Who said what", id="history") as history:
                self.history = History(desk)
            with gr.Tab("Export and import", id="files") as files:
                self.files = Files(desk)
        self.opened = {"find": find, "second": second, "errors": errors, "history": history, "files": files}

    # --- what listens ---------------------------------------------------------------

    def listen(self) -> None:
        context, form, work = self.context, self.form, self.work
        settings, screen = form.components, work.desk.screen
        head = [self.empty, self.body, self.setup, self.chooser, self.who, *settings]
        conditional = [self.naming, self.naming_words, self.names, self.offer, self.middle, work.next, work.awaited]
        results = [work.beside, self.sentence, self.curve, self.seen]
        everything = [self.dataset, self.name, *head, *conditional, *results, *screen]
        context.on_load(self.open, [self.dataset, self.name], everything)
        context.listen(self.chooser.input, self.choose, [self.chooser, self.name], everything)
        tabs = [*self.find.answered, *self.second.shown, *self.errors.shown, *self.history.shown]
        blank: list[Any] = [{}, *[""] * (len(tabs) - 1), gr.update(selected="find")]
        context.listen(self.chooser.input, lambda: blank, None, [*tabs, self.tabs])  # what they show was of others
        context.listen(
            self.who.input, self.rename, [self.dataset, self.who], [self.name, self.who, self.setup, *screen]
        )
        form.listen()
        asked = [self.dataset, self.name, *settings]
        for name, part in form.parts.items():
            gr.on(
                [part.input],
                tell_errors(self.save(name)),
                asked,
                [self.setup, *screen],
                trigger_mode="always_last",  # what is typed last is kept
                concurrency_limit=None,
                show_progress="hidden",
                api_visibility="private",
            )
        context.listen(self.save_names.click, self.name_classes, [self.dataset, self.names, self.name], everything)
        started = [*everything, self.tabs, *self.errors.shown, *self.find.answered]
        context.listen(self.offer.action, self.take_offer, [self.dataset, self.name], [self.tabs, *self.errors.shown])
        self.practice.listen(self.offer, started, self.open_copy)
        work.listen(self.setup)
        self._listen_to_numbers(results, screen)
        for part in (self.find, self.second, self.errors, self.history, self.files):
            part.listen()
        who = [self.dataset, self.name]
        context.listen(self.opened["second"].select, self.second.look, who, self.second.shown)
        context.listen(self.opened["errors"].select, self.errors.look, who, self.errors.shown)
        context.listen(self.opened["history"].select, self.history.look, self.history.asked, self.history.shown)

    def _listen_to_numbers(self, results: list[Any], screen: list[Any]) -> None:
        context, work = self.context, self.work
        found = [self.tabs, self.find.words, self.find.answer]
        self.find.after(context.listen(work.beside.action, self.search_class, None, found, every=True))
        asked = [self.dataset, self.name, work.awaited, self.seen, work.showing]
        context.on_tick(self.keep_up, asked, [work.round, work.awaited, *results, *screen])

    # --- opening ----------------------------------------------------------------------

    def open(self, dataset: Any, name: Any, request: gr.Request) -> list[Any]:
        asked = dict(request.query_params).get("data")
        known = {each.name: each.id for each in dataset_summaries(self.workspace)} if asked else {}
        return self.refresh(known.get(str(asked), dataset), name)

    def choose(self, dataset: Any, name: Any) -> list[Any]:
        return self.refresh(dataset, name)

    def refresh(self, dataset: Any, name: Any) -> list[Any]:
        """Everything on the page, for the data set that is chosen (else the newest)."""
        sets = setup.offered_sets(self.workspace)
        name, readers = setup.reader_name(self.workspace, name), setup.known_readers(self.workspace)
        if not sets:
            nothing = [gr.skip()] * (len(self.form.fields) + 7 + 4)
            return [
                None, name, gr.update(value=setup.no_images(), visible=True), gr.update(visible=False),
                gr.skip(), gr.update(choices=[], value=None), gr.update(choices=readers, value=name or None),
                *nothing, self.work.reader.closed(), "", "",
            ]  # fmt: skip
        chosen = dataset if dataset in sets.values() else next(iter(sets.values()))
        found = next(each for each in dataset_summaries(self.workspace) if each.id == chosen)
        settings = label_settings(self.workspace, chosen)
        naming, offering = found.classes < 2, self._nothing_to_label(found)
        label = setup.summary(settings, found, name)
        reading = not naming and bool(name) and has_rounds(self.workspace, chosen)
        return [
            chosen,
            name,
            gr.update(visible=False),
            gr.update(visible=True),
            gr.update(label=label, open=not reading),
            gr.update(choices=list(sets.items()), value=chosen),
            gr.update(choices=list(dict.fromkeys([*readers, *([name] if name else [])])), value=name or None),
            *self.form.values(settings),
            gr.update(visible=naming),
            setup.ask_for_classes(found) if naming else "",
            gr.skip() if naming else "",
            gr.update(value=setup.all_labelled(found) if offering else "", visible=offering),
            gr.update(visible=not naming),
            gr.update(visible=not offering),
            awaited_round(self.workspace, chosen),
            *self.results(chosen, name),
            *self.work.open_queue(chosen, name),
        ]

    def _nothing_to_label(self, dataset: DatasetSummary) -> bool:
        """Whether all images came with a label, and none was ever picked for reading."""
        with_labels = dataset.classes >= 2 and not setup.unlabelled(tally(self.workspace, dataset.id))
        return with_labels and not has_rounds(self.workspace, dataset.id)

    def rename(self, dataset: Any, typed: Any) -> list[Any]:
        name = setup.reader_name(self.workspace, typed)
        found = next((each for each in dataset_summaries(self.workspace) if each.id == dataset), None)
        if found is None:
            return [name, name or None, *[gr.skip()] * 4]
        label = setup.summary(label_settings(self.workspace, found.id), found, name)
        return [name, name or None, gr.update(label=label), *self.work.open_queue(found.id, name)]

    def save(self, changed: str) -> Any:
        """A listener that keeps the settings; a change of what is shown beside images shows them anew."""

        def keep(dataset: Any, name: Any, *given: Any) -> list[Any]:
            found = next((each for each in dataset_summaries(self.workspace) if each.id == dataset), None)
            try:
                settings = self.form.settings(given)
            except ConfigError:  # the field itself says what is wrong
                return [gr.skip()] * 4
            if found is None:
                return [gr.skip()] * 4
            save_label_settings(self.workspace, found.id, settings)
            screen = self.work.open_queue(found.id, name) if changed == "blind" else [gr.skip()] * 3
            return [gr.update(label=setup.summary(settings, found, setup.reader_name(self.workspace, name))), *screen]

        return keep

    # --- data sets that need something first ----------------------------------------------

    def name_classes(self, dataset: Any, typed: Any, name: Any) -> list[Any]:
        if not isinstance(dataset, int):
            raise DataError("No data set is chosen.", "Choose one at the top of the page.")
        set_classes(self.workspace, dataset, str(typed or "").splitlines())
        return self.refresh(dataset, name)

    def open_copy(self, dataset: int, name: Any) -> list[Any]:
        return [*self.refresh(dataset, name), gr.update(selected="find"), "", "", {}, ""]

    def take_offer(self, dataset: Any, name: Any, event: gr.EventData) -> list[Any]:
        """Look for wrong labels; the copy to practise on listens for itself."""
        if pressed(event)[0] != "errors":
            return [gr.skip()] * 3
        self.errors.begin(dataset)
        return [gr.update(selected="errors"), *self.errors.look(dataset, name)]

    # --- while it is looked at --------------------------------------------------------------

    def keep_up(self, dataset: Any, name: Any, awaited: Any, seen: Any, showing: Any) -> list[Any]:
        """What has changed since the last second: the round at work, the numbers, the next images."""
        if not isinstance(dataset, int):
            return [gr.skip()] * (2 + 4 + 3)
        shown, remembered, *screen = self.work.keep_up(dataset, name, awaited, showing)
        unchanged = views.stamp(self.workspace, dataset, name) == seen
        numbers = [gr.skip()] * 4 if unchanged else self.results(dataset, name, wait=0)
        return [shown, remembered, *numbers, *screen]

    def results(self, dataset: int, name: Any, wait: float = 0.05) -> list[Any]:
        """The numbers beside the images and below them; those of a moment ago, or none, until they are worked out."""
        stamp = views.stamp(self.workspace, dataset, name)
        found = self.numbers.get(dataset, str(name or ""), stamp, wait)
        if found is None and not wait:
            return [gr.skip()] * 4
        if found is None:
            return [tag("p", "Counting …", class_="pl-quiet"), "", drawn(None), ""]
        return [views.beside(found), views.outcome(found), drawn(views.curve(found)), stamp]

    def search_class(self, event: gr.EventData) -> list[Any]:
        """From the warning on a class without labels to images that may show it."""
        _, value = pressed(event)
        return [gr.update(selected="find"), value, searching()]
