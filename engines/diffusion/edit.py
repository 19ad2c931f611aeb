"""Editing an image through the words of its caption: swap, add, weaken or strengthen them.

Prompt-to-Prompt (Hertz et al., arXiv:2208.01626) on an image that was inverted before: with the latents alone, with the
empty prompts of null-text inversion (Mokady et al., arXiv:2211.09794), or with the repaired tokens of DPL (Wang et al.,
arXiv:2309.15664). All three are the same run with more or less in `EditStart`.

    for progress in edit(model, EditStart.from_repair(model, state), Edit("a lion and a dog")):
        if cancelled:
            break
    before, after = model.decode(progress.latents)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from engines.diffusion.background import coverage
from engines.diffusion.edit_request import BlendPlaces, Edit, EditSettings, EditStart, Names
from engines.diffusion.mappers import identity, refinement, replacement, scales, schedule
from engines.diffusion.model import CLEAN, Conditions, Embedded, TextToImage, guide, memory_watched
from engines.diffusion.prompt_to_prompt import Control, ControlledAttention, LocalBlend, blended
from engines.diffusion.words import Caption
from engines.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EditProgress:
    """What one step of the diffusion gave."""

    step: int
    """From 0; the last is steps - 1."""
    steps: int
    latents: Tensor
    """[2, C, h, w]: source and edited image; `model.decode` makes images of the last."""
    clean: Tensor
    """[2, C, h, w]: what they look like as of this step, for previews."""
    maps: Tensor
    """[2, side, side, T]: cross-attention of source and edited image, mean of the steps so far."""
    inside: Tensor | None
    """[h, w] bool: where the edit was allowed in this step; None for everywhere."""


def edit(
    model: TextToImage, start: EditStart, wanted: Edit, settings: EditSettings | None = None
) -> Iterator[EditProgress]:
    """Makes source and edited image together, a step of the diffusion at a time.

    What is wrong with the wishes is told at once, before the first step. To cancel, stop iterating: between two steps
    the model is as it was.

    Raises:
        ConfigError: captions do not fit each other, words are not in them, or settings cannot work.
        BackboneError: the GPU's memory does not suffice.
    """
    return _run(model, start, _plan(model, start, wanted, settings or EditSettings()))


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that is known before the first step."""

    levels: list[tuple[int, int]]
    side: int
    """Of the maps."""
    control: Control
    embedded: Embedded
    """Source and edited caption."""
    learned: dict[int, int]
    """Position in the edited caption: number of the repaired token that stands there, too."""
    place: _Place


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an edit may change the image; everywhere by default."""

    drawn: Tensor | None = None
    """[h, w] bool, by hand."""
    words: LocalBlend | None = None
    begin: int = 0
    """The first step in which words say it."""

    def inside(self, step: int, maps: Tensor, side: int) -> Tensor | None:
        """[side, side] bool; None for everywhere."""
        if self.words is None or step < self.begin:
            return self.drawn
        return self.words.mask(maps, side)


def _plan(model: TextToImage, start: EditStart, wanted: Edit, settings: EditSettings) -> _Plan:
    levels = list(pairwise(model.levels(start.steps)))
    _check(start)
    source, edited, room = model.caption(start.prompt), model.caption(wanted.prompt), model.room
    ids = _ids(model, start.prompt), _ids(model, wanted.prompt)
    aligned = refinement(*ids, room)
    if wanted.kind == "refine":
        mapping = aligned.bound([at for name in wanted.bound for at in edited.find(name).positions])
    else:  # the official code knows no words, only positions
        mapping = identity(room) if settings.official else replacement(source, edited, room)
    side = model.map_side(start.latents)
    control = Control(
        mapping,
        schedule(edited, start.steps, room, settings.cross_until, wanted.words),
        scales(edited, wanted.weights, room),
        int(start.steps * settings.self_until + 1e-9),
        side if settings.self_side is None else settings.self_side,
        settings.official,
    )
    numbers = {position: number for number, position in enumerate(start.positions)}
    same = aligned.same_tokens(*ids)
    learned = {new: numbers[old] for new, old in same.items() if old in numbers}
    place = _place(start, wanted.blend, source, edited, room, settings.official)
    return _Plan(levels, side, control, model.embed([start.prompt, wanted.prompt]), learned, place)


def _place(
    start: EditStart, places: BlendPlaces | None, source: Caption, edited: Caption, room: int, official: bool
) -> _Place:
    if places is None:
        return _Place()
    if places.mask is not None:
        return _Place(_drawn(places, start.latents))
    words = local_blend(places, source, edited, room)
    return _Place(None, words, 0 if official else int(start.steps * places.start + 1e-9))


@torch.no_grad()
def _run(model: TextToImage, start: EditStart, plan: _Plan) -> Iterator[EditProgress]:
    latents = start.latents.to(model.device).float().repeat(2, 1, 1, 1)
    empty, total = model.unconditional(), torch.zeros(())
    texts = model.encode(plan.embedded)
    for step, (level, lower) in enumerate(plan.levels):
        if start.tokens:
            texts = model.encode(_with_learned(plan, start, step))
        if start.unconditional:
            empty = Conditions(start.unconditional[step].to(model.device), empty.pooled)
        with memory_watched(), ControlledAttention(model.unet, plan.control, step, plan.side) as attention:
            conditions = Conditions.joined(empty.repeated(2), texts)
            without, noise = model.predict(latents.repeat(2, 1, 1, 1), level, conditions).chunk(2)
            maps = attention.take_maps()
        guided = guide(without, noise, start.guidance)
        total = total.to(maps) + maps
        inside = plan.place.inside(step, maps if plan.control.official else total, latents.shape[-1])
        clean = model.move(latents, guided, level, CLEAN)
        latents = model.move(latents, guided, level, lower)
        if inside is not None:
            latents, clean = blended(latents, inside), blended(clean, inside)
        yield EditProgress(step, len(plan.levels), latents, clean, total / (step + 1), inside)


def _with_learned(plan: _Plan, start: EditStart, step: int) -> Embedded:
    """Both captions with the repaired tokens of a step: the edited one where it has the same words."""
    rows, numbers = start.tokens[step], list(plan.learned.values())
    kept = [table[numbers] for table in rows]
    return plan.embedded.replaced(0, start.positions, rows).replaced(1, list(plan.learned), kept)


def _check(start: EditStart) -> None:
    """Whether guidance is one, and whether there is what belongs to every step."""
    if not 1 <= start.guidance <= 50:  # also what is no number
        raise ConfigError(f"{start.guidance} is no scale of guidance.", "Choose that of the repair, from 1 to 50.")
    for name, found in (("empty prompts", start.unconditional), ("sets of repaired tokens", start.tokens)):
        if found and len(found) != start.steps:
            raise ConfigError(
                f"There are {len(found)} {name} for {start.steps} steps.", "Edit in as many steps as were repaired."
            )


def local_blend(places: BlendPlaces, source: Caption, edited: Caption, room: int) -> LocalBlend:
    """The words that say where an edit may change the image, as tokens.

    Raises:
        ConfigError: no word is given or one is not in its caption, or numbers are out of range.
    """
    for number in (places.threshold, places.without_threshold, places.start):
        if not 0 <= number < 1:
            raise ConfigError(
                f"{number} cannot be a threshold or the beginning of the blend.", "Choose numbers from 0 to below 1."
            )
    if not (places.source or places.edited):
        raise ConfigError("It is not said where the image may change.", "Choose words of the captions, or draw a mask.")
    without = _marks(source, places.without_source, edited, places.without_edited, room)
    return LocalBlend(
        _marks(source, places.source, edited, places.edited, room),
        without if without.any() else None,
        places.threshold,
        places.without_threshold,
    )


def _marks(source: Caption, source_words: Names, edited: Caption, edited_words: Names, room: int) -> Tensor:
    """[2, T]: 1 at the tokens of words."""
    marks = torch.zeros(2, room)
    for row, (caption, names) in enumerate(((source, source_words), (edited, edited_words))):
        for name in names:
            marks[row, list(caption.find(name).positions)] = 1
    return marks


def _drawn(places: BlendPlaces, latents: Tensor) -> Tensor:
    """A drawn mask at the size of the latents: where half of a cell is covered, or, of a tiny mask, any of it."""
    mask = places.mask
    assert mask is not None
    if places.source or places.edited or places.without_source or places.without_edited:
        raise ConfigError("A mask and words are given to say where the image may change.", "Choose one of them.")
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        raise ConfigError("The mask is not a square like the image.", "Draw it on the image that is edited.")
    covered = coverage([mask > 0], latents.shape[-1])[0]
    inside = covered >= 0.5
    if not inside.any():
        inside = covered > 0
    if not inside.any():
        raise ConfigError("The mask is empty.", "Draw it over what may change.")
    return inside.to(latents.device)


def _ids(model: TextToImage, prompt: str) -> list[int]:
    """Tokens of a caption that the model reads, start and end included, without padding."""
    found: list[int] = model.tokenizers[0](prompt, truncation=True, max_length=model.room).input_ids
    return found
