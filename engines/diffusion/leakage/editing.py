"""An edit made three ways from the same noise, and what each did to the picture."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engines.backbones import Backbone, load_backbone
from engines.diffusion.edit import edit
from engines.diffusion.edit_request import BlendPlaces, Edit, EditStart
from engines.diffusion.image_metrics import background_kept, clip_scores, structure_distance
from engines.diffusion.leakage.edits import WAYS, Changed, EditFolder, changed_words, open_edit
from engines.diffusion.leakage.files import save_picture, write_json
from engines.diffusion.leakage.repairs import Repair, find_repair
from engines.diffusion.leakage.requests import EditRequest, RepairRequest
from engines.diffusion.leakage.samples import Mask
from engines.diffusion.leakage.studies import Study
from engines.diffusion.leakage.working import Watch, inverted, pixels_of, repair_study, to_image
from engines.diffusion.model import TextToImage
from engines.diffusion.pictures import square_pixels
from engines.diffusion.state import RepairState
from engines.errors import BackboneError, ConfigError

NULL_TEXT = 0.5
"""Share of the first edit that null-text inversion takes, for the progress."""


def edit_study(study: Study, model: TextToImage, request: EditRequest, watch: Watch) -> EditFolder:
    """Edit the picture three ways, and measure. What an earlier attempt finished is not done again.

    Raises:
        ConfigError: the captions do not fit each other, words or masks are missing, or the repair is not finished.
    """
    found, changed = open_edit(study, request), changed_words(study.facts.caption, request)
    repaired = find_repair(study, request.repair)
    if not repaired.finished:
        raise ConfigError("The repair is not finished.", "Let it finish first, or repair again.")
    wanted = _wanted(study, repaired, request, changed)
    started = time.monotonic()
    null = repair_study(study, model, _null_text(repaired, request), watch.part(0, NULL_TEXT))
    plain = inverted(study, model, watch)
    starts = {
        "p2p": lambda: EditStart.from_repair(model, plain, plain=True),
        "null-text": lambda: EditStart.from_repair(model, RepairState.load(null.state, model)),
        "dpl": lambda: EditStart.from_repair(model, RepairState.load(repaired.state, model)),
    }
    for place, (way, start) in enumerate(starts.items()):
        span = (1 - NULL_TEXT) / len(starts)
        part = watch.part(NULL_TEXT + place * span, NULL_TEXT + (place + 1) * span)
        if not found.picture(way).is_file():
            picture = _edited(model, start(), wanted, request, part, WAYS[way])
            save_picture(picture, found.picture(way), _about(study, request, WAYS[way]))
    record = _measured(study, repaired, request, changed, found)
    record["seconds"] = time.monotonic() - started
    write_json(found.folder / "edit.json", record)  # last: it says that all of it is there
    return found


def _null_text(repaired: Repair, request: EditRequest) -> RepairRequest:
    """The same settings without learning words."""
    settings = repaired.request.settings.model_copy(update={"attention_steps": 0, "schedule": "fast"})
    machine = {"slicing": request.slicing, "device": request.device}
    return RepairRequest(study=request.study, words=[], settings=settings, **machine)


def _wanted(study: Study, repaired: Repair, request: EditRequest, changed: Changed) -> Edit:
    blend = None
    if request.where == "words":
        blend = BlendPlaces(source=changed.source, edited=changed.edited)
    elif request.where == "masks":
        mask = _object_mask(study, repaired, changed)
        if mask is None:
            raise ConfigError("There is no mask of the words that change.", "Draw one, or let the words say where.")
        blend = BlendPlaces(mask=torch.from_numpy(mask.copy()))
    return Edit(
        request.prompt,
        "refine" if request.kind == "refine" else "swap",
        {int(word): factor for word, factor in request.weights.items()},
        blend=blend,
        bound=request.bound,
    )


def _edited(
    model: TextToImage, start: EditStart, wanted: Edit, request: EditRequest, watch: Watch, name: str
) -> Image.Image:
    latents: Tensor | None = None
    for progress in edit(model, start, wanted, request.settings):
        watch.tell((progress.step + 1) / progress.steps, name)
        watch.check()
        latents = progress.latents
    assert latents is not None
    return to_image(model.decode(latents[1:]))


def _about(study: Study, request: EditRequest, name: str) -> dict[str, str]:
    """What the file itself says of its origin."""
    return {
        "synthetic": "true",
        "Description": f"Synthetic: edited by a text-to-image model ({name}). Not a photograph, not for diagnosis.",
        "Software": "Promptloupe",
        "caption": study.facts.caption,
        "edited caption": request.prompt,
        "model": study.model.name,
    }


# --- what it did ------------------------------------------------------------------------------------------------------


def _object_mask(study: Study, repaired: Repair, changed: Changed) -> Mask | None:
    """What the edit may touch; None where that is not known.

    Masks of the words that change, an adjective standing for the noun behind it. Where words are only added, those of
    all words that were repaired.
    """
    masks, count = study.masks(), len(study.words)
    if changed.source:
        words = {next((n for n in range(word, count) if n in masks), -1) for word in changed.source}
    else:
        words = set(repaired.request.words)
    if not words or not words <= masks.keys():
        return None
    return np.any([masks[word] for word in sorted(words)], axis=0)


def _measured(
    study: Study, repaired: Repair, request: EditRequest, changed: Changed, found: EditFolder
) -> dict[str, Any]:
    """Every way's metrics, against the picture itself."""
    mask = _object_mask(study, repaired, changed)
    outside = torch.from_numpy(np.zeros((study.facts.side,) * 2, bool) if mask is None else mask.copy())
    before = pixels_of(study)[0]
    original = Image.open(study.image).convert("RGB")
    judge, why = _judge(request.backbone)
    ways: dict[str, Any] = {}
    for way in WAYS:
        picture = Image.open(found.picture(way)).convert("RGB")
        kept = background_kept(before, square_pixels(picture, study.facts.side)[0], outside)
        row: dict[str, Any] = {"psnr": None if np.isinf(kept.psnr) else kept.psnr, "ssim": kept.ssim, "mse": kept.mse}
        row |= _judged(judge, original, picture, request.prompt)
        ways[way] = row
    return {
        "request": request.model_dump(mode="json"),
        "measured": "whole" if mask is None else "outside",
        "middle": None if mask is None else float((np.nonzero(mask)[1].mean() + 0.5) / mask.shape[1]),
        "by": judge.name if judge else "",
        "why_not": why,
        "ways": ways,
    }


def _judge(name: str) -> tuple[Backbone | None, str]:
    try:
        return load_backbone(name), ""
    except BackboneError as error:
        return None, str(error)


def _judged(judge: Backbone | None, before: Image.Image, after: Image.Image, caption: str) -> dict[str, Any]:
    if judge is None:
        return {"clip": None, "structure": None}
    try:
        distance: float | None = structure_distance(judge, before, after).value
    except BackboneError:
        distance = None
    return {"clip": clip_scores(judge, [after], [caption])[0], "structure": distance}
