"""Backlit: photos taken against the light, enhanced and compared; enhancers trained on own photos."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components import backlit as views
from app.components.backlit_open import OpenPanel
from app.components.backlit_save import SavePanel
from app.components.backlit_train import TrainPanel
from app.components.backlit_viewer import viewer
from app.components.html import Html, notice, page_title
from app.components.latest import Turn, latest
from app.components.live import live_html, pressed
from app.components.plot import drawn, plot
from app.context import AppContext, Page, tell_errors
from engines.enhance.choices import choices
from engines.enhance.groups import read_group
from engines.enhance.sample_photos import sample_group
from engines.errors import PromptloupeError

PAGE = Page(
    route="backlit",
    title="Backlit",
    order=100,
    icon="backlit",
    keys={
        "← →": "The photo before, the next one",
        "+ −": "Zoom the photo that has the focus",
        "Space": "Flicker: hold",
    },
)
LEAD = "Brighten photos taken against the light, compare the ways to do it, and train one on your own camera’s photos."
PATIENCE = 300
"""Seconds: the first photo waits until the worker and its libraries are there."""
SLOW: dict[str, Any] = {
    "show_progress": "minimal",
    "api_visibility": "private",
    "concurrency_limit": None,
    "trigger_mode": "always_last",
}
"""Of two changes in a row the later one counts."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}


def build(context: AppContext) -> None:
    gr.HTML(page_title("Backlit", LEAD), apply_default_css=False)
    gr.HTML(views.CAUTION, apply_default_css=False)
    with gr.Tabs(elem_id="backlit-tabs") as tabs:
        with gr.Tab("Enhance", id="enhance"):
            page = _EnhanceTab(context)
        with gr.Tab("Train your own", id="train"):
            training = TrainPanel(context)
    page.listen()
    page.look_behind(training.listen(tabs, page.use, [page.left, page.right]))


