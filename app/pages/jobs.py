"""Jobs."""

from __future__ import annotations

import gradio as gr

from app.components.html import page_title
from app.context import AppContext, Page

PAGE = Page(route="jobs", title="Jobs", order=110)


def build(context: AppContext) -> None:
    gr.HTML(page_title("Jobs", "All work that runs in the background."), apply_default_css=False)
