"""The middle of the Label page: the button that asks for a batch, the round at work, and the screen for its images."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components import label_setup as setup
from app.components.html import Html, action, empty_state, tag
from app.components.icons import GALLERY
from app.components.label_desk import LIST, OPENING, QUEUE, Desk, has_rounds
from app.components.label_reader import LabelReader
from app.components.label_rounds import ROUND, is_ready, newest_round_job, round_said
from app.components.live import live_html, pressed
from app.context import AppContext
from engines import jobs
from engines.errors import DataError
from engines.labelling import save_label_settings, tasks
from engines.store.browse import tally


class Work:
    """The components between what was chosen and what came out. Build it inside the page's layout."""

    def __init__(
        self, context: AppContext, dataset: gr.BrowserState, name: gr.BrowserState, form: setup.SettingsForm
    ) -> None:
        self.context, self.workspace, self.form = context, context.workspace, form
        self.awaited = context.remembered("label-round", "")
        self.showing = gr.State(OPENING)
        with gr.Row(equal_height=False):
            self.next = gr.Button("Next batch", variant="primary", scale=0, min_width=160, elem_id="label-next")
            self.round = live_html(elem_id="label-round")
        with gr.Row(equal_height=False, elem_id="label-desk"):
            with gr.Column(scale=4, min_width=480):
                self.place = live_html(elem_id="label-place")
                self.reader = LabelReader(context)
            with gr.Column(scale=1, min_width=264):
                self.beside = live_html(elem_id="label-beside")
        self.desk = Desk(context, dataset, name, self.reader, self.place, self.showing)

    def listen(self, folded: gr.Accordion) -> None:
        """`folded` is what was chosen: it makes room once a batch is asked for."""
        context, screen = self.context, self.desk.screen
        who, begun = [self.desk.dataset, self.desk.name], [self.awaited, self.round]
        context.listen(self.next.click, self.next_batch, [*who, *self.form.components], [*begun, folded, self.place])
        context.listen(self.round.action, self.act_on_round, [*who, self.awaited], [*begun, *screen])
        context.listen(self.place.action, self.open_queue, who, screen, every=True)
        context.listen(self.reader.component.done, self.go_on, [*who, self.showing], [self.awaited, *screen])

    def open_queue(self, dataset: Any, name: Any, first: bool = False) -> list[Any]:
        """The reader's queue on the reading screen, or a word on what to do where there never was one.

        An empty queue is opened, too: there the last verdicts can be taken back. The screen tells that it is empty.
        With `first` the reader goes to its first image, even from one that is being read.
        """
        begun = isinstance(dataset, int) and has_rounds(self.workspace, dataset)
        if isinstance(dataset, int) and not begun and not setup.unlabelled(tally(self.workspace, dataset)):
            return [self.reader.closed(), "", ""]
        if not isinstance(dataset, int) or not name:
            return [self.reader.closed(), _nothing_yet("First say who you are."), ""]
        if not begun:
            return [self.reader.closed(), _nothing_yet("Press “Next batch” to have the first ones picked."), ""]
        return [self.reader.open(dataset, name, first), "", QUEUE]

    def next_batch(self, dataset: Any, name: Any, *given: Any) -> list[Any]:
        """Queue a round with what the form says.

        Raises:
            DataError: nobody said who reads, or no data set is chosen.
            ConfigError: a setting does not fit.
        """
        name = setup.reader_name(self.workspace, name)
        if not name:
            raise DataError("Who are you?", "Type your name or initials first: every label carries it.")
        if not isinstance(dataset, int):
            raise DataError("No data set is chosen.", "Choose one at the top of the page.")
        running = newest_round_job(self.workspace, dataset)
        if running is not None and not running.state.ended:
            return [running.id, round_said(running, running.id), gr.skip(), gr.skip()]
        save_label_settings(self.workspace, dataset, self.form.settings(given))
        payload = {"dataset_id": dataset, "annotator": name, "measure_only": False}
        job = self.context.submit(ROUND, payload)
        said = round_said(newest_round_job(self.workspace, dataset), job)
        first = not has_rounds(self.workspace, dataset)
        place = _nothing_yet("They come as soon as they are picked.") if first else gr.skip()
        return [job, said, gr.update(open=False), place]

    def act_on_round(self, dataset: Any, name: Any, awaited: Any, event: gr.EventData) -> list[Any]:
        """Cancel or repeat the round at work, or go to the images that it picked."""
        what, value = pressed(event)
        still = [gr.skip()] * 3
        if what == "queue":
            return [gr.skip(), "", *self.open_queue(dataset, name, first=True)]
        newest = newest_round_job(self.workspace, dataset)
        if newest is None or newest.id != value:
            return [gr.skip(), gr.skip(), *still]
        if what == "cancel":
            jobs.cancel(self.workspace, value)
        elif what == "retry":
            awaited = jobs.retry(self.workspace, value)
        return [awaited, gr.skip(), *still]

    def go_on(self, dataset: Any, name: Any, showing: Any) -> list[Any]:
        """The screen has nothing left and says so: on to the rest of the queue where there is one."""
        if showing == LIST:
            back = action("Back to the queue", "queue", "", "small primary")
            said = tag("div", tag("span", "You have looked at all of these."), back, class_="pl-row")
            return [gr.skip(), gr.skip(), said, LIST]
        queue = tasks(self.workspace, dataset, name) if isinstance(dataset, int) and name else []
        if queue:
            return ["", self.reader.open(dataset, name), "", QUEUE]
        return [gr.skip(), gr.skip(), "", ""]

    def keep_up(self, dataset: int, name: Any, awaited: Any, showing: Any) -> list[Any]:
        """The round at work and the round waited for; the screen, where new images come to a reader without any."""
        newest, remembered, screen = newest_round_job(self.workspace, dataset), gr.skip(), [gr.skip()] * 3
        if is_ready(newest, awaited) and not showing:
            remembered = awaited = ""
            screen = self.open_queue(dataset, name)
        return [round_said(newest, awaited), remembered, *screen]


def _nothing_yet(sentence: str) -> Html:
    return empty_state(GALLERY, f"The images that deserve your time will stand here, one after the other. {sentence}")
