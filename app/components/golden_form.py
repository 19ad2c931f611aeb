"""What a person chooses on the Golden noise page: a collection, a model, prompts, and how pairs are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import BaseModel

from app.components.choices import backbone_choices
from app.components.forms import Field, Problem, build_form, collect, form_fields, told_on_field
from app.components.golden import study_name
from app.components.html import section
from engines.diffusion.golden.sample_prompts import scene_prompts
from engines.diffusion.golden.scorers import SCORERS, missing
from engines.diffusion.golden.settings import CollectSettings
from engines.diffusion.golden.study import Study, StudyRequest, create, find, studies
from engines.diffusion.places import SHIPPED, WHERE, find_text_to_image, text_to_image_models
from engines.errors import BackboneError, ConfigError, DataError
from engines.prompts.settings import parse
from engines.store import Workspace

NEW = ""
"""In the place of a collection: a new one."""
SAMPLES = 40
"""Prompts of the sample list."""
LONGEST_FILE = 5_000_000
KEPT_PROMPTS = 20_000
"""Characters of prompts that this browser remembers; longer ones come from files."""


class SettingsForm:
    """Fields made from a settings model."""

    def __init__(self, model: type[BaseModel], form: str, without: Sequence[str] = ()) -> None:
        found = [field for field in form_fields(model.model_json_schema()) if field.name not in without]
        built = build_form(found, form=form)
        self.fields: list[Field] = [field for field, _ in built]
        self.parts: list[Any] = [part for _, part in built]
        for field, part in built:
            told_on_field(part, field)

    def chosen(self, values: Sequence[Any]) -> dict[str, Any]:
        """The values that are not the usual ones, by name.

        Raises:
            ConfigError: one does not fit.
        """
        problems: list[Problem]
        chosen, problems = collect(self.fields, values)
        if problems:
            raise ConfigError(" ".join(map(str, problems)), "Correct it, then press again.")
        return chosen

    def updates(self, settings: BaseModel) -> list[Any]:
        return [gr.update(value=getattr(settings, field.name)) for field in self.fields]


class CollectForm:
    """Components in the order of `parts`: collection, model, scorer, backbone, name, prompts, then the settings."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        with gr.Row():
            self.study = gr.Dropdown([], label="Collection", interactive=True, elem_id="golden-study")
            self.name = gr.Textbox(label="Name of the collection", max_lines=1, max_length=80, elem_id="golden-name")
        with gr.Row():
            self.model = gr.Dropdown(
                [], label="Text-to-image model", allow_custom_value=True, interactive=True, elem_id="golden-model"
            )
            self.scorer = gr.Dropdown([], label="Judged by", interactive=True, elem_id="golden-scorer")
            self.backbone = gr.Dropdown(
                [], label="CLIP model of the CLIP score", interactive=True, elem_id="golden-backbone"
            )
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=480):
                self.prompts = gr.Textbox(
                    label="Prompts, one a line",
                    placeholder="a red circle and a blue star on grass",
                    lines=7,
                    max_lines=14,
                    elem_id="golden-prompts",
                )
            with gr.Column(scale=1, min_width=200):
                self.samples = gr.Button("Use the sample list", elem_id="golden-samples")
                self.file = gr.UploadButton("Read a text file …", file_types=[".txt"], elem_id="golden-file")
        self.form = SettingsForm(CollectSettings, "golden-collect")
        self.parts: list[Any] = [self.study, self.model, self.scorer, self.backbone, self.name, self.prompts]
        self.parts += self.form.parts

    def offer(self, kept: Mapping[str, Any], study: Study | None) -> list[Any]:
        """Values of `parts` for a collection, or for a new one as this browser remembers it."""
        known = studies(self.workspace)
        request = study.request if study is not None else self._new(kept)
        models = list(text_to_image_models())
        models += [request.model] if request.model not in models and request.model else []
        scorers = [(listed.title, name) for name, listed in SCORERS.items() if not missing(name)]
        return [
            gr.update(
                choices=[("New collection", NEW), *((study_name(each), each.id) for each in known)],
                value=study.id if study is not None else NEW,
            ),
            gr.update(choices=[(Path(each).name, each) for each in models], value=request.model or None),
            gr.update(choices=scorers, value=request.scorer),
            gr.update(choices=backbone_choices(request.backbone), value=request.backbone),
            request.name,
            request.prompts,
            *self.form.updates(request.settings),
        ]

    def _new(self, kept: Mapping[str, Any]) -> StudyRequest:
        """What a new collection begins with; what the browser remembers may be anything."""
        models = text_to_image_models()
        said = {name: value for name in ("model", "scorer", "prompts") if isinstance(value := kept.get(name), str)}
        model = said.get("model") or next(iter(models), "")
        prompts = said.get("prompts") or ("\n".join(scene_prompts(SAMPLES)) if model == SHIPPED else "")
        scorer = said.get("scorer", "clip")
        return StudyRequest(model=model, prompts=prompts, scorer=scorer if scorer in SCORERS else "clip")

    def asked(self, values: Sequence[Any]) -> Study:
        """The collection to go on with, new or not, asked for what the form says.

        Raises:
            ConfigError: no prompt, a setting that does not fit, or pairs there that were made otherwise.
            BackboneError: no model, or no such one.
        """
        study_id, model, scorer, backbone, name, prompts, *settings = values
        if not str(prompts or "").strip():
            raise ConfigError("There is no prompt.", "Type one prompt a line, or press “Use the sample list”.")
        if not model:
            raise BackboneError("No text-to-image model is chosen.", WHERE)
        place = find_text_to_image(str(model))
        given = {
            "name": str(name or "").strip(),
            "model": model if model == place.name else str(place.path),
            "prompts": str(prompts),
            "scorer": scorer or "clip",
            "backbone": backbone or "mini-clip",
            "settings": self.form.chosen(settings),
        }
        request: StudyRequest = parse(StudyRequest, given, "the collection")
        if lacking := missing(request.scorer):
            raise ConfigError(lacking, "Choose another score.")
        if not study_id:
            return create(self.workspace, request)
        study = find(self.workspace, str(study_id))
        study.ask(request.model_copy(update={"created": study.request.created}))
        return study


def read_prompts(file: Any) -> str:
    """The text of an uploaded file.

    Raises:
        DataError: it is too large, or no text.
    """
    path = Path(str(file))
    if path.stat().st_size > LONGEST_FILE:
        raise DataError(f"“{path.name}” is larger than 5 MB.", "Take fewer prompts.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"“{path.name}” is no text in UTF-8.", "Save it as plain text with the encoding UTF-8.", str(error)
        ) from error


def sample_prompts() -> str:
    return "\n".join(scene_prompts(SAMPLES))


def head(number: int, title: str, lead: str) -> gr.HTML:
    """The head of one of the page's steps."""
    return gr.HTML(section(f"{number}. {title}", lead), apply_default_css=False)
