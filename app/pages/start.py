"""Start."""

from __future__ import annotations

import gradio as gr

from app.components.html import page_title
from app.context import AppContext, Page

PAGE = Page(route="", title="Start", order=10)


def build(context: AppContext) -> None:
    gr.HTML(
        page_title("Start", "Teach a model to tell your images apart, from a handful of labelled ones."),
        apply_default_css=False,
    )
