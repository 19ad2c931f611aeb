"""Forms from settings models: which component, which value comes back, what is said of a wrong one."""

from __future__ import annotations

from typing import Any, Literal

import gradio as gr
import pytest
from pydantic import BaseModel
from pydantic import Field as Setting

from app.components.forms import build_form, collect, component, field_info, form_fields, split_fields
from engines.prompts.settings import TrainingConfig


class Settings(BaseModel):
    words: int = Setting(16, ge=1, le=64, title="Learned words", description="How many.")
    steps: int = Setting(200, ge=1, le=10_000, title="Steps")
    rate: float = Setting(0.002, gt=0, le=10, title="Rate")
    place: Literal["end", "middle"] = Setting("end", title="Place")
    many: Literal["a", "b", "c", "d", "e"] = Setting("a", title="Many")
    separate: bool = Setting(False, title="Separate")
    sentence: str = Setting("a photo of a {}.", title="Sentence", pattern=r"\{\}")
    rare: float = Setting(0.5, ge=0, lt=1, title="Rare", json_schema_extra={"advanced": True})


FIELDS = {field.name: field for field in form_fields(Settings.model_json_schema())}


def check(name: str, value: Any) -> tuple[dict[str, Any], list[str]]:
    chosen, problems = collect([FIELDS[name]], [value])
    return chosen, [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("words", gr.Slider),
        ("steps", gr.Number),
        ("rate", gr.Number),
        ("place", gr.Radio),
        ("many", gr.Dropdown),
        ("separate", gr.Checkbox),
        ("sentence", gr.Textbox),
    ],
)
def test_every_kind_of_setting_has_its_component(name: str, kind: type[gr.components.Component]) -> None:
    with gr.Blocks():
        built = component(FIELDS[name])
    assert type(built) is kind
    assert built.label == FIELDS[name].title
    assert built.value == FIELDS[name].default


def test_at_most_five_are_shown_and_advanced_ones_never() -> None:
    shown, folded = split_fields(list(FIELDS.values()))
    assert [f.name for f in shown] == ["words", "steps", "rate", "place", "many"]
    assert [f.name for f in folded] == ["separate", "sentence", "rare"]
    shown, folded = split_fields([FIELDS["rare"], FIELDS["words"]])
    assert ([f.name for f in shown], [f.name for f in folded]) == (["words"], ["rare"])


def test_the_form_starts_from_the_values_it_is_given() -> None:
    with gr.Blocks():
        built = build_form(list(FIELDS.values()), {"steps": 30, "separate": True})
    values = {field.name: part.value for field, part in built}
    assert values["steps"] == 30
    assert values["separate"] is True
    assert values["words"] == 16


def test_defaults_of_a_method_go_before_those_of_the_model() -> None:
    fields = {f.name: f for f in form_fields(TrainingConfig.model_json_schema(), {"epochs": 50})}
    assert fields["epochs"].default == 50
    assert fields["batch_size"].default == 32


def test_only_what_was_changed_comes_back() -> None:
    fields = list(FIELDS.values())
    chosen, problems = collect(fields, [16, 20.0, 0.002, "end", "a", False, " a {} cell ", 0.5])
    assert chosen == {"steps": 20, "sentence": "a {} cell"}
    assert isinstance(chosen["steps"], int)
    assert problems == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "Steps: 0 does not work here: give a whole number from 1 to 10,000."),
        ("steps", 20_000, "Steps: 20,000 does not work here: give a whole number from 1 to 10,000."),
        ("steps", 2.5, "Steps: Give a whole number from 1 to 10,000."),
        ("steps", None, "Steps: Give a whole number from 1 to 10,000."),
        ("steps", True, "Steps: Give a whole number from 1 to 10,000."),
        ("steps", "many", "Steps: Give a whole number from 1 to 10,000."),
        ("rate", 0, "Rate: 0 does not work here: give a number above 0, to 10."),
        ("rate", float("nan"), "Rate: Give a number above 0, to 10."),
        ("rare", 1, "Rare: 1 does not work here: give a number from 0, below 1."),
        ("place", "front", "Place: Choose one of end, middle."),
        ("sentence", "no place", "Sentence: Put {} where the class name shall stand."),
    ],
)
def test_a_wrong_value_is_told_in_words(name: str, value: Any, message: str) -> None:
    assert check(name, value) == ({}, [message])


def test_the_message_stands_on_the_field_and_goes_when_the_value_is_right() -> None:
    wrong = field_info(FIELDS["words"], -1)
    assert wrong == "-1 does not work here: give a whole number from 1 to 64. How many."
    assert field_info(FIELDS["words"], 8) == "How many."


def test_references_to_definitions_are_followed() -> None:
    schema = {
        "$defs": {"Mode": {"enum": ["x", "y"], "type": "string", "title": "Mode"}},
        "properties": {"mode": {"$ref": "#/$defs/Mode", "default": "x", "description": "Which."}},
    }
    (field,) = form_fields(schema)
    assert (field.choices, field.default, field.info) == (("x", "y"), "x", "Which.")