class _EnhanceTab:
    """The components of the tab, and what listens to them."""

    def __init__(self, context: AppContext) -> None:
        self.context, self.workspace = context, context.workspace
        self.kept = context.remembered("backlit", {})
        self.group, self.place, self.turns = gr.State(""), gr.State(0), gr.State(Turn())
        self.opening = OpenPanel(context)
        self.empty = live_html(views.empty(), elem_id="backlit-empty")
        with gr.Column(visible=False) as self.body:
            self.pager = live_html(elem_id="backlit-pager")
            with gr.Row():
                self.left = gr.Dropdown([], label="Left", interactive=True, elem_id="backlit-left")
                self.right = gr.Dropdown([], label="Right", interactive=True, elem_id="backlit-right")
                self.strength = gr.Slider(
                    0, 1, value=1, step=0.05, label="Strength", info="0 leaves it as it is.", elem_id="backlit-strength"
                )
            self.told = gr.HTML(elem_id="backlit-told", apply_default_css=False)
            self.consent = gr.Checkbox(False, label=views.CONSENT, visible=False, elem_id="backlit-consent")
            self.viewer = viewer(elem_id="backlit-viewer")
            with gr.Row():
                with gr.Column(scale=3, min_width=440):
                    self.numbers = gr.HTML(elem_id="backlit-numbers", apply_default_css=False)
                with gr.Column(scale=2, min_width=320):
                    self.light = plot(elem_id="backlit-light")
            self.wanted = gr.Checkbox(False, label="Show this photo by all methods", elem_id="backlit-all")
            self.contact = live_html(elem_id="backlit-contact")
            with gr.Accordion("I have well-lit originals", open=False, elem_id="backlit-truth"):
                self.truth = gr.Textbox(
                    label="Folder with well-lit photos of the same names and sizes",
                    info="How near each side comes to them is measured (PSNR, SSIM).",
                    max_lines=1,
                    elem_id="backlit-reference",
                )
            self.methods = gr.HTML(elem_id="backlit-methods", apply_default_css=False)
            self.saving = SavePanel(context)
        self.asked: list[Any] = [self.group, self.place, self.left, self.right, self.strength, self.consent]

    def listen(self) -> None:
        context = self.context
        frame = [self.empty, self.body, self.pager, self.group, self.place, self.consent]
        controls = [self.left, self.right, self.strength, self.wanted, self.methods]
        self.look_behind(context.on_load(self.begin, self.kept, [*frame, *controls]))
        found = gr.State("")
        samples = context.listen(self.empty.action, lambda: sample_group(self.workspace).id, None, found)
        for event in [*self.opening.listen(found), samples]:
            self.look_behind(event.success(tell_errors(self.open_group), found, frame, **QUIET))
        self.look_behind(context.listen(self.pager.action, self.turn, self.group, frame, every=True))
        changes = [self.left.input, self.right.input, self.strength.release, self.consent.input, self.wanted.input]
        changes += [self.truth.submit, self.truth.blur]
        for change in changes:
            self._look(change)
        self.look_behind(context.listen(self.contact.action, self.pick, None, self.right, every=True))
        self.saving.listen(self.asked)

    # --- choosing ---

    def begin(self, kept: Any) -> list[Any]:
        """What was looked at last."""
        kept = kept if isinstance(kept, dict) else {}
        offered = views.methods_offered(self.workspace)
        names = [name for _, name in offered]
        left = kept.get("left") if kept.get("left") in names else views.PHOTO
        right = kept.get("right") if kept.get("right") in names else views.usual(offered)
        strength = kept.get("strength")
        return [
            *self.turn_to(kept.get("group"), kept.get("place")),
            gr.update(choices=offered, value=left),
            gr.update(choices=offered, value=right),
            strength if isinstance(strength, int | float) and 0 <= strength <= 1 else 1,
            bool(kept.get("wanted")),
            views.about(choices(self.workspace)),
        ]

    def open_group(self, group: str) -> list[Any]:
        """Values of the frame for new photos: what was confirmed counts for the earlier ones only."""
        return [*self.turn_to(group)[:-1], gr.update(value=False, visible=False)]

    def turn_to(self, group: Any, place: Any = 0) -> list[Any]:
        """Values of the frame for a photo of a group."""
        try:
            photos = read_group(self.workspace, group if isinstance(group, str) else "").photos
        except PromptloupeError:
            return [gr.update(visible=True), gr.update(visible=False), "", "", 0, gr.update(visible=False)]
        place = min(max(place, 0), len(photos) - 1) if isinstance(place, int) else 0
        names = [photo.name for photo in photos]
        hidden = gr.update(visible=False)
        return [hidden, gr.update(visible=True), views.pager(names, place), group, place, gr.update(visible=False)]

    def turn(self, group: Any, event: gr.EventData) -> list[Any]:
        name, value = pressed(event)
        return self.turn_to(group, int(value) if name == "page" and value.isdigit() and len(value) < 9 else 0)

    def pick(self, event: gr.EventData) -> Any:
        """A method of the contact sheet comes to the right."""
        name, value = pressed(event)
        known = [method for _, method in views.methods_offered(self.workspace)]
        return value if name == "select" and value in known else gr.skip()

    def use(self, method: str) -> list[Any]:
        """Values of left and right once a new enhancer is there."""
        offered = views.methods_offered(self.workspace)
        return [gr.update(choices=offered), gr.update(choices=offered, value=method)]

    # --- looking ---

    def look_behind(self, event: Any) -> None:
        """Enhance what is chosen once an event was answered."""
        self._look(event.then)

    def _look(self, event: Any) -> None:
        shown = [self.told, self.viewer, self.numbers, self.light, self.contact, self.kept, self.consent]
        look = latest(self.look, len(shown))  # or an earlier photo would stand under the name of this one
        event(tell_errors(look), [self.turns, *self.asked, self.wanted, self.truth], shown, **SLOW)

    def look(
        self, group: Any, place: int, left: str, right: str, strength: float, consent: bool, wanted: bool, truth: str
    ) -> list[Any]:
        """Values of what is seen of the photo; `kept` remembers it."""
        if not group:
            return [gr.skip()] * 7
        kept = {"group": group, "place": place, "left": left, "right": right, "strength": strength, "wanted": wanted}
        methods = (
            [each.name for each in choices(self.workspace)] if wanted else [name for name in (left, right) if name]
        )
        request = {"group": group, "place": place, "methods": methods, "strength": strength, "measurements": consent}
        request["reference"] = str(truth or "").strip()
        try:
            found = self.context.call("enhance-look", request, timeout=PATIENCE)
        except PromptloupeError as error:
            told = notice("error", error.what, error.remedy, error.detail)
            return [told, "", "", drawn(None), "", kept, gr.update(visible=False)]
        if "consent" in found:
            told = notice("warning", found["consent"], "Tick the box to go on.")
            return [told, "", "", drawn(None), "", kept, gr.update(visible=True)]
        by_name = {view["method"]: view for view in found["views"]}
        sides = by_name[left], by_name[right]
        sheet: Html | str = views.contact(found, right) if wanted else ""
        numbers, light = views.numbers(found, *sides), views.histograms(*sides)
        ticked = gr.update(visible=bool(consent))
        return ["", views.layered(*sides), numbers, drawn(light), sheet, kept, ticked]
