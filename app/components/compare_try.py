"""Try it: an image of somebody's own in front of all chosen prompts, side by side, with where each looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app.components.compare import Compared
from app.components.html import Html, notice, section, tag
from app.components.latest import Turn, latest
from app.components.run_page import picture
from app.context import AppContext, tell_errors
from engines.errors import PromptloupeError

OWN = "its own answer"
RULES = [("what decides the answer", "relevance"), ("what gets attention", "rollout")]
LEAD = (
    "Drop an image, or take one with the camera: every chosen prompt answers at once. Where an image is coloured, it"
    " counted for the answer; all maps of an image share one scale."
)
IMAGE_FILES = ["image", ".dcm", ".tif", ".tiff"]
SHORT: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}
OPACITY = 70
PATIENCE = 240
"""Seconds: the first image waits until the worker and the models are there."""
# The slider acts in the page alone; the colour stays as it was set when other answers come.
ON_LOAD = """
element.addEventListener('input', event => {
  if (event.target.matches('[data-opacity]')) element.style.setProperty('--pl-opacity', event.target.value / 100);
});
"""
WAITING = tag("p", "What every chosen prompt says of your image will stand here.", class_="pl-quiet")
Chosen = Callable[[Any, Any], list[Compared]]
"""(data set, keys) -> results on show."""


def answers_html(at_first: str = "", **options: Any) -> gr.HTML:
    """A place for `tried`."""
    return gr.HTML(at_first, js_on_load=ON_LOAD, apply_default_css=False, padding=False, **options)


def tried(image: str, answer: Mapping[str, Any], found: Sequence[Compared]) -> Html:
    """What every prompt says of an image (an address), with a slider for the maps."""
    by_run = {run.id: each for each in found if not each.ready_made for run in each.runs}
    ready = next((each for each in found if each.ready_made), None)
    cells = [
        cell
        for reply in answer["replies"]
        if (each := by_run.get(reply["run"], ready)) is not None and (cell := _reply(image, reply, each))
    ]
    slider = tag(
        "label",
        "Strength of the maps",
        tag("input", type="range", min="0", max="100", value=str(OPACITY), data_opacity=True),
        class_="pl-opacity",
    )
    maps = any(reply["overlay"] for reply in answer["replies"])
    return tag("div", slider if maps else "", tag("div", *cells, class_="pl-tried"), class_="pl-card")


def _reply(image: str, reply: Mapping[str, Any], each: Compared) -> Html:
    overlay = reply["overlay"]
    pictures = [tag("img", src=image, alt="The image")]
    if overlay:
        pictures.append(tag("img", src=f"data:image/png;base64,{overlay}", alt="Where it looks", class_="pl-overlay"))
    rows = [
        tag(
            "div",
            tag("span", best["class"]),
            tag("b", f"{best['probability']:.2f}"),
            tag("div", tag("i", style=f"width:{100 * best['probability']:.1f}%;background:{each.colour}")),
            class_="pl-share",
        )
        for best in reply["top"]
    ]
    caption = f"Coloured: looking for “{reply['looked_for']}”" if overlay else reply["reason"]
    if not overlay and not reply["reason"]:
        caption = "Nothing in this image speaks for the answer."
    dot = tag("i", class_="pl-dot-method", style=f"background:{each.colour}")
    return tag(
        "div",
        tag("h4", dot, each.name),
        tag("div", tag("span", *pictures, class_="pl-layers"), class_="pl-frame"),
        tag("p", caption, class_="pl-quiet"),
        *rows,
    )


class TryIt:
    """The panel; `listen` wires it to the choice of results."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        gr.HTML(section("Try it", LEAD), apply_default_css=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                with gr.Tabs():
                    with gr.Tab("An image"):
                        self.upload = gr.File(
                            label="An image that is not in the data set (PNG, JPEG, TIFF, DICOM …)",
                            file_types=IMAGE_FILES,
                            height=140,
                            elem_id="compare-upload",
                        )
                    with gr.Tab("Camera"):
                        self.camera = gr.Image(
                            sources=["webcam"],
                            type="filepath",
                            label="Camera",
                            height=240,
                            elem_id="compare-camera",
                        )
                self.looking = gr.Dropdown(
                    [OWN], value=OWN, label="Maps look for", interactive=True, elem_id="compare-looking"
                )
                self.rule = gr.Radio(RULES, value="relevance", label="Maps show", elem_id="compare-rule")
            with gr.Column(scale=3):
                self.answer = answers_html(WAITING, elem_id="compare-tried")

    def listen(self, chosen: Sequence[Any], found: Chosen) -> None:
        """`chosen` are the components of data set and results."""

        def show(dataset: Any, keys: Any, file: Any, wanted: Any, rule: Any) -> Html:
            return self.ask(found(dataset, keys), file, wanted, rule) if file else WAITING

        told, how, turns = tell_errors(latest(show)), [self.looking, self.rule], gr.State(Turn())
        self.upload.change(told, [turns, *chosen, self.upload, *how], self.answer, **SHORT)
        self.camera.change(told, [turns, *chosen, self.camera, *how], self.answer, **SHORT)

        def again(dataset: Any, keys: Any, file: Any, shot: Any, wanted: Any, rule: Any) -> Html:
            return show(dataset, keys, file or shot, wanted, rule)

        for part in (self.looking, self.rule):
            part.input(
                tell_errors(latest(again)), [turns, *chosen, self.upload, self.camera, *how], self.answer, **SHORT
            )

    def ask(self, found: Sequence[Compared], file: Any, wanted: Any = OWN, rule: Any = "relevance") -> Html:
        """What the chosen prompts say of an image file; a sentence where it is none."""
        runs = [each.runs[0].id for each in found if not each.ready_made]
        if not runs:
            return notice("info", "There is no prompt to ask.", "Choose a result above.")
        payload = {"run_ids": runs, "file": str(file), "class_name": "" if wanted == OWN else str(wanted)}
        try:
            answer = self.context.call("try_it", payload | {"rule": str(rule)}, timeout=PATIENCE)
        except PromptloupeError as error:
            return notice("error", error.what, error.remedy, error.detail)
        return tried(picture(str(Path(str(file)))), answer, found)
