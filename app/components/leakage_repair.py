"""Repairing: its settings, its curves while it runs, and what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from app.components import leakage as views
from app.components.html import Html, section
from app.components.leakage_figures import loss_curves
from app.components.live import live_html
from app.components.plot import drawn, plot
from app.context import AppContext
from engines.diffusion.leakage.repairs import Repair, open_repair, repairs
from engines.diffusion.leakage.requests import RepairRequest
from engines.diffusion.leakage.studies import Study
from engines.diffusion.settings import RepairSettings
from engines.diffusion.words import adjectives_of

LEAD = "The chosen words learn to look at different places, away from the background. The picture itself stays."
_FIELDS = RepairSettings.model_fields


class RepairPanel:
    """The section; the page decides when it is on show."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        gr.HTML(section("Repair", LEAD), apply_default_css=False)
        with gr.Row(elem_classes="pl-actions"):
            self.go = gr.Button("Repair", variant="primary", elem_id="leakage-repair")
        with gr.Accordion("Advanced", open=False, elem_id="leakage-repair-advanced"):
            with gr.Row():
                self.updates = gr.Slider(
                    1,
                    50,
                    21,
                    step=1,
                    label="Updates of the words, for each step",
                    info="At most; it stops where every word looks well enough. Fewer are quicker.",
                    elem_id="leakage-updates",
                )
                self.guidance = gr.Slider(
                    1,
                    15,
                    7.5,
                    step=0.5,
                    label="Guidance",
                    info=_FIELDS["guidance"].description,
                    elem_id="leakage-guidance",
                )
            with gr.Row():
                self.schedule = gr.Radio(
                    ["fast", "official"],
                    value="fast",
                    label="Schedule",
                    info=_FIELDS["schedule"].description,
                    elem_id="leakage-schedule",
                )
                self.masks = gr.Checkbox(
                    False,
                    label="Bind each word to its mask (LocInv)",
                    info="Where every chosen word has a mask: stronger than keeping words apart.",
                    elem_id="leakage-bind",
                )
                self.adjectives = gr.Checkbox(
                    False,
                    label="Bind adjectives, too",
                    info="With masks: the word before a chosen one, “red” in “red ring”, learns the same place.",
                    elem_id="leakage-adjectives",
                )
        self.progress = live_html(elem_id="leakage-repair-progress")
        with gr.Row():
            with gr.Column(scale=3, min_width=420):
                self.curves = plot(elem_id="leakage-curves")
            with gr.Column(scale=1, min_width=240):
                self.preview = gr.HTML(elem_id="leakage-preview", apply_default_css=False)
        self.told = gr.HTML(elem_id="leakage-told", apply_default_css=False)
        self.asked = [self.updates, self.guidance, self.schedule, self.masks, self.adjectives]
        self.live = [self.curves, self.preview]

    def begin(self, study: Study, words: Sequence[int], machine: Mapping[str, Any], asked: Sequence[Any]) -> bool:
        """Queue the repair; whether there was anything to do.

        Raises:
            ConfigError: words or masks are missing.
        """
        updates, guidance, schedule, masks, adjectives = asked
        settings = RepairSettings(schedule=schedule, guidance=float(guidance), attention_steps=int(updates))
        bound = adjectives_of(study.words, words) if adjectives else {}
        request = RepairRequest(
            study=study.id, words=list(words), masks=bool(masks), adjectives=bound, settings=settings, **machine
        )
        found = open_repair(study, request)
        if found.finished:
            found.touch()
            return False
        self.context.submit("leakage-repair", request)
        return True

    def live_values(self, repair: Repair | None) -> list[Any]:
        """Values of `live`."""
        return [drawn(loss_curves(repair)), views.preview(repair)]

    def told_value(self, study: Study | None, repair: Repair | None) -> Html:
        return views.repaired(study, repair)


def repair_of(study: Study | None, words: Sequence[int]) -> Repair | None:
    """The last repair of exactly these words, begun or finished."""
    if study is None or not words:
        return None
    return next((each for each in repairs(study) if sorted(each.request.words) == sorted(words)), None)


def live_stamp(repair: Repair | None) -> int:
    """Changes whenever a running repair has something new to show."""
    if repair is None:
        return 0
    times = [file.stat().st_mtime_ns for file in repair.folder.glob("*") if file.name in ("live.json", "preview.png")]
    return max(times, default=0)
