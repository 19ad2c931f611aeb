"""What is chosen before a round of labelling: whose eyes, how many images, and how they are picked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from sqlalchemy import func, select

from app.components.choices import backbone_choices
from app.components.forms import Field, clean, component, form_fields, told_on_field
from app.components.html import Html, action, empty_state, fold, link, notice, tag
from app.components.icons import GALLERY
from app.components.methods import methods
from app.components.words import counted
from engines.active import StrategyInfo, available_strategies
from engines.errors import ConfigError
from engines.labelling import LabelSettings
from engines.labelling.readers import folded, known_as
from engines.store import Annotation, Occasion, Workspace
from engines.store.browse import DatasetSummary, Tally, dataset_summaries

SHOWN = ("budget", "strategy", "balanced")
"""Settings that stand on the page; the others wait under Advanced."""
LONGEST_NAME = 100


class SettingsForm:
    """A component for each of `LabelSettings`, and what their values mean."""

    def __init__(self, workspace: Workspace) -> None:
        self.fields: dict[str, Field] = {f.name: f for f in form_fields(LabelSettings.model_json_schema())}
        self.parts: dict[str, gr.components.Component] = {}
        self.workspace = workspace

    def place(self, name: str) -> None:
        """Lay out the component of one setting."""
        field = self.fields[name]
        self.parts[name] = self._component(field)

    def place_rest(self) -> None:
        rest = [name for name in self.fields if name not in self.parts]
        for start in range(0, len(rest), 3):
            with gr.Row(equal_height=True):
                for name in rest[start : start + 3]:
                    self.place(name)

    def _component(self, field: Field) -> gr.components.Component:
        common: dict[str, Any] = {"label": field.title, "interactive": True, "elem_id": f"setting-{field.name}"}
        if field.name == "strategy":
            common["label"] = "How images are picked"
            choices = [(each.title, each.name) for each in strategies()]
            return gr.Dropdown(choices, value=field.default, info=strategy_sentence(field.default), scale=2, **common)
        if field.kind == "number" and field.high is not None and field.high <= 1:
            common["info"] = f"{field.info} 0.2 is one image in five."
            return gr.Slider(field.low or 0, field.high, step=0.05, value=field.default, **common)
        if field.name == "backbone":
            common["label"] = "Model"
            known = backbone_choices(field.default)
            return gr.Dropdown(known, value=field.default, info=field.info, allow_custom_value=True, **common)
        if field.name == "method":
            return gr.Dropdown(method_choices(), value=field.default, info=field.info, **common)
        return component(field)

    @property
    def components(self) -> list[gr.components.Component]:
        return [self.parts[name] for name in self.fields]

    def listen(self) -> None:
        """Say on each field what is wrong with its value, and what the chosen strategy does."""
        for name, part in self.parts.items():
            if name == "strategy":
                part.change(
                    lambda value: gr.update(info=strategy_sentence(value)),
                    part,
                    part,
                    queue=False,
                    show_progress="hidden",
                    api_visibility="private",
                )
            elif not isinstance(part, gr.Dropdown | gr.Slider):
                told_on_field(part, self.fields[name])

    def values(self, settings: LabelSettings) -> list[Any]:
        held = settings.model_dump(mode="json")
        return [held[name] for name in self.fields]

    def settings(self, given: Sequence[Any]) -> LabelSettings:
        """What the form says.

        Raises:
            ConfigError: a value does not fit; it names the field.
        """
        chosen: dict[str, Any] = {}
        for field, value in zip(self.fields.values(), given, strict=True):
            try:
                chosen[field.name] = clean(field, value)
            except ValueError as error:
                raise ConfigError(f"{field.title}: {error}", "Nothing else was changed.") from error
        if chosen["strategy"] not in {each.name for each in available_strategies()}:
            raise ConfigError("There is no such way of picking images.", "Choose one of the list.")
        if chosen["method"] not in {name for _, name in method_choices()}:
            raise ConfigError("There is no such method.", "Choose one of the list.")
        return LabelSettings.model_validate(chosen)


def strategies() -> list[StrategyInfo]:
    """The ways of picking, the one that is chosen at first before the others."""
    usual = LabelSettings().strategy
    return sorted(available_strategies(), key=lambda each: (each.name != usual, each.name == "random", each.title))


def strategy_help() -> Html:
    """A sentence on each way of picking."""
    lines = [tag("li", tag("strong", each.title), ": ", each.sentence) for each in strategies()]
    balance = tag(
        "li", tag("strong", "Balance the classes"), ": works with each of them, so that rare classes come too."
    )
    return fold("What each way of picking does", tag("ul", *lines, balance))


def strategy_sentence(name: Any) -> str:
    return next((each.sentence for each in available_strategies() if each.name == name), "")


def method_choices() -> list[tuple[str, str]]:
    """(title, name) of the methods that learn from labels."""
    return [(entry.title, entry.name) for entry in methods().values() if entry.trains and entry.learns_from == "labels"]


def reader_name(workspace: Workspace, value: Any) -> str:
    """A reader's name as it is kept, whichever way it was spelt this time; empty where it is none."""
    typed = " ".join(value.split())[:LONGEST_NAME] if isinstance(value, str) else ""
    return known_as(workspace, typed)


def known_readers(workspace: Workspace) -> list[str]:
    """Everybody who has labelled in this workspace, by name; each once, and no files that labels came in."""
    read = select(Annotation.annotator).where(Annotation.occasion != Occasion.IMPORT)
    with workspace.session() as session:
        names = session.scalars(read.group_by(Annotation.annotator).order_by(func.min(Annotation.id).desc()))
        first = {folded(name): name for name in names}
    return sorted(first.values(), key=str.casefold)


def offered_sets(workspace: Workspace) -> dict[str, int]:
    """Ids of the data sets by their names with their sizes, newest first."""
    return {f"{d.name} ({d.images:,} images)": d.id for d in dataset_summaries(workspace) if d.images}


def unlabelled(tally: Tally) -> int:
    """Images that came without a label."""
    return sum(count for (_, class_id, _), count in tally.items() if class_id is None)


def no_images() -> Html:
    return empty_state(
        GALLERY,
        "The images that deserve your time will stand here, one after the other. First bring some in.",
        link("Load images", "data", "pl-button primary"),
    )


def all_labelled(dataset: DatasetSummary) -> Html:
    """What can be done with images that all have a label already."""
    return tag(
        "div",
        notice(
            "info",
            f"All {counted(dataset.images, 'image')} of “{dataset.name}” came with a label.",
            "There is nothing to label; but you can practise, or look for wrong labels.",
        ),
        tag(
            "span",
            action("Practise on a copy without labels", "practise", "", "primary"),
            action("Look for wrong labels", "errors"),
            class_="pl-buttons",
        ),
        class_="pl-offer",
    )


def ask_for_classes(dataset: DatasetSummary) -> Html:
    few = "no class" if not dataset.classes else "one class only"
    return notice("info", f"“{dataset.name}” has {few} so far.", "Type what the images can show, one name per line.")


def summary(settings: LabelSettings, dataset: DatasetSummary | None, reader: str) -> str:
    """What was chosen, in the line that stays when the form is folded."""
    if dataset is None:
        return "What you chose"
    titles: Mapping[str, str] = {each.name: each.title for each in available_strategies()}
    how = titles.get(settings.strategy, settings.strategy)
    parts = [dataset.name, reader or "no name yet", f"{counted(settings.budget, 'image')} per round"]
    parts.append(f"{how}, balanced" if settings.balanced else how)
    return "What you chose: " + " · ".join(parts)
