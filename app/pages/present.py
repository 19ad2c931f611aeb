"""Present: a comparison that was kept, or a labelling study, full screen, for a meeting."""

from __future__ import annotations

from itertools import count
from typing import Any

import gradio as gr

from app.components import present as views
from app.components.html import Html, page_title, tag
from app.components.live import live_html, pressed
from app.context import AppContext, Page
from engines.errors import ConfigError, PromptloupeError
from engines.reports import saved

PAGE = Page(
    route="present",
    title="Present",
    order=75,
    icon="present",
    keys={"→ ↓ Space": "Next page of the slides", "← ↑": "Page before", "Home, End": "First and last page"},
)
LEAD = (
    "Show results in a meeting: full screen, in large type, paged with the arrow keys. File names, patients and"
    " readers’ names are on none of the pages."
)
DOWNLOAD = "file => { if (file) setTimeout(() => document.querySelector('#present-file')?.click(), 300); }"
SHOWN = count(1)


def build(context: AppContext) -> None:
    _PresentPage(context).listen()


class _PresentPage:
    """The components of the page, and what listens to them."""

    def __init__(self, context: AppContext) -> None:
        self.context, self.workspace = context, context.workspace
        gr.HTML(page_title("Present", LEAD), apply_default_css=False)
        self.told = live_html()
        self.list = live_html(tag("p", "One moment …", class_="pl-quiet"), elem_id="present-list")
        self.stage = views.stage(elem_id="present-stage")
        self.file = gr.DownloadButton("Download", visible="hidden", elem_id="present-file")

    def listen(self) -> None:
        context = self.context
        context.on_load(lambda: views.listing(self.workspace), None, self.list)
        acted = context.listen(
            self.list.action, self.act, None, [self.stage, self.file, self.list, self.told], every=True
        )
        acted.success(None, self.file, None, js=DOWNLOAD)
        context.listen(self.told.action, self.undo, None, [self.list, self.told], every=True)

    def act(self, event: gr.EventData) -> list[Any]:
        """Show slides, make a report, or move a comparison to the bin."""
        name, value = pressed(event)
        if name == "present":
            return [self._slides(value), None, gr.skip(), gr.skip()]
        if name == "report":
            made = self.context.call("report", self._payload(value))["path"]
            return [gr.skip(), str(self.workspace.resolve(made)), gr.skip(), gr.skip()]
        if name == "delete":
            found = saved.find(self.workspace, value)
            saved.delete(self.workspace, found.id)
            return [gr.skip(), None, views.listing(self.workspace), views.bin_notice(found.name, found.id)]
        return [gr.skip()] * 4

    def undo(self, event: gr.EventData) -> list[Html]:
        saved.restore(self.workspace, pressed(event)[1])
        return [views.listing(self.workspace), Html("")]

    def _slides(self, value: str) -> str:
        """The slides, or why there are none: the stage is open already, so that it must say it itself."""
        try:
            page = self.context.call("slides", self._payload(value))["page"]
        except PromptloupeError as error:
            return views.shown(problem=str(error), number=next(SHOWN))
        return views.shown(page, number=next(SHOWN))

    def _payload(self, value: str) -> dict[str, Any]:
        kind, _, key = value.partition(":")
        if kind == "c":
            found = saved.find(self.workspace, key)
            return {"results": found.results, "title": found.name}
        if kind == "d" and key.isdigit():
            return {"dataset_id": int(key)}
        raise ConfigError("There is nothing to show here.", "Reload the page.")
