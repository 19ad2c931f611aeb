"""A form from a settings model: one field of the form for every property of its JSON schema, and the way back.

Limits are checked here and not by Gradio's own components, so that a value that does not fit is told in words on its
field and the rest of the form stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import Any

import gradio as gr

VISIBLE = 5
"""Fields shown at once; the others wait under “More settings”."""
WRONG = "pl-wrong"
"""Class of a field whose value does not fit."""
LONGEST_SLIDER = 64
"""Whole numbers from a range no longer than this become a slider."""


@dataclass(frozen=True)
class Field:
    """One setting, as its JSON schema tells it."""

    name: str
    title: str
    info: str
    kind: str
    """`integer`, `number`, `boolean` or `string`."""
    default: Any
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    """Whether `low` itself is too small."""
    high_open: bool = False
    pattern: str = ""
    advanced: bool = False

    @property
    def limits(self) -> str:
        """ "from 1 to 64", "above 0, up to 10", or nothing."""
        low = "" if self.low is None else f"above {_said(self.low)}" if self.low_open else f"from {_said(self.low)}"
        high = "" if self.high is None else f"below {_said(self.high)}" if self.high_open else f"to {_said(self.high)}"
        return ", ".join(filter(None, [low, high])) if self.low_open or self.high_open else f"{low} {high}".strip()


@dataclass(frozen=True)
class Problem:
    """What is wrong with the value of one field, in words."""

    field: Field
    message: str

    def __str__(self) -> str:
        return f"{self.field.title}: {self.message}"


def form_fields(schema: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[Field]:
    """The fields of a JSON schema of a settings model, in its order; `defaults` go before the schema's own."""
    definitions = schema.get("$defs", {})
    found = []
    for name, raw in schema.get("properties", {}).items():
        prop = {**_resolved(raw, definitions), **{key: value for key, value in raw.items() if key != "$ref"}}
        found.append(
            Field(
                name=name,
                title=prop.get("title", name),
                info=prop.get("description", ""),
                kind=prop.get("type", "string"),
                default=(defaults or {}).get(name, prop.get("default")),
                choices=tuple(prop.get("enum", ())),
                low=prop.get("minimum", prop.get("exclusiveMinimum")),
                high=prop.get("maximum", prop.get("exclusiveMaximum")),
                low_open="exclusiveMinimum" in prop,
                high_open="exclusiveMaximum" in prop,
                pattern=prop.get("pattern", ""),
                advanced=bool(prop.get("advanced", False)),
            )
        )
    return found


def split_fields(fields: Sequence[Field]) -> tuple[list[Field], list[Field]]:
    """(fields shown at once, fields under “More settings”): at most `VISIBLE` are shown."""
    shown = [field for field in fields if not field.advanced][:VISIBLE]
    return shown, [field for field in fields if field not in shown]


def component(field: Field, value: Any = None, form: str = "setting") -> gr.components.Component:
    """The component for a field. Its key makes a value that was typed survive when the form is drawn anew.

    Several forms on a page need different names.
    """
    value = field.default if value is None else value
    common: dict[str, Any] = {
        "label": field.title,
        "info": field.info,
        "value": value,
        "key": f"{form}-{field.name}",
        "elem_id": f"{form}-{field.name}",
        "interactive": True,
    }
    if field.choices:
        choices = [(_words(choice), choice) for choice in field.choices]
        return gr.Radio(choices, **common) if len(choices) <= 4 else gr.Dropdown(choices, **common)
    if field.kind == "boolean":
        return gr.Checkbox(**common)
    if field.kind == "integer":
        if field.low is not None and field.high is not None and field.high - field.low < LONGEST_SLIDER:
            return gr.Slider(field.low, field.high, step=1, **common)
        return gr.Number(precision=0, **common)
    if field.kind == "number":
        return gr.Number(step=_step(field.default), **common)
    return gr.Textbox(max_lines=1, **common)


def build_form(
    fields: Sequence[Field], values: Mapping[str, Any] | None = None, form: str = "setting"
) -> list[tuple[Field, gr.components.Component]]:
    """Lay the fields out two in a row, the rare ones folded away; returns them with their components."""
    shown, folded = split_fields(fields)
    built = _rows(shown, values or {}, form)
    if folded:
        with gr.Accordion("More settings", open=False, key=f"more-{form}s", elem_id=f"more-{form}s"):
            built += _rows(folded, values or {}, form)
    return built


def _rows(fields: Sequence[Field], values: Mapping[str, Any], form: str) -> list[tuple[Field, gr.components.Component]]:
    built = []
    for start in range(0, len(fields), 2):
        with gr.Row(equal_height=True):
            for field in fields[start : start + 2]:
                built.append((field, component(field, values.get(field.name), form)))
    return built


def collect(fields: Sequence[Field], values: Sequence[Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The form's values by name, cleaned, and what is wrong with those that do not fit.

    Values equal to the default are left out, so that a run names only what was changed.
    """
    chosen: dict[str, Any] = {}
    problems: list[Problem] = []
    for field, value in zip(fields, values, strict=True):
        try:
            cleaned = clean(field, value)
        except ValueError as error:
            problems.append(Problem(field, str(error)))
            continue
        if cleaned != field.default:
            chosen[field.name] = cleaned
    return chosen, problems


def told_on_field(part: gr.components.Component, field: Field) -> None:
    """Say on the field itself, as soon as its value changes, what is wrong with it; and nothing once it is right."""

    def look(value: Any) -> dict[str, Any]:
        said = field_info(field, value)
        return gr.update(info=said, elem_classes=[] if said == field.info else [WRONG])

    part.change(
        look, part, part, queue=False, show_progress="hidden", api_visibility="private", key=f"look-{field.name}"
    )


def field_info(field: Field, value: Any) -> str:
    """What stands below the title of a field: what it does, after what is wrong with `value`."""
    try:
        clean(field, value)
    except ValueError as error:
        return f"{error} {field.info}".strip()
    return field.info


def clean(field: Field, value: Any) -> Any:
    """`value` as its setting wants it.

    Raises:
        ValueError: it does not fit; the message says what would.
    """
    if field.choices:
        if value not in field.choices:
            raise ValueError(f"Choose one of {', '.join(map(_words, field.choices))}.")
        return value
    if field.kind == "boolean":
        return bool(value)
    if field.kind in ("integer", "number"):
        return _number(field, value)
    text = "" if value is None else str(value).strip()
    if field.pattern == r"\{\}" and "{}" not in text:
        raise ValueError("Put {} where the class name shall stand.")
    return text


def _number(field: Field, value: Any) -> int | float:
    ask = "whole number" if field.kind == "integer" else "number"
    where = f" {field.limits}" if field.limits else ""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"Give a {ask}{where}.")
    if field.kind == "integer" and value != int(value):
        raise ValueError(f"Give a whole number{where}.")
    too_low = field.low is not None and (value < field.low or (field.low_open and value == field.low))
    too_high = field.high is not None and (value > field.high or (field.high_open and value == field.high))
    if too_low or too_high:
        raise ValueError(f"{_said(value)} does not work here: give a {ask}{where}.")
    return int(value) if field.kind == "integer" else float(value)


def _resolved(prop: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = prop.get("$ref", "")
    return definitions.get(reference.rsplit("/", 1)[-1], {}) if reference else prop


def _said(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number:g}"


def _words(choice: Any) -> str:
    return str(choice).replace("_", " ")


def _step(default: Any) -> float:
    """The arrows of a number move it by about a tenth of itself."""
    return float(10.0 ** (floor(log10(abs(default))) - 1)) if default else 0.01
