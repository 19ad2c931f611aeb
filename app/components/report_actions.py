"""Buttons that make a report, or keep a comparison to be presented: one line on a page that shows results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components.html import link, notice
from app.components.run_page import find_result
from app.context import AppContext, tell_errors
from engines.errors import ConfigError
from engines.reports import saved

SHORT: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}


def at_run(context: AppContext, key: gr.BrowserState, button: gr.Button) -> None:
    """Let `button` download a report of the result called `key`, with all its seeds."""
    _download(context, button, "run-report", lambda opened: report_of_run(context, opened), [key])


def report_of_run(context: AppContext, key: Any) -> dict[str, Any]:
    found = find_result(context.workspace, key if isinstance(key, str) else "")
    if found is None or not found.runs:
        raise ConfigError("There is no result here yet.", "Open a result that is done.")
    return {"results": [found.experiment.key]}


def at_compare(context: AppContext, dataset: gr.Dropdown, results: gr.Dropdown) -> None:
    """Buttons below a comparison: a report of it, and a name under which it is kept for presenting."""
    with gr.Row(elem_id="compare-keep"):
        name = gr.Textbox(
            label="Keep this comparison",
            placeholder="A name, such as “Tumour board, May”",
            max_lines=1,
            max_length=120,
            scale=3,
            elem_id="compare-name",
        )
        keep = gr.Button("Keep for presenting", elem_id="compare-save")
        report = gr.Button("Report", elem_id="compare-report-make")
    told = gr.HTML(elem_id="compare-kept", apply_default_css=False)

    def save(called: str, images: Any, keys: Any) -> list[Any]:
        made = saved.save(context.workspace, called or "", str(images or ""), list(keys or []))
        return [notice("good", f"“{made.name}” is kept.", link("Present it", "present")), ""]

    for event in (keep.click, name.submit):
        context.listen(event, save, [name, dataset, results], [told, name])
    _download(context, report, "compare-report", lambda keys: {"results": _chosen(keys)}, [results])


def _chosen(keys: Any) -> list[str]:
    if not keys:
        raise ConfigError("No result is chosen.", "Choose at least one above.")
    return list(keys)


def _download(context: AppContext, button: gr.Button, name: str, payload: Any, inputs: Sequence[Any]) -> None:
    """Make a report and hand it to the browser."""
    file = gr.DownloadButton("Download", visible="hidden", elem_id=f"{name}-file")

    def make(*given: Any) -> Any:
        made = context.call("report", payload(*given))["path"]
        return gr.update(value=str(context.workspace.resolve(made)))

    ready = button.click(tell_errors(make), list(inputs), file, **SHORT)
    ready.success(None, js=f"() => setTimeout(() => document.querySelector('#{name}-file')?.click(), 300)")
