"""Two versions of a photo under one zoom: wipe, side by side, flicker, difference, and the light map as its own layer.

All of it happens in the browser (`static/backlit.js`), so that moving and zooming never wait.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from app.components.html import Html, tag
from app.components.live import scripted_html
from app.components.wipe import Picture, wipe

MODES = {
    "wipe": "Wipe",
    "side": "Side by side",
    "flicker": "Flicker",
    "difference": "Difference",
    "light": "Light map",
}
HINT = "Wheel or + and − zoom, all views alike; drag or use the arrows to move a zoomed photo."
_SCRIPT = Path(__file__).parents[1] / "static" / "backlit.js"


def _pane(name: str, *pictures: Html) -> Html:
    return tag(
        "div",
        *pictures,
        tag("span", data_title=name, class_="pl-wipe-title"),
        data_pane=name,
        class_="pl-view-pane",
        tabindex="0",
    )


def _picture(side: str) -> Html:
    return tag("img", data_side=side, alt="", draggable="false")


def _template() -> Html:
    modes = [
        tag("button", words, type="button", data_mode=name, class_="pl-button small") for name, words in MODES.items()
    ]
    zooms = [
        tag("button", sign, type="button", data_zoom=name, class_="pl-button small", aria_label=words, title=words)
        for name, sign, words in (("out", "−", "Smaller"), ("in", "+", "Larger"), ("fit", "Fit", "The whole photo"))
    ]
    gain = tag("input", type="range", min=1, max=16, value=4, data_part="gain", aria_label="Difference times")
    return tag(
        "div",
        tag(
            "div",
            tag("span", *modes, class_="pl-buttons", role="group", aria_label="How to compare"),
            tag("label", "Difference × ", tag("output", "4", data_part="times"), gain, data_only="difference"),
            tag("label", tag("input", type="checkbox", data_part="blink"), " Change by itself", data_only="flicker"),
            tag("span", *zooms, tag("output", "100%", data_part="zoom"), class_="pl-buttons"),
            class_="pl-row pl-view-bar",
        ),
        tag(
            "div",
            tag("div", wipe(Picture("", ""), Picture("", ""), "Backlit"), data_view="wipe"),
            tag("div", _pane("left", _picture("left")), _pane("right", _picture("right")), data_view="side"),
            tag("div", _pane("flicker", _picture("right"), _picture("left")), data_view="flicker"),
            tag("div", _pane("difference", tag("canvas", data_part="canvas")), data_view="difference"),
            tag("div", _pane("light", _picture("light")), data_view="light"),
            data_part="stage",
            class_="pl-view-stage",
        ),
        tag("p", HINT, class_="pl-quiet", data_part="hint"),
        data_part="all",
        class_="pl-view",
        hidden=True,
    )


def viewer(**options: Any) -> gr.HTML:
    """The place of the two versions; give it `viewed(...)` as a new value."""
    return scripted_html(_SCRIPT, _template(), **options)


def viewed(left: Picture, right: Picture, light: Picture | None) -> str:
    """What `viewer` shows; without a light map that view says so."""
    sides = {"left": left, "right": right, "light": light}
    return json.dumps({name: vars(each) if each else None for name, each in sides.items()})
