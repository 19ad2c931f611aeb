"""Answers of a learned prompt, and of the ready-made one beside it, for images that were never imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.backbones import load_backbone
from engines.data import load_image
from engines.errors import ConfigError, DataError
from engines.prompts import load_prompt
from engines.prompts.artifact import describe_prompt
from engines.prompts.base import PromptMethod
from engines.prompts.defects import FindsDefects
from engines.prompts.trainer import probabilities
from engines.runs.anomalies import write_map
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
    maps: Path | None = None,
) -> list[dict[str, Any]]:
    """Answers of the prompt in `folder` for image files.

    Args:
        maps: where a prompt that finds defects writes the map of each image (0 to 255, surely damaged).

    Returns:
        Per image: `file`, and either `error` in words or `learned` and `ready_made`, each a list of `top`
        `{"class", "probability"}`, most probable first. Of prompts that find defects also `score` and
        `ready_made_score`, from 0 (sound) to 1 (damaged), and with `maps` the `map`'s path.
    """
    described = describe_prompt(folder)
    method = load_prompt(folder, load_backbone(described["backbone"]["name"]))
    finds = isinstance(method, FindsDefects)
    if maps is not None and not finds:
        raise ConfigError(
            f"{method.info.title} tells classes apart, so there are no maps of defects.", "Leave the maps out."
        )
    ready_made = method.untrained()
    answers: list[dict[str, Any]] = []
    for start in range(0, len(images), batch):
        part, pixels = _opened([Path(image) for image in images[start : start + batch]], method)
        good = [answer for answer in part if "error" not in answer]
        if good:
            shares = _defects(good, method, ready_made, pixels, maps) if finds else _classes(method, ready_made, pixels)
            for answer, *rows in zip(good, *shares, strict=True):
                for name, row in zip(("learned", "ready_made"), rows, strict=True):
                    answer[name] = _best(row, method.class_names, top)
        answers += part
        on_batch(len(answers))
    return answers


def _opened(files: list[Path], method: PromptMethod) -> tuple[list[dict[str, Any]], Tensor]:
    """An answer to be for every file, some with an `error`, and the pixels of the others."""
    pixels, answers = [], []
    for file in files:
        answer: dict[str, Any] = {"file": str(file)}
        try:
            pixels.append(method.prepare(load_image(file)))
        except DataError as error:
            answer["error"] = str(error)
        answers.append(answer)
    return answers, torch.stack(pixels) if pixels else torch.empty(0)


def _classes(method: PromptMethod, ready_made: PromptMethod, pixels: Tensor) -> list[np.ndarray]:
    """Class probabilities [B, C] of the learned and of the ready-made prompt."""
    return [probabilities(model, pixels=[pixels]) for model in (method, ready_made)]


@torch.no_grad()
def _defects(
    answers: list[dict[str, Any]], method: FindsDefects, ready_made: PromptMethod, pixels: Tensor, maps: Path | None
) -> list[np.ndarray]:
    """As `_classes`, from one look at the images; scores and maps go into the `answers`."""
    shares = []
    texts = [method.text_features(), ready_made.text_features()]
    for name, (scores, places) in zip(("score", "ready_made_score"), method.judge(pixels, texts), strict=True):
        shares.append(torch.stack([1 - scores, scores], dim=1).numpy())
        for answer, score, whole in zip(answers, scores.tolist(), places, strict=True):
            answer[name] = score
            if maps is not None and name == "score":
                file = _free(maps / f"{Path(answer['file']).stem}.png")
                write_map((whole / method.highest).numpy(), file)
                answer["map"] = str(file)
    return shares


def _free(file: Path) -> Path:
    """`file`, or with a number where there is one already: images of several folders may be called alike."""
    number, place = 1, file
    while place.exists():
        number += 1
        place = file.with_stem(f"{file.stem}-{number}")
    return place


def _best(row: np.ndarray, class_names: list[str], top: int) -> list[dict[str, Any]]:
    order = np.argsort(-row, kind="stable")[:top]
    return [{"class": class_names[c], "probability": float(row[c])} for c in order]
