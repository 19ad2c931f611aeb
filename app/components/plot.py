"""A place for a figure. Gradio's own plot tells no clicks and does not follow the change from light to dark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr

from app.components.figures import Figure
from engines.data.names import spreadsheet_safe

_SCRIPT = Path(__file__).parents[1] / "static" / "figure.js"
_TEMPLATE = (
    '<div class="pl-plot"><div class="pl-figure"></div><div class="pl-peek" hidden><img alt=""></div>'
    '<div class="pl-save" hidden></div></div>'
)


def plotly_file() -> Path:
    """The Plotly script that the package of the same name carries; found without importing it."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"


def plot(figure: Figure | None = None, **options: Any) -> gr.HTML:
    """A figure's place; give it `drawn(figure)` as a new value.

    Its event `press` brings the `customdata` of the mark that was pressed as `data`, its event `select` those of all
    marks inside the loop or box that was drawn (none where the selection was dropped).
    """
    gr.set_static_paths([plotly_file()])
    return gr.HTML(
        drawn(figure),
        html_template=_TEMPLATE,
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        head=f'<script src="gradio_api/file={plotly_file()}"></script>',
        apply_default_css=False,
        padding=False,
        **options,
    )


def drawn(figure: Figure | None) -> str:
    """A figure as the value of `plot`; nothing for none."""
    return json.dumps(figure) if figure else ""


def saved_as(figure: Figure, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Figure:
    """The figure with buttons that save it as PNG, SVG, and its numbers as CSV, each called `name`."""
    safe = [[spreadsheet_safe(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    return _with(figure, save={"name": name, "table": [list(columns), *safe]})


def selectable(figure: Figure, base: str, files: Mapping[int, str]) -> Figure:
    """The figure with lasso and box; a mark whose `customdata` is in `files` shows that picture under the pointer.

    Args:
        base: address in front of all `files`.
    """
    pictures = {"base": base, "files": {str(key): file for key, file in files.items()}}
    return _with(figure, select=True, pictures=pictures)


def _with(figure: Figure, **tools: Any) -> Figure:
    return figure | {"tools": figure.get("tools", {}) | tools}


def pressed_mark(event: gr.EventData) -> list[Any]:
    """The `customdata` of a `press` event, as a list whatever the browser sent."""
    data = _data(event)
    return data if isinstance(data, list) else [data]


def selected_marks(event: gr.EventData) -> list[int]:
    """The numbers that the marks of a `select` (or `press`) event carry, each once, whatever the browser sent."""
    return list(dict.fromkeys(n for n in pressed_mark(event) if isinstance(n, int) and not isinstance(n, bool)))


def _data(event: gr.EventData) -> Any:
    return event._data.get("data") if isinstance(event._data, dict) else None
