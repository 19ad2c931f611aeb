"""Answers of a learned prompt, and of the ready-made one beside it, for images that were never imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.backbones import load_backbone
from engines.data import load_image
from engines.errors import ConfigError, DataError
from engines.prompts import create_method, load_prompt
from engines.prompts.artifact import describe_prompt
from engines.prompts.base import PromptMethod
from engines.prompts.trainer import probabilities
from engines.store import Run, Workspace

IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".dcm"}


def prompt_folder(workspace: Workspace, run_id: str) -> Path:
    """Folder of the prompt that a run learned.

    Raises:
        ConfigError: there is no such run, or it has not learned anything yet.
    """
    with workspace.session() as session:
        run = session.get(Run, run_id)
    if run is None:
        raise ConfigError("There is no such run.", "Choose one from the list of runs.")
    if run.state != "done":
        raise ConfigError(f"The run “{run.name}” is not finished ({run.state}).", "Wait for it, or choose another one.")
    return workspace.path / "runs" / run_id / "prompt"


def images_below(folder: str | Path) -> list[Path]:
    """Image files in `folder` and its sub-folders, sorted; a single file is taken as it is.

    Raises:
        DataError: there is nothing to look at.
    """
    place = Path(folder).expanduser()
    if place.is_file():
        return [place]
    found = sorted(f for f in place.rglob("*") if f.suffix.lower() in IMAGES and f.is_file())
    if not found:
        raise DataError(
            f"There are no images in “{place.name}”." if place.is_dir() else f"“{place}” does not exist.",
            "Choose a folder with PNG, JPEG, WebP, BMP, TIFF or DICOM files.",
        )
    return found


def predict(
    folder: Path,
    images: Sequence[str | Path],
    top: int = 3,
    on_batch: Callable[[int], None] = lambda done: None,
    batch: int = 32,
) -> list[dict[str, Any]]:
    """Answers of the prompt in `folder` for image files.

    Returns:
        Per image: `file`, and either `error` in words or `learned` and `ready_made`, each a list of `top`
        `{"class", "probability"}`, most probable first.
    """
    described = describe_prompt(folder)
    backbone = load_backbone(described["backbone"]["name"])
    method = load_prompt(folder, backbone)
    zero_shot = create_method("zero-shot", backbone, method.class_names)
    answers: list[dict[str, Any]] = []
    for start in range(0, len(images), batch):
        answers.extend(_batch([Path(image) for image in images[start : start + batch]], method, zero_shot, top))
        on_batch(len(answers))
    return answers


def _batch(files: list[Path], method: PromptMethod, zero_shot: PromptMethod, top: int) -> list[dict[str, Any]]:
    pixels, answers = [], []
    for file in files:
        answer: dict[str, Any] = {"file": str(file)}
        try:
            pixels.append(method.backbone.preprocess(load_image(file)))
        except DataError as error:
            answer["error"] = str(error)
        answers.append(answer)
    if not pixels:
        return answers
    stacked = torch.stack(pixels)
    for name, model in (("learned", method), ("ready_made", zero_shot)):
        rows = iter(probabilities(model, pixels=[stacked]))
        for answer in answers:
            if "error" not in answer:
                answer[name] = _best(next(rows), model.class_names, top)
    return answers


def _best(row: np.ndarray, class_names: list[str], top: int) -> list[dict[str, Any]]:
    order = np.argsort(-row, kind="stable")[:top]
    return [{"class": class_names[c], "probability": float(row[c])} for c in order]
