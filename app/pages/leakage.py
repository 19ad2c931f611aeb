"""Leakage: where the words of a caption look in a picture, the repair of what looks elsewhere, and edits three ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components import leakage as views
from app.components.html import page_title, section, tag
from app.components.jobs import act_on_job
from app.components.leakage_choice import ChoicePanel, machine_of, picture_of, source_of
from app.components.leakage_edit import EditPanel
from app.components.leakage_maps import maps_html, maps_value
from app.components.leakage_masks import MaskPanel
from app.components.leakage_repair import RepairPanel, live_stamp, repair_of
from app.components.live import pressed
from app.context import AppContext, Page
from engines.diffusion.leakage.repairs import repairs
from engines.diffusion.leakage.studies import Study, find_study, study_sample
from engines.diffusion.places import text_to_image_models
from engines.diffusion.words import split_words
from engines.errors import PromptloupeError

PAGE = Page(route="leakage", title="Leakage", order=80, icon="leakage")


def build(context: AppContext) -> None:
    _LeakagePage(context).listen()


class _LeakagePage:
    """The components of the page, and what listens to them."""

    def __init__(self, context: AppContext) -> None:
        self.context, self.workspace = context, context.workspace
        gr.HTML(page_title("Leakage", views.LEAD), apply_default_css=False)
        gr.HTML(tag("p", views.EXPLAINED, class_="pl-explained"), apply_default_css=False)
        gr.HTML(views.SAFETY, elem_id="leakage-safety", apply_default_css=False)
        self.kept = context.remembered("leakage", {})
        self.study, self.words, self.seen = gr.State(""), gr.State([]), gr.State(())
        self.empty = gr.HTML(visible=False, elem_id="leakage-empty", apply_default_css=False)
        self.model = gr.Dropdown(
            [],
            label="Text-to-image model",
            info="By name, or the folder it lies in.",
            allow_custom_value=True,
            interactive=True,
            elem_id="leakage-model",
        )
        with gr.Column(visible=False) as self.body:
            self.choice = ChoicePanel(context)
        with gr.Column(visible=False) as self.maps_part:
            self._maps()
        with gr.Column(visible=False) as self.repair_part:
            self.repair = RepairPanel(context)
        with gr.Column(visible=False) as self.edit_part:
            self.edit = EditPanel(context)
        self.settled = [
            self.choice.pictures,
            self.choice.presses,
            self.note,
            self.maps_part,
            self.maps,
            self.masks.word,
        ]
        self.settled += [self.repair_part, *self.repair.live, self.repair.told, self.edit_part, *self.edit.results]
        self.at_work = [self.choice.progress, self.repair.progress, self.edit.progress, self.seen]

    def _maps(self) -> None:
        gr.HTML(section("Where the words look"), apply_default_css=False)
        self.note = gr.HTML(elem_id="leakage-note", apply_default_css=False)
        self.maps = maps_html(elem_id="leakage-maps")
        self.masks = MaskPanel(self.context)

    def listen(self) -> None:
        context, choice = self.context, self.choice
        everything = [*self.settled, *self.at_work]
        chosen = [choice.source, self.study, self.words, choice.caption, choice.picture]
        opening = [*chosen, self.edit.prompt, self.edit.word, *everything, self.kept]
        offer, parts = [self.empty, self.model, self.body], [self.maps_part, self.repair_part, self.edit_part]
        context.on_load(self.begin, self.kept, [*offer, *opening])
        context.listen(self.model.input, self.choose_model, self.model, [*offer, self.study, *parts, self.kept])
        context.listen(choice.pictures.action, self.choose, [self.model, choice.steps], opening, every=True)
        context.listen(
            choice.upload.upload, self.take, choice.upload, [choice.source, choice.picture, self.study, *parts]
        )
        retyped = [self.words, choice.presses, self.study, *parts]
        context.listen(choice.caption.change, self.retype, [choice.caption, self.study, self.words], retyped)
        context.listen(choice.describe.click, choice.caption_for, choice.source, choice.caption)
        pressing = [choice.caption, self.study, self.words, self.model]
        context.listen(choice.presses.action, self.press, pressing, [self.words, *everything, self.kept], every=True)
        asked = [choice.source, self.words, choice.caption, self.model, choice.steps, *choice.machine]
        context.listen(choice.go.click, self.look, asked, opening)
        ready = [self.study, self.words, *choice.machine]
        context.listen(self.repair.go.click, self.mend, [*ready, *self.repair.asked], everything)
        context.listen(self.edit.go.click, self.change, [*ready, *self.edit.asked], everything)
        self.edit.listen(self.study)
        self.masks.listen(self.study, self.words, self.shown_masks, [self.note, self.maps, self.repair.told])
        for part in (choice.progress, self.repair.progress, self.edit.progress):
            context.listen(part.action, self.act, [self.study, self.words], everything, every=True)
        context.on_tick(self.keep_up, [self.seen, self.study, self.words], everything)

    # --- choosing ---

    def begin(self, kept: Any) -> list[Any]:
        """What was looked at last, where it is still there."""
        kept = kept if isinstance(kept, dict) else {}
        study = self._find(kept.get("study"))
        words = kept.get("words") if isinstance(kept.get("words"), list) else []
        model = str(kept.get("model") or "")
        return [*self._offer(model), *self._opened(study, words, model)]

    def _offer(self, model: str) -> list[Any]:
        known = list(text_to_image_models())
        model = model or next(iter(known), "")
        choices = known if model in known or not model else [*known, model]
        return [
            gr.update(value="" if model else views.no_model(), visible=not model),
            gr.update(choices=choices, value=model or None),
            gr.update(visible=bool(model)),
        ]

    def choose_model(self, model: Any) -> list[Any]:
        """Another model: maps of the one before mean nothing for it; picture, caption and words stay."""
        name = str(model or "").strip()
        return [*self._offer(name), *self._gone(), _kept(None, [], name)]

    @staticmethod
    def _gone() -> list[Any]:
        """No study, and nothing on show of it."""
        return ["", *[gr.update(visible=False)] * 3]

    def choose(self, model: Any, steps: Any, event: gr.EventData) -> list[Any]:
        """A sample, or a picture looked at before, was pressed."""
        kind, _, name = pressed(event)[1].partition(":")
        if kind == "study":
            study = find_study(self.workspace, name)
            return self._opened(study, _last_words(study), str(model))
        return self._opened(study_sample(self.workspace, name, str(model), int(steps)), [], str(model))

    def take(self, file: Any) -> list[Any]:
        """A picture was dropped; a study begins when its caption is there, too."""
        return [*self.choice.dropped(file), *self._gone()]

    def retype(self, caption: Any, study_id: Any, words: Any) -> list[Any]:
        """Another caption: what was found for the one before goes, chosen words stay where they still stand."""
        text, study = str(caption or ""), self._find(study_id)
        if study and " ".join(text.split()) in ("", study.facts.caption):  # it was the page that wrote it
            return [gr.skip()] * 6
        words = [word for word in words if word < len(split_words(text))]
        return [words, views.words_to_press(text, words), *self._gone()]

    def press(self, caption: Any, study_id: Any, words: Any, model: Any, event: gr.EventData) -> list[Any]:
        """A word of the caption is chosen, or no longer."""
        value = pressed(event)[1]
        number = int(value) if value.isdecimal() and len(value) < 5 else -1
        chosen = sorted({*words} ^ {number}) if 0 <= number < len(split_words(str(caption or ""))) else list(words)
        study = self._find(study_id)
        values = self._settled(study, chosen)
        values[1] = views.words_to_press(str(caption or ""), chosen)
        kept = _kept(study, chosen, model) if study else gr.skip()
        return [chosen, *values, *self._at_work(study, chosen), kept]

    def _opened(self, study: Study | None, words: Sequence[int], model: str) -> list[Any]:
        """Values of everything for a study."""
        chosen = [word for word in words if isinstance(word, int) and study and word < len(study.words)]
        caption = study.facts.caption if study else ""
        wanted = self.edit.last_prompt(study) or caption
        weights = [(word, number) for number, word in enumerate(study.words)] if study else []
        return [
            source_of(study),
            study.id if study else "",
            chosen,
            gr.update(value=caption),
            picture_of(study),
            gr.update(value=wanted),
            gr.update(choices=weights, value=None),
            *self._settled(study, chosen),
            *self._at_work(study, chosen),
            _kept(study, chosen, model),
        ]

    # --- what is known ---

    def _settled(self, study: Study | None, words: Sequence[int]) -> list[Any]:
        """Values of `settled`."""
        looked = study is not None and study.looked
        repair = repair_of(study, words) if looked else None
        finished = repair is not None and repair.finished
        return [
            views.pictures(self.workspace, source_of(study)),
            views.words_to_press(study.facts.caption if study else "", words),
            views.looked(study, words),
            gr.update(visible=looked),
            maps_value(study, words, repair),
            self.masks.choices(study, words),
            gr.update(visible=looked and bool(words)),
            *self.repair.live_values(repair),
            self.repair.told_value(study, repair),
            gr.update(visible=finished),
            *self.edit.values(study if finished else None),
        ]

    def shown_masks(self, study_id: Any, words: Any) -> list[Any]:
        """Values of what shows masks, after one was drawn."""
        study = self._find(study_id)
        repair = repair_of(study, words)
        return [views.looked(study, words), maps_value(study, words, repair), self.repair.told_value(study, repair)]

    def _at_work(self, study: Study | None, words: Sequence[int]) -> list[Any]:
        """Values of `at_work`."""
        found = views.jobs_of(self.workspace, study.id) if study else []
        live = live_stamp(repair_of(study, words))
        return [*(views.working(found, kind) for kind in views.KINDS), (views.stamp(found), live)]

    def _find(self, study_id: Any) -> Study | None:
        try:
            return find_study(self.workspace, str(study_id)) if study_id else None
        except PromptloupeError:
            return None

    # --- working ---

    def look(self, source: Any, words: Any, caption: Any, model: Any, steps: Any, *machine: Any) -> list[Any]:
        """Queue the maps of the picture with the caption as it stands."""
        study = self.choice.study(str(source), str(caption or ""), str(model), int(steps))
        if study.looked:
            gr.Info("It is known already where these words look.")
        elif not self._busy(study, "leakage-maps"):
            self.context.submit("leakage-maps", {"study": study.id, **machine_of(machine)})
        return self._opened(study, words, str(model))

    def _busy(self, study: Study, kind: str) -> bool:
        return any(job.kind == kind and not job.state.ended for job in views.jobs_of(self.workspace, study.id))

    def mend(self, study_id: Any, words: Any, slicing: Any, processor: Any, *asked: Any) -> list[Any]:
        """Queue the repair of the chosen words."""
        study = find_study(self.workspace, str(study_id))
        if self._busy(study, "leakage-repair"):
            gr.Info("A repair of this picture is under way.")
        elif not self.repair.begin(study, words, machine_of((slicing, processor)), asked):
            gr.Info("This repair was done already.")
        return [*self._settled(study, words), *self._at_work(study, words)]

    def change(self, study_id: Any, words: Any, slicing: Any, processor: Any, *asked: Any) -> list[Any]:
        """Queue an edit of the repaired picture."""
        study = find_study(self.workspace, str(study_id))
        if self._busy(study, "leakage-edit"):
            gr.Info("An edit of this picture is under way.")
        elif not self.edit.begin(study, repair_of(study, words), machine_of((slicing, processor)), asked):
            gr.Info("This edit was done already.")
        return [*self._settled(study, words), *self._at_work(study, words)]

    def act(self, study_id: Any, words: Any, event: gr.EventData) -> list[Any]:
        """Cancel a job on show, or try it again: it goes on where it was."""
        name, job_id = pressed(event)
        study = self._find(study_id)
        if study and job_id in [job.id for job in views.jobs_of(self.workspace, study.id)]:
            act_on_job(self.workspace, name, job_id)
        return [*self._settled(study, words), *self._at_work(study, words)]

    def keep_up(self, seen: Any, study_id: Any, words: Any) -> list[Any]:
        """Follow the jobs, and show what they found."""
        study = self._find(study_id)
        shown = self._at_work(study, words)
        now, values = shown[-1], [gr.skip()] * len(self.settled)
        if not study or not seen:
            return [*values, *([gr.skip()] * len(shown) if not study else shown)]
        if now[0] != seen[0]:
            values = self._settled(study, words)
            values[self.settled.index(self.masks.word)] = gr.skip()  # somebody may be painting
        elif now[1] != seen[1]:
            place = self.settled.index(self.repair.live[0])
            values[place : place + 2] = self.repair.live_values(repair_of(study, words))
        return [*values, *shown]


def _last_words(study: Study) -> list[int]:
    """Those of its last repair."""
    last = next(iter(repairs(study)), None)
    return list(last.request.words) if last else []


def _kept(study: Study | None, words: Sequence[int], model: Any) -> dict[str, Any]:
    """What this browser remembers."""
    return {"study": study.id if study else "", "words": list(words), "model": str(model or "")}
