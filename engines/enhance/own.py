"""Enhancers of a workspace: trained on somebody's own photos with snapshots after each round, or added as a file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engines.backbones import load_backbone
from engines.backbones.runtime import Runtime
from engines.enhance.baselines.zero_dce import ZeroDCE, load_zero_dce, save_zero_dce, train_zero_dce
from engines.enhance.checkpoint import load_network, save_whole, write_tensors
from engines.enhance.choices import CURVES, NETWORK, Choice, enhancers_folder, find_choice, photos_in
from engines.enhance.enhancer import load_enhancer, shrunk
from engines.enhance.photo import read_photo
from engines.enhance.requests import AddRequest, EnhancerRequest
from engines.enhance.settings import Stage
from engines.enhance.training import Progress, train_enhancer
from engines.enhance.training_photos import load_training_photos
from engines.enhance.trainings import CURVE, SNAPSHOT_SIDE, SNAPSHOTS, planned_steps, stage_words
from engines.errors import ConfigError, DataError
from engines.store import Workspace, new_id

Tell = Callable[[float, str], None]
FEWEST = 2
"""Photos of each kind."""


def add_enhancer(workspace: Workspace, request: AddRequest) -> Choice:
    """Keep a copy of a CLIP-LIT checkpoint as a method.

    Raises:
        BackboneError: the file is missing, damaged, or no such network.
        DataError: the disk is full.
    """
    path = Path(request.file).expanduser()
    network = load_network(path)
    folder = enhancers_folder(workspace) / new_id()
    _write_card(folder, {"name": request.name or path.stem, "file": path.name, "settings": {"padding": "reflect"}})
    write_tensors(folder / NETWORK, network.state_dict(), {"file": path.name})
    return find_choice(workspace, folder.name)


def train_own(
    workspace: Workspace,
    request: EnhancerRequest,
    tell: Tell,
    check_cancelled: Callable[[], None],
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Train what `request` names, or go on with it; see `trainings` for what it leaves behind.

    Returns:
        `{"enhancer": id, "unreadable": why some photos were left out}`.
    Raises:
        DataError: a folder holds fewer than two photos that can be read, or the disk is full.
        BackboneError: the model cannot be loaded, or the training failed.
    """
    folder = enhancers_folder(workspace) / request.id
    tell(0, "Reading the photos")
    files = photos_in(request.backlit)
    dark, problems = _photos(files, request, "backlit")
    if not (folder / "request.json").exists():
        _write_card(folder, request.model_dump(mode="json"))
    shown = _Snapshots(folder, files)
    shown.keep(0, None)
    if request.kind == "zero-dce":
        _zero_dce(folder, request, dark, tell, check_cancelled)
        shown.keep(1, load_zero_dce(folder / CURVES).enhance)
    else:
        bright, more = _photos(photos_in(request.well_lit), request, "well-lit")
        problems += more
        _clip_lit(folder, request, dark, bright, shown, (tell, check_cancelled))
    for problem in problems:
        log(problem)
    return {"enhancer": request.id, "unreadable": problems}


def _photos(files: Sequence[Path], request: EnhancerRequest, kind: str) -> tuple[Tensor, list[str]]:
    found, problems = load_training_photos(files, request.settings.size)
    if len(found) < FEWEST:
        raise DataError(
            f"Only {len(found)} {kind} photo can be read, and {FEWEST} is the least to learn from.",
            "Choose a folder with more of them; some dozens are good.",
            "\n".join(problems),
        )
    return found, problems


def _clip_lit(
    folder: Path,
    request: EnhancerRequest,
    dark: Tensor,
    bright: Tensor,
    shown: _Snapshots,
    job: tuple[Tell, Callable[[], None]],
) -> None:
    tell, check_cancelled = job
    settings = request.settings
    tell(0, "Loading the model")
    backbone = load_backbone(request.backbone)
    whole = planned_steps(settings)
    _rounds(folder, shown, settings.padding)  # of an attempt that was killed between a round and its snapshots
    with (
        (folder / CURVE).open("a", encoding="utf-8", buffering=1) as curve,
        closing(train_enhancer(backbone, dark, bright, folder, settings)) as steps,
    ):
        curve.write("\n")  # ends a line that was cut off
        for done in steps:
            curve.write(_line(done))
            if done.snapshot is not None:
                _rounds(folder, shown, settings.padding)
            words = f"{stage_words(done.stage, done.round)}: step {done.step:,} of {done.steps:,}"
            tell(done.total / max(whole, done.total + 1), words)
            check_cancelled()
    _rounds(folder, shown, settings.padding)


def _rounds(folder: Path, shown: _Snapshots, padding: Any) -> None:
    """Snapshots of all rounds that have ended and have none yet."""
    for weights in folder.glob("round-*.safetensors"):
        number = int(weights.stem.split("-")[1])
        if not shown.kept(number):
            shown.keep(number, load_enhancer(weights, Runtime.choose().device, padding).enhance)


def _zero_dce(
    folder: Path, request: EnhancerRequest, dark: Tensor, tell: Tell, check_cancelled: Callable[[], None]
) -> None:
    settings, device = request.settings, Runtime.choose().device
    torch.manual_seed(settings.seed)
    network = ZeroDCE().to(device)
    steps = settings.enhance_steps * settings.rounds
    with (folder / CURVE).open("w", encoding="utf-8", buffering=1) as curve:
        for step, loss in enumerate(train_zero_dce(network, dark, steps, settings.batch, seed=settings.seed), 1):
            curve.write(_line(Progress(Stage.ENHANCE, 1, step, steps, step, loss)))
            tell(step / steps, f"Learning curves: step {step:,} of {steps:,}")
            check_cancelled()
    save_zero_dce(network, folder / CURVES)


def _line(done: Progress) -> str:
    point = {"total": done.total, "stage": done.stage.value, "round": done.round, "loss": done.loss}
    return json.dumps(point | {"p_backlit": done.p_backlit}) + "\n"


def _write_card(folder: Path, card: dict[str, Any]) -> None:
    content = json.dumps(card | {"created": datetime.now(UTC).isoformat()}, indent=1, ensure_ascii=False)
    save_whole(folder / "request.json", content)


class _Snapshots:
    """The same photos after each round; round 0 is the photos themselves."""

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self.folder = folder
        self.photos: list[np.ndarray] = []
        for path in files:
            try:
                pixels = read_photo(path).pixels
            except (DataError, ConfigError):
                continue
            scale = min(1.0, SNAPSHOT_SIDE / max(pixels.shape[:2]))
            height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
            self.photos.append(shrunk(pixels, height, width) if scale < 1 else pixels)
            if len(self.photos) == SNAPSHOTS:
                break

    def file(self, number: int, place: int) -> Path:
        return self.folder / f"snapshot-{number}-{place}.png"

    def kept(self, number: int) -> bool:
        return all(self.file(number, place).is_file() for place in range(len(self.photos)))

    def keep(self, number: int, method: Callable[[np.ndarray], np.ndarray] | None) -> None:
        for place, pixels in enumerate(self.photos):
            stream, values = io.BytesIO(), pixels if method is None else method(pixels)
            Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)).save(stream, "PNG")
            save_whole(self.file(number, place), stream.getvalue())
