"""Drawing or correcting the mask of a word's object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from app.context import AppContext
from engines.diffusion.leakage.studies import Study, find_study
from engines.errors import ConfigError

SIDE = 512
"""Pixels to a side of the canvas, whatever the picture has: layers of another size would be put off the centre."""
Shown = Callable[[Any, Any], list[Any]]
"""(study, words) -> values of everything that shows masks."""


class MaskPanel:
    """The editor with its buttons; `listen` wires it."""

    def __init__(self, context: AppContext) -> None:
        self.context, self.workspace = context, context.workspace
        with gr.Accordion("Draw or correct a mask", open=False, elem_id="leakage-masks"):
            self.word = gr.Dropdown(
                [],
                label="Object of the word",
                info="Choose a word, paint over its object, keep the mask.",
                interactive=True,
                elem_id="leakage-mask-word",
            )
            self.editor = gr.ImageEditor(
                type="numpy",
                format="png",
                brush=gr.Brush(default_size=24, colors=["#FFFFFF"], color_mode="fixed"),
                eraser=gr.Eraser(default_size=24),
                layers=False,
                transforms=None,
                sources=None,
                canvas_size=(SIDE, SIDE),
                height=640,
                label="Paint over the object",
                elem_id="leakage-editor",
            )
            with gr.Row(elem_classes="pl-actions"):
                self.keep = gr.Button("Keep this mask", size="sm", elem_id="leakage-mask-keep")
                self.drop = gr.Button("Take the drawn mask away", size="sm", elem_id="leakage-mask-drop")

    def listen(self, study: gr.State, words: gr.State, shown: Shown, outputs: Sequence[Any]) -> None:
        """`outputs` take what `shown` gives."""
        context = self.context

        def keep(study_id: Any, chosen: Any, word: Any, painted: Any) -> list[Any]:
            return self._put(study_id, chosen, word, _painted(painted), shown)

        def drop(study_id: Any, chosen: Any, word: Any) -> list[Any]:
            found = find_study(self.workspace, str(study_id))
            if not isinstance(word, int) or not found.drawn(word):
                raise ConfigError("No mask was drawn for this word.", "Draw one first.")
            return self._put(study_id, chosen, word, None, shown)

        context.listen(self.word.input, self.open, [study, self.word], self.editor)
        context.listen(self.keep.click, keep, [study, words, self.word, self.editor], outputs)
        done = context.listen(self.drop.click, drop, [study, words, self.word], outputs)
        done.then(self.open, [study, self.word], self.editor, show_progress="hidden", api_visibility="private")

    def choices(self, study: Study | None, words: Sequence[int]) -> dict[str, Any]:
        """The chosen words, for `word`."""
        offered = [(study.words[number], number) for number in words] if study else []
        return gr.update(choices=offered, value=None)

    def open(self, study_id: Any, word: Any) -> Any:
        """The picture to paint on, with the mask so far."""
        if not isinstance(word, int) or not study_id:
            return None
        study = find_study(self.workspace, str(study_id))
        with Image.open(study.image) as image:
            ground = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        mask = study.mask(word)
        layer = np.zeros((SIDE, SIDE, 4), np.uint8)
        if mask is not None:
            large = Image.fromarray(mask.astype(np.uint8) * 255).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            layer[np.asarray(large) > 127] = 255
        return {"background": ground, "layers": [layer], "composite": None}

    def _put(self, study_id: Any, chosen: Any, word: Any, mask: Any, shown: Shown) -> list[Any]:
        if not isinstance(word, int):
            raise ConfigError("No word is chosen.", "Choose the word whose object you paint.")
        study = find_study(self.workspace, str(study_id))
        study.draw(word, mask)
        self.context.call("leakage-measure", {"study": study.id}, timeout=120)
        gr.Info("The mask is kept." if mask is not None else "The drawn mask was taken away.")
        return shown(study_id, chosen)


def _painted(value: Any) -> Any:
    """[H, W] bool of what was painted on any layer."""
    layers = value.get("layers") if isinstance(value, dict) else None
    if not layers:
        raise ConfigError("Nothing is painted.", "Paint over the object, then keep the mask.")
    return np.any([np.asarray(layer)[..., 3] > 0 for layer in layers], axis=0)
