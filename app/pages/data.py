"""Data."""

from __future__ import annotations

import gradio as gr

from app.components.html import page_title
from app.context import AppContext, Page

PAGE = Page(route="data", title="Data", order=20)


def build(context: AppContext) -> None:
    gr.HTML(page_title("Data", "Images and their labels."), apply_default_css=False)
