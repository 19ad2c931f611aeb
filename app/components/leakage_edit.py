"""Editing the picture: what is wanted, and what three ways made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from app.components import leakage as views
from app.components.html import Html, section
from app.components.live import live_html
from app.context import AppContext
from engines.diffusion.leakage.edits import EditFolder, changed_words, edits, find_edit, open_edit
from engines.diffusion.leakage.repairs import Repair
from engines.diffusion.leakage.requests import EditRequest
from engines.diffusion.leakage.studies import Study
from engines.diffusion.settings import EditSettings
from engines.errors import ConfigError

LEAD = (
    "Change the caption, and the picture follows: by plain Prompt-to-Prompt, after null-text inversion, and repaired."
)
KINDS = [("swap words", "swap"), ("add words", "refine"), ("weaken or strengthen a word", "weight")]
PLACES = [("where the changed words look", "words"), ("inside their masks", "masks"), ("anywhere", "everywhere")]


class EditPanel:
    """The section; the page decides when it is on show."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        gr.HTML(section("Edit", LEAD), apply_default_css=False)
        self.kind = gr.Radio(KINDS, value="swap", label="What to do", elem_id="leakage-kind")
        self.prompt = gr.Textbox(label="Edited caption", max_lines=2, elem_id="leakage-prompt")
        with gr.Row(visible=False) as self.weighting:
            self.word = gr.Dropdown([], label="Word", interactive=True, elem_id="leakage-weight-word")
            self.factor = gr.Slider(
                0,
                5,
                2,
                step=0.1,
                label="How many times as strong",
                info="Below 1 weakens it, above 1 strengthens it.",
                elem_id="leakage-factor",
            )
        with gr.Accordion("Advanced", open=False, elem_id="leakage-edit-advanced"):
            self.where = gr.Radio(PLACES, value="words", label="Where the picture may change", elem_id="leakage-where")
            with gr.Row():
                self.cross, self.own = (
                    gr.Slider(0, 1, EditSettings().model_dump()[name], step=0.05, label=label, info=_told(name))
                    for name, label in (
                        ("cross_until", "Words keep their places until"),
                        ("self_until", "Layout kept until"),
                    )
                )
        with gr.Row(elem_classes="pl-actions"):
            self.go = gr.Button("Edit three ways", variant="primary", elem_id="leakage-edit")
        self.progress = live_html(elem_id="leakage-edit-progress")
        self.earlier = gr.Dropdown(
            [], label="Edits of this picture", interactive=True, visible=False, elem_id="leakage-edits"
        )
        self.shown = gr.HTML(elem_id="leakage-edited", apply_default_css=False)
        self.asked = [self.kind, self.prompt, self.word, self.factor, self.where, self.cross, self.own]
        self.results = [self.earlier, self.shown]

    def listen(self, study: gr.State) -> None:
        def switch(kind: Any) -> list[Any]:
            weighting = kind == "weight"
            return [gr.update(visible=not weighting), gr.update(visible=weighting)]

        self.context.listen(self.kind.input, switch, self.kind, [self.prompt, self.weighting])
        self.context.listen(self.earlier.input, self.show, [study, self.earlier], self.shown)

    def show(self, study_id: Any, edit_id: Any) -> Html:
        from engines.diffusion.leakage.studies import find_study

        study = find_study(self.context.workspace, str(study_id))
        return self._shown(study, find_edit(study, str(edit_id)))

    def begin(self, study: Study, repair: Repair | None, machine: Mapping[str, Any], asked: Sequence[Any]) -> bool:
        """Queue the edit; whether there was anything to do.

        Raises:
            ConfigError: nothing changes, or the captions do not fit each other.
        """
        kind, prompt, word, factor, where, cross, own = asked
        if repair is None or not repair.finished:
            raise ConfigError("These words are not repaired yet.", "Press Repair first.")
        weighted = kind == "weight"
        if weighted and not isinstance(word, int):
            raise ConfigError("No word is chosen.", "Choose the word to weaken or strengthen.")
        request = EditRequest(
            study=study.id,
            repair=repair.id,
            prompt=study.facts.caption if weighted else " ".join(str(prompt or "").split()),
            kind=kind,
            weights={word: float(factor)} if weighted else {},
            where=where,
            settings=EditSettings(cross_until=float(cross), self_until=float(own)),
            **machine,
        )
        changed_words(study.facts.caption, request)
        if open_edit(study, request).record is not None:
            return False
        self.context.submit("leakage-edit", request)
        return True

    def values(self, study: Study | None) -> list[Any]:
        """Values of `results`: the newest edit, and all to choose from."""
        found = edits(study) if study else []
        names = [(_name(each), each.id) for each in found]
        newest = found[0] if found else None
        choice = gr.update(choices=names, value=newest.id if newest else None, visible=len(found) > 1)
        return [choice, self._shown(study, newest) if study and newest else Html("")]

    def last_prompt(self, study: Study | None) -> str:
        """The caption of the newest edit; empty where there is none."""
        newest = next(iter(edits(study)), None) if study else None
        return str(((newest.record or {}) if newest else {}).get("request", {}).get("prompt", ""))

    def _shown(self, study: Study, found: EditFolder) -> Html:
        record = found.record
        return views.edited(study, found, record) if record else Html("")


def _name(found: EditFolder) -> str:
    request = (found.record or {}).get("request", {})
    factors = ", ".join(f"× {factor:g}" for factor in request.get("weights", {}).values())
    return " ".join(filter(None, [request.get("prompt", ""), factors]))


def _told(name: str) -> str:
    return EditSettings.model_fields[name].description or ""
