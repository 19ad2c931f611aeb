"""HTML that changes while it is looked at, with buttons and cells that answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from app.components.html import Html

# One listener on the component itself: it outlives every update of what is inside.
ON_LOAD = """
element.addEventListener('click', event => {
  const target = event.target.closest('[data-action]');
  if (target && !target.disabled) trigger('action', {name: target.dataset.action, value: target.dataset.value || ''});
});
"""


def live_html(value: Html | str = "", **options: Any) -> gr.HTML:
    """A `gr.HTML` whose `action` event tells which `html.action` button or cell was pressed.

    The listener takes one `gr.EventData` with `name` and `value`, both text from the browser: check them.
    An update changes only what differs, so that focus and scrolling stay.
    """
    return gr.HTML(value, js_on_load=ON_LOAD, apply_default_css=False, padding=False, **options)


def scripted_html(script: Path, template: Html | str = "", **options: Any) -> gr.HTML:
    """A `gr.HTML` that the JavaScript of a file draws: into the elements of `template`, from the value it is given."""
    return gr.HTML(
        "",
        html_template=str(template),
        js_on_load=script.read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=False,
        **options,
    )


def pressed(event: gr.EventData) -> tuple[str, str]:
    """(name, value) of an `action` event, as text whatever the browser sent."""
    data = event._data if isinstance(event._data, dict) else {}
    return str(data.get("name", "")), str(data.get("value", ""))
