"""One image shown to several prompts at once: what each says, and where each looks.

Models and prompts stay loaded in the process: at most `WARM` prompts, the one that was asked longest ago is dropped.
"""

from __future__ import annotations

import io
import threading
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engines.backbones import load_backbone
from engines.data import load_image
from engines.errors import PromptloupeError
from engines.inspection.relevance import Floats, Look, Rule, laid_on, look, refuse
from engines.prompts import load_prompt
from engines.prompts.artifact import describe_prompt
from engines.prompts.base import PromptMethod
from engines.prompts.defects import FindsDefects
from engines.prompts.trainer import probabilities
from engines.runs.predict import prompt_folder
from engines.store import Workspace
from engines.store.agreement import READY_MADE

WARM = 12
"""Prompts that stay loaded."""
SIDE = 512
"""Longest side in pixels of the maps that go to the page."""
TOP = 3
LEAST = 1e-8
"""Maps that hold nothing above this are empty."""


@dataclass(frozen=True)
class Reply:
    """What one prompt says of an image."""

    run_id: str
    """`READY_MADE` for the ready-made prompt."""
    top: list[tuple[str, float]]
    """Most probable classes with their probabilities."""
    looked_for: str
    """Class that the map is for."""
    where: Floats | None
    """[H, W] of the image, at most `SIDE` long: relevance of each place."""
    reason: str
    """Why it cannot be told where it looks, in words; empty where it can."""


_warm: OrderedDict[tuple[str, int], tuple[PromptMethod, PromptMethod]] = OrderedDict()
_lock = threading.Lock()


def ask(
    workspace: Workspace,
    run_ids: Sequence[str],
    file: str | Path,
    class_name: str = "",
    rule: Rule = "relevance",
    top: int = TOP,
) -> list[Reply]:
    """Show the image `file` to the ready-made prompt of the first run, and to the prompt of every run.

    Args:
        class_name: what the maps look for; each prompt's own answer where it is empty or the prompt lacks the class.

    Raises:
        ConfigError: there is no such run, or it is not finished.
        DataError: the file is no image that can be read.
    """
    image = load_image(Path(file))
    prompts = [warm_prompt(prompt_folder(workspace, run_id)) for run_id in dict.fromkeys(run_ids)]
    asked = [(READY_MADE, prompts[0][1]), *zip(dict.fromkeys(run_ids), (p[0] for p in prompts), strict=True)]
    return [_reply(run_id, method, image, class_name, rule, top) for run_id, method in asked]


def warm_prompt(folder: Path) -> tuple[PromptMethod, PromptMethod]:
    """(learned, ready-made) of a prompt's folder, kept loaded; loaded anew where its files have changed."""
    stamp = max(file.stat().st_mtime_ns for file in folder.iterdir()) if folder.is_dir() else 0
    key = (str(folder), stamp)
    with _lock:
        if key not in _warm:
            method = load_prompt(folder, load_backbone(describe_prompt(folder)["backbone"]["name"]))
            pair = (method, method.untrained().eval())
            for each in pair:
                each.requires_grad_(False)  # so that class words are computed once
            _warm[key] = pair
            while len(_warm) > WARM:
                _warm.popitem(last=False)
        _warm.move_to_end(key)
        return _warm[key]


def forget_prompts() -> None:
    """Drop what stays loaded."""
    with _lock:
        _warm.clear()


def _reply(run_id: str, method: PromptMethod, image: Image.Image, class_name: str, rule: Rule, top: int) -> Reply:
    names = method.class_names
    wanted = [names.index(class_name)] if class_name in names else []
    seen, reason = _looked(method, image, wanted, rule)
    shares = seen.probabilities if seen is not None else _shares(method, image)
    order = np.argsort(-shares, kind="stable")[:top]
    best = [(names[c], float(shares[c])) for c in order]
    if seen is None:
        return Reply(run_id, best, "", None, reason)
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    where = laid_on(seen.maps[0], small.size, method.backbone.pixels)
    return Reply(run_id, best, names[seen.classes[0]], where, "")


def _looked(method: PromptMethod, image: Image.Image, wanted: list[int], rule: Rule) -> tuple[Look | None, str]:
    if reason := refuse(method):
        return None, reason
    try:
        return look(method, image, wanted, rule), ""
    except PromptloupeError as error:
        return None, error.what


def _shares(method: PromptMethod, image: Image.Image) -> NDArray[np.floating[Any]]:
    with torch.no_grad():
        pixels = method.prepare(image)[None]
        if isinstance(method, FindsDefects):
            (score, _), *_ = method.judge(pixels, [method.text_features()])
            return np.array([1 - float(score[0]), float(score[0])])
        return probabilities(method, pixels=[pixels])[0]


# --- pictures -----------------------------------------------------------------

# From green to yellow: unlike the stains of tissue and blood, brighter with every step for colour-blind eyes.
_RAMP = np.array([(0, 104, 87), (0, 178, 90), (240, 249, 33)], np.float32)


def overlays(replies: Sequence[Reply]) -> list[str]:
    """Each reply's map as a PNG (Base64) to lay over the image, all on one scale; empty where there is none.

    Relevance has no unit: it grows with a method's own temperature. So each map is taken as shares of its sum. The
    largest share of all replies is opaque yellow, what does not matter is transparent: a pale map is spread out.
    """
    shares = [_shares_of(each.where) for each in replies]
    most = max((float(each.max()) for each in shares if each is not None), default=1.0)
    return ["" if each is None else overlay(each / most) for each in shares]


def _shares_of(where: Floats | None) -> Floats | None:
    total = 0.0 if where is None else float(where.sum())
    return where / total if where is not None and total > LEAST else None


def overlay(shares: Floats) -> str:
    """Shares [H, W] from 0 to 1 as a PNG (Base64): colour and opacity grow with them."""
    level = np.clip(shares, 0, 1)
    place = level * (len(_RAMP) - 1)
    low = np.minimum(place.astype(np.int64), len(_RAMP) - 2)
    colour = _RAMP[low] + (place - low)[..., None] * (_RAMP[low + 1] - _RAMP[low])
    rgba = np.concatenate([colour, 255 * level[..., None]], axis=-1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(stream, "PNG", compress_level=1)
    return b64encode(stream.getvalue()).decode()
