"""A photo enhanced for the screen by several methods: pictures without loss, numbers, distribution of light."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engines.backbones import load_backbone
from engines.enhance.applying import Applicable, stamp_of
from engines.enhance.checkpoint import save_whole
from engines.enhance.choices import Choice, find_choice
from engines.enhance.enhancer import shrunk
from engines.enhance.folder import reference_of
from engines.enhance.groups import group_folder, read_group
from engines.enhance.guidance import Antonyms, ClipView, p_well_lit
from engines.enhance.metrics import SSIM_SIDE, appearance, lightness_order_error, psnr, ssim
from engines.enhance.photo import LUMA
from engines.enhance.reading import ConsentError, read_confirmed
from engines.enhance.requests import PREVIEW_SIDE, LookRequest
from engines.errors import DataError
from engines.inspection.keeping import key_of
from engines.store import Workspace

LIGHT_SIDE = 512
"""Light maps of previews are made on copies of this size; full results on larger ones."""
BINS = 64
JUDGE = "mini-clip"


def look(workspace: Workspace, request: LookRequest) -> dict[str, Any]:
    """The photo and what the methods make of it, at most `PREVIEW_SIDE` pixels long.

    Returns:
        `{"name", "consent": words}` where somebody has to confirm first, else `{"name", "width", "height", "bits",
        "notes", "views": [{"method", "title", "picture", "light", "darkest", "brightest", "numbers", "histogram"}]}`;
        the first view is the photo itself (method ""), and pictures are files. Views are kept and found again. With a
        reference of the same name and size, numbers have `psnr` (dB, None for equal photos) and `ssim`, too; a note
        says why they are lacking.
    Raises:
        DataError: the photo is gone or cannot be read.
        ConfigError: there is no such method.
    """
    group = read_group(workspace, request.group)
    if request.place >= len(group.photos):
        raise DataError("There is no such photo.", "Open the photos again.")
    path = group.photos[request.place]
    try:
        photo, facts = _opened(path, request.measurements, stamp_of(path))
    except ConsentError as error:
        return {"name": path.name, "consent": str(error)}
    folder, truth = group_folder(workspace, request.group), None
    if request.reference:
        truth, problem = _reference(request.reference, path, facts)
        facts = facts | {"notes": [*facts["notes"], *filter(None, [problem])]}
    chosen: Sequence[Choice | None] = [None, *(find_choice(workspace, name) for name in request.methods)]
    views = [_view(folder, path, photo, choice, request) for choice in chosen]
    if truth is not None:
        for view in views:
            view["numbers"] |= _against(view["picture"], truth)
    return {"name": path.name, **facts, "views": views}


def _view(folder: Path, path: Path, photo: np.ndarray, choice: Choice | None, request: LookRequest) -> dict[str, Any]:
    """One view, from its files where they are there."""
    name = choice.name if choice else ""
    stamp = stamp_of(choice.file) if choice and choice.file else 0
    depends = [str(path), stamp_of(path), name, stamp, request.strength if choice else 1.0, PREVIEW_SIDE]
    card = folder / f"{request.place}-{key_of(*depends, request.numbers)}.json"
    try:
        known: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
        if Path(known["picture"]).is_file():
            return known
    except (OSError, ValueError, KeyError, TypeError):
        pass
    done = Applicable(choice, request.strength, LIGHT_SIDE).apply(photo) if choice else None
    pixels = done.pixels if done else photo
    picture = folder / f"{request.place}-{key_of(*depends)}.png"
    _write(picture, pixels)
    found: dict[str, Any] = {"method": name, "title": choice.title if choice else "Photo", "picture": str(picture)}
    if done and done.light is not None:
        low, high = float(done.light.min()), float(done.light.max())
        light = picture.with_name(f"{picture.stem}-light.png")
        _write(light, (done.light - low) / max(high - low, 1e-6))
        found |= {"light": str(light), "darkest": low, "brightest": high}
    numbers: dict[str, float] = appearance(pixels).as_dict()
    if request.numbers:
        numbers |= {"order": lightness_order_error(photo, pixels), "well_lit": _well_lit(pixels)}
    counts, _ = np.histogram(pixels @ LUMA, bins=BINS, range=(0, 1))
    found |= {"numbers": numbers, "histogram": (counts / counts.sum()).tolist()}
    save_whole(card, json.dumps(found))
    return found


def _reference(folder: str, path: Path, facts: Mapping[str, Any]) -> tuple[np.ndarray | None, str]:
    """The preview of the well-lit photo of the same name, or why there is none."""
    try:
        file = reference_of(path, Path(folder).expanduser())
        truth, others = _opened(file, False, stamp_of(file))
    except DataError as error:
        return None, str(error)
    if (others["width"], others["height"]) != (facts["width"], facts["height"]):
        return None, f"The reference “{file.name}” has another size than the photo."
    return truth, ""


def _against(picture: str, truth: np.ndarray) -> dict[str, float | None]:
    with Image.open(picture) as image:
        pixels = np.asarray(image, np.float32) / 255
    decibels = psnr(pixels, truth)
    small = min(truth.shape[:2]) < SSIM_SIDE
    return {"psnr": decibels if np.isfinite(decibels) else None, "ssim": None if small else ssim(pixels, truth)}


def _write(path: Path, values: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)).save(stream, "PNG", compress_level=1)
    save_whole(path, stream.getvalue())


@lru_cache(maxsize=2)
def _opened(path: Path, measurements: bool, _stamp: int) -> tuple[np.ndarray, dict[str, Any]]:
    photo = read_confirmed(path, measurements)
    height, width = photo.pixels.shape[:2]
    facts = {"width": width, "height": height, "bits": photo.bits, "notes": list(photo.notes)}
    scale = PREVIEW_SIDE / max(height, width)
    if scale >= 1:
        return photo.pixels, facts
    return shrunk(photo.pixels, max(1, round(height * scale)), max(1, round(width * scale))), facts


def _well_lit(pixels: np.ndarray) -> float:
    judge, view = _judge()
    return p_well_lit(pixels, judge, view)


@lru_cache(maxsize=1)
def _judge() -> tuple[Antonyms, ClipView]:
    """Two fixed sentences, which no enhancer here learned from."""
    backbone = load_backbone(JUDGE)
    return Antonyms(backbone), ClipView(backbone, antialias=True)
