"""A place for a figure. Gradio's own plot tells no clicks and does not follow the change from light to dark."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr

from app.components.figures import Figure

_SCRIPT = Path(__file__).parents[1] / "static" / "figure.js"


def plotly_file() -> Path:
    """The Plotly script that the package of the same name carries; found without importing it."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"


def plot(figure: Figure | None = None, **options: Any) -> gr.HTML:
    """A figure's place; give it `drawn(figure)` as a new value.

    Its event `press` brings the `customdata` of the mark that was pressed as `data`.
    """
    gr.set_static_paths([plotly_file()])
    return gr.HTML(
        drawn(figure),
        html_template='<div class="pl-figure"></div>',
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        head=f'<script src="gradio_api/file={plotly_file()}"></script>',
        apply_default_css=False,
        padding=False,
        **options,
    )


def drawn(figure: Figure | None) -> str:
    """A figure as the value of `plot`; nothing for none."""
    return json.dumps(figure) if figure else ""


def pressed_mark(event: gr.EventData) -> list[Any]:
    """The `customdata` of a `press` event, as a list whatever the browser sent."""
    data = event._data.get("data") if isinstance(event._data, dict) else None
    return data if isinstance(data, list) else [data]
