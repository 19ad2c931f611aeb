"""Choosing a picture, its caption, the words that are objects, and how it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components import leakage as views
from app.components.compare_try import IMAGE_FILES
from app.components.gallery import picture_url
from app.components.html import Html, section, tag
from app.components.live import live_html
from app.context import AppContext
from engines.data import load_image
from engines.diffusion.leakage.samples import SAMPLES, find_sample
from engines.diffusion.leakage.studies import STEPS, Study, find_study, study_file, study_sample
from engines.diffusion.places import find_captioner
from engines.diffusion.squares import square_image
from engines.errors import ConfigError

PREVIEW = 320
"""Pixels to a side of a dropped picture, as it is shown."""
NOT_CHOSEN = tag("p", "The picture, as the model will see it, appears here.", class_="pl-quiet")


class ChoicePanel:
    """The section; `source` says what is chosen: `sample:<name>`, `study:<id>` or `file:<path>`."""

    def __init__(self, context: AppContext) -> None:
        self.context, self.workspace = context, context.workspace
        self.source = gr.State("")
        gr.HTML(section("The picture and its caption"), apply_default_css=False)
        with gr.Row():
            with gr.Column(scale=3, min_width=420):
                self.pictures = live_html(elem_id="leakage-pictures")
                self.upload = gr.File(
                    label="A picture of your own (PNG, JPEG, TIFF, DICOM …)",
                    file_types=IMAGE_FILES,
                    height=170,
                    elem_id="leakage-upload",
                )
            with gr.Column(scale=1, min_width=240):
                self.picture = gr.HTML(NOT_CHOSEN, elem_id="leakage-picture", apply_default_css=False)
        self.caption = gr.Textbox(
            label="Caption",
            placeholder="a red circle and a blue star on grass",
            info="What the picture shows, in one sentence. Then press the words that are objects.",
            max_lines=3,
            elem_id="leakage-caption",
        )
        self.describe = gr.Button(
            "Describe it for me", size="sm", visible=find_captioner() is not None, elem_id="leakage-describe"
        )
        self.presses = live_html(elem_id="leakage-words")
        with gr.Accordion("Advanced", open=False, elem_id="leakage-advanced"), gr.Row():
            self.steps = gr.Slider(
                4,
                50,
                STEPS,
                step=1,
                label="Steps",
                info="From picture to noise and back; more are finer.",
                elem_id="leakage-steps",
            )
            self.slicing = gr.Checkbox(
                False, label="Save memory (attention slicing)", info="Slower; for large models on small graphics cards."
            )
            self.processor = gr.Checkbox(False, label="Use the processor", info="Much slower, but with more memory.")
        with gr.Row(elem_classes="pl-actions"):
            self.go = gr.Button("See where the words look", variant="primary", elem_id="leakage-go")
        self.progress = live_html(elem_id="leakage-progress")
        self.machine = [self.slicing, self.processor]

    def dropped(self, file: Any) -> list[Any]:
        """Values of `source` and `picture` for a picture that was dropped.

        Raises:
            DataError: it cannot be read, or nothing would be seen of it.
        """
        shown = square_image(load_image(str(file)), PREVIEW)
        return [f"file:{file}", _figure(picture_url(shown), "")]

    def caption_for(self, source: Any) -> str:
        """A caption by a model, for what is chosen."""
        kind, _, name = str(source).partition(":")
        if kind == "sample":
            return find_sample(name).caption
        file = str(find_study(self.workspace, name).image) if kind == "study" else name
        if not file:
            raise ConfigError("No picture is chosen.", "Press a sample, or drop a picture of your own.")
        return str(self.context.call("leakage-caption", {"file": file}, timeout=180)["caption"])

    def study(self, source: str, caption: str, model: str, steps: int) -> Study:
        """The study of what is chosen, begun or found again.

        Raises:
            PromptloupeError: nothing is chosen, or it cannot be studied.
        """
        kind, _, name = source.partition(":")
        if kind == "file":
            return study_file(self.workspace, name, caption, model, steps)
        if kind == "sample" and name in SAMPLES:
            return study_sample(self.workspace, name, model, steps, caption)
        if kind == "study":
            return study_file(self.workspace, find_study(self.workspace, name).image, caption, model, steps)
        raise ConfigError("No picture is chosen.", "Press a sample, or drop a picture of your own.")


def source_of(study: Study | None) -> str:
    """What is chosen where a study is on show."""
    if study is None:
        return ""
    return f"sample:{study.facts.sample}" if study.facts.sample in SAMPLES else f"study:{study.id}"


def picture_of(study: Study | None) -> Html:
    """The square that the model sees."""
    return _figure(views.file_url(study.image), study.facts.caption) if study else NOT_CHOSEN


def machine_of(values: Sequence[Any]) -> dict[str, Any]:
    """Fields of `Machine` from the two boxes."""
    slicing, processor = values
    return {"slicing": bool(slicing), "device": "cpu" if processor else "best"}


def _figure(address: str, alt: str) -> Html:
    return tag("figure", tag("img", src=address, alt=alt or "The chosen picture"), class_="pl-preview")
