"""The work of the jobs: where words look, and their repair. Can be cancelled and killed anywhere, and goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engines.diffusion.leakage.files import save_array, save_picture, write_json
from engines.diffusion.leakage.measuring import measure
from engines.diffusion.leakage.repairs import Repair, open_repair
from engines.diffusion.leakage.requests import Machine, RepairRequest
from engines.diffusion.leakage.studies import Maps, Study
from engines.diffusion.loading import load_text_to_image
from engines.diffusion.losses import word_heat
from engines.diffusion.model import TextToImage
from engines.diffusion.pictures import square_pixels
from engines.diffusion.repair import Progress, repair, start_repair
from engines.diffusion.settings import RepairSettings
from engines.diffusion.state import RepairState
from engines.errors import ConfigError, DataError

SAVE_EVERY = 5.0
"""Seconds between two savings of a repair: what a killed worker loses at most."""
TELL_EVERY = 0.4
"""Seconds between two writings of what pages show meanwhile."""
INVERSION = 0.15
"""Share of a repair that the way to noise takes, for the progress."""
Loss = tuple[int, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told of progress, and who may call everything off."""

    tell: Callable[[float, str], None]
    """Share done, and what is done."""
    check: Callable[[], None]
    """Raises `Cancelled`."""

    def part(self, start: float, end: float) -> Watch:
        """For a part of the work."""
        return Watch(lambda share, what: self.tell(start + (end - start) * share, what), self.check)


def model_for(study: Study, machine: Machine) -> TextToImage:
    """The study's model, loaded.

    Raises:
        BackboneError: it is not there, cannot be read, or is too large for the memory.
    """
    device = "cpu" if machine.device == "cpu" else None
    return load_text_to_image(study.model.path, device, machine.slicing)


def pixels_of(study: Study) -> Tensor:
    """[1, 3, side, side] in 0..1."""
    return square_pixels(Image.open(study.image), study.facts.side)


def look(study: Study, model: TextToImage, watch: Watch) -> dict[str, Any]:
    """Find out where every word looks, and keep it."""
    state = inverted(study, model, watch)
    caption = model.caption(study.facts.caption)
    save_array(study.folder / "maps.npz", _word_maps(model, state, state.maps_before[::-1]))
    measure(study)
    found = {"unread": caption.unread, "cut": [n for n, word in enumerate(caption.words) if word.cut]}
    write_json(study.folder / "words.json", found)  # last: it says that all of it is there
    return found


def inverted(study: Study, model: TextToImage, watch: Watch) -> RepairState:
    """The way from the picture to noise, kept."""
    file = study.folder / "inversion.safetensors"
    settings = RepairSettings(steps=study.facts.steps, attention_steps=0)
    state = _kept(file, model) or start_repair(model, pixels_of(study), study.facts.caption, [], settings)
    if state.inverted:
        return state
    for progress in repair(model, state):
        watch.tell((progress.step + 1) / progress.steps, f"Step {progress.step + 1} of {progress.steps}")
        watch.check()
        if state.inverted:
            break
    state.save(file)
    return state


def repair_study(study: Study, model: TextToImage, request: RepairRequest, watch: Watch) -> Repair:
    """Carry out a repair, from the beginning or from where it was left; one that is finished is not done again."""
    found = open_repair(study, request)
    if found.finished:
        return found
    state = _kept(found.state, model) or _begun(study, model, found.request, watch.part(0, INVERSION))
    live = _Live(found, model, state)
    saved, watch = time.monotonic(), watch.part(INVERSION, 1)
    try:
        for progress in repair(model, state):
            live.note(progress)
            watch.tell((state.step if state.inverted else 0) / progress.steps, live.words)
            if progress.worth_saving and time.monotonic() - saved >= SAVE_EVERY:
                state.save(found.state)
                saved = time.monotonic()
            watch.check()
    finally:
        state.save(found.state)  # between two answers it is whole, whatever ended it
    live.flush()
    _finish(study, model, found, state)
    return found


def _begun(study: Study, model: TextToImage, request: RepairRequest, watch: Watch) -> RepairState:
    """A repair's beginning. It shares the way to noise with the maps, where the schedule allows."""
    settings = request.settings
    masks = [study.mask(number) for number in request.words] if request.masks else None
    drawn = (
        None if masks is None else torch.stack([torch.from_numpy(mask.copy()) for mask in masks if mask is not None])
    )
    adjectives = {request.words.index(noun): word for noun, word in request.adjectives.items() if noun in request.words}
    state = start_repair(model, pixels_of(study), study.facts.caption, list(request.words), settings, drawn, adjectives)
    if settings.image_seed is None:
        known = inverted(study, model, watch)
        state.trajectory, state.maps_before, state.attention = known.trajectory, known.maps_before, known.attention
    return state


def _kept(file: Path, model: TextToImage) -> RepairState | None:
    """What was saved; None where there is nothing, it is damaged, or another model made it."""
    try:
        return RepairState.load(file, model)
    except (DataError, ConfigError):
        return None


def _finish(study: Study, model: TextToImage, found: Repair, state: RepairState) -> None:
    assert state.latents is not None
    picture = model.decode(state.latents).cpu()
    save_picture(to_image(picture), found.folder / "picture.png")
    save_array(found.folder / "maps.npz", _word_maps(model, state, state.maps_after))
    measure(study, found)
    error = float((picture - pixels_of(study)).square().mean())
    result = {
        "psnr": float(-10 * np.log10(max(error, 1e-12))),
        "updates": len(state.updates),
        "background": state.background is not None,
        "notes": state.notes,
    }
    write_json(found.folder / "result.json", result)  # last: it says that all of it is there


def _word_maps(model: TextToImage, state: RepairState, maps: list[Tensor]) -> Maps:
    """[words, steps, s, s] of every word of the caption, zeros for those that are not read; `maps` noisiest first."""
    words = model.caption(state.prompt).words
    heat = torch.stack([word_heat(each, words).unflatten(1, each.shape[:2]) for each in maps], dim=1)
    return np.asarray(heat.float().cpu().numpy(), np.float32)


def to_image(picture: Tensor) -> Image.Image:
    """[1, 3, H, W] in 0..1 as an image."""
    pixels = (picture[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(pixels.cpu().numpy())


class _Live:
    """What a page shows while a repair runs."""

    def __init__(self, found: Repair, model: TextToImage, state: RepairState) -> None:
        self.found, self.model = found, model
        self.updates: list[Loss] = [(step, losses) for step, losses in state.updates]
        self.step, self.steps, self.words = state.step, state.settings.steps, "From the picture to noise"
        self._written = 0.0

    def note(self, progress: Progress) -> None:
        if progress.losses is not None:
            self.updates.append((progress.step, progress.losses))
        if progress.stage != "invert":
            self.step, self.words = progress.step, f"Step {progress.step + 1} of {progress.steps}"
        if time.monotonic() - self._written < TELL_EVERY:
            return
        self.flush()
        if progress.clean is not None:
            save_picture(to_image(self.model.decode(progress.clean)), self.found.folder / "preview.png")

    def flush(self) -> None:
        self._written = time.monotonic()
        write_json(self.found.folder / "live.json", {"step": self.step, "steps": self.steps, "updates": self.updates})
