"""Repairing attention leakage by Dynamic Prompt Learning, one step of the diffusion at a time.

DPL: Wang et al., NeurIPS 2023, arXiv:2309.15664; with masks the losses of LocInv (Tang et al., arXiv:2405.01496).
First the image is inverted, then at every level of noise the embeddings of the nouns are learned until their maps are
disjoint, avoid the background and stay strong, and after them the empty prompt, so that the image is still reached.

    state = start_repair(model, pixels, "a circle and a star", ["circle", "star"])
    for progress in repair(model, state):
        if cancelled:
            state.save(path)  # later: repair(model, RepairState.load(path, model))
            break
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from engines.diffusion.attention import AttentionRecorder
from engines.diffusion.background import coverage, find_background, shrink_mask
from engines.diffusion.dynamic import DynamicTokens
from engines.diffusion.inversion import EmptyPrompt, NullStep, rising_levels
from engines.diffusion.losses import Objective, leakage_objective, mask_objective, word_heat
from engines.diffusion.model import CLEAN, Conditions, TextToImage, guide, memory_watched
from engines.diffusion.state import RepairSettings, RepairState, Update
from engines.diffusion.words import Word
from engines.errors import ConfigError

FINEST_CLUSTERS = 32
"""Side of the self-attention that is clustered, at most: its memory grows with the fourth power."""
NO_BACKGROUND = (
    "No background was found: the chosen words look at every part of the image, or at none. Leakage onto the "
    "background is not repaired."
)


@dataclass(frozen=True, slots=True)
class Progress:
    """What has just happened."""

    stage: Literal["invert", "attention", "reconstruct", "step"]
    """`step`: one more level is finished, also of the inversion ("invert"); the others are updates within a level."""
    step: int
    """Which level, from 0."""
    steps: int
    losses: dict[str, float] | None = None
    """Of the maps, before the update ("attention")."""
    null_loss: float | None = None
    """Mean squared error of the latents ("reconstruct")."""
    clean: Tensor | None = None
    """[1, C, h, w]: what the image looks like as of this level ("step"); `model.decode` makes a preview of it."""

    @property
    def worth_saving(self) -> bool:
        """Whether the state has changed."""
        return self.stage in ("invert", "step")


def start_repair(
    model: TextToImage,
    pixels: Tensor,
    prompt: str,
    nouns: Sequence[str | int],
    settings: RepairSettings | None = None,
    masks: Tensor | None = None,
    adjectives: Mapping[int, str | int] | None = None,
) -> RepairState:
    """Everything that a repair begins with; what is wrong with it is told here.

    Args:
        model: that will do it.
        pixels: [1, 3, H, W] in 0..1, square.
        prompt: caption of the image.
        nouns: words of the caption that are objects, by text or number; one may consist of several words.
        settings: the defaults, if None.
        masks: [n, H', W'] bool, where the nouns' objects are, if somebody drew them.
        adjectives: with masks: for the number of a noun in `nouns` the adjective that belongs to it.

    Raises:
        ConfigError: a word is not in the caption or not read; none is chosen, or one twice; masks do not fit.
    """
    settings = settings or RepairSettings()
    state = RepairState(prompt, list(nouns), dict(adjectives or {}), settings, model.fingerprint, trajectory=[])
    words, bound = _words(model, state)
    _check(state, words, bound, masks)
    model.levels(settings.steps)
    with memory_watched():
        latents = model.encode_image(pixels, settings.image_seed)
    side = model.map_side(latents)
    if masks is not None:
        state.masks = coverage(masks, side).to(latents)
    state.trajectory.append(latents)
    caption = model.caption(prompt)
    if caption.unread:
        state.notes.append(f"The caption is longer than the model reads; “{caption.unread}” is left out.")
    return state


def repair(model: TextToImage, state: RepairState) -> Iterator[Progress]:
    """Goes on from wherever the state is to the end, and says after every update what happened.

    Between two answers the state is whole: it can be saved, and the iterator dropped, at any of them. What was begun at
    a level and not finished is then done again, with the same result.

    Raises:
        BackboneError: the GPU's memory does not suffice.
    """
    with memory_watched():
        yield from _invert(model, state)
        _find_background(model, state)
        words, bound = _words(model, state)
        objective = _objective(state, words, bound)
        while not state.finished:
            yield from _repair_step(model, state, [*words, *(adjective for adjective, _ in bound)], objective)


def _invert(model: TextToImage, state: RepairState) -> Iterator[Progress]:
    """DDIM inversion without guidance, and the attention on the way."""
    steps = state.settings.steps
    rising = rising_levels(model, steps)
    sides = {model.map_side(state.trajectory[0]), _cluster_side(model, state)}
    conditions = _without_gradient(model, state.prompt)
    while not state.inverted:
        done = len(state.trajectory) - 1
        lower, higher = rising[done]
        latents = state.trajectory[-1]
        with torch.no_grad(), AttentionRecorder(model.unet, sides, ["cross", "self"]) as recorder:
            noise = model.predict(latents, higher, conditions)
            recorded = recorder.take()
        side = model.map_side(latents)
        cross = [one.probabilities[-1] for one in recorded if one.kind == "cross" and one.side == side]
        state.maps_before.append(torch.stack(cross).mean(dim=0).float().unflatten(0, (side, side)))
        state.attention.add(recorded)
        state.trajectory.append(model.move(latents, noise, lower, higher))
        yield Progress("invert", done, steps)


def _find_background(model: TextToImage, state: RepairState) -> None:
    """By clusters of self-attention, where it is needed."""
    needed = state.masks is None and state.settings.learns_words
    if not needed or state.background is not None or NO_BACKGROUND in state.notes:
        return
    words, _ = _words(model, state)
    settings, side = state.settings, model.map_side(state.trajectory[0])
    seen = state.attention.mean("self", _cluster_side(model, state))
    heat = word_heat(torch.stack(state.maps_before).mean(dim=0), words).unflatten(1, (side, side))
    found = find_background(seen, heat, settings.clusters, settings.background_below).mask
    small = None if found is None else shrink_mask(found, side, settings.official)
    if small is None or not small.any() or small.all():
        state.notes.append(NO_BACKGROUND)
    else:
        state.background = small.to(model.device)


def _repair_step(model: TextToImage, state: RepairState, words: list[Word], objective: Objective) -> Iterator[Progress]:
    """One level: the words' embeddings, then the empty prompt, then on to the next level."""
    settings, step = state.settings, state.step
    level, lower = model.levels(settings.steps)[step : step + 2]
    latents = state.trajectory[-1] if state.latents is None else state.latents

    tokens = DynamicTokens(model.embed([state.prompt]), words, state.tokens[-1] if state.tokens else None)
    updates = []
    schedule = settings.token_schedule(step, state.masks is not None)
    for seen in tokens.learn(model, latents, level, objective, schedule):
        updates.append(Update(step, seen.losses))
        yield Progress("attention", step, settings.steps, losses=seen.losses)

    with torch.no_grad(), AttentionRecorder(model.unet, [model.map_side(latents)]) as recorder:
        conditions = model.encode(tokens.spliced())
        noise = model.predict(latents, level, conditions)
        maps = recorder.word_maps()[0].float()
    given = NullStep(latents, state.trajectory[-2 - step], level, lower, conditions, noise)
    empty, null_losses = _empty_prompt(model, state), []
    for loss in empty.learn(model, given, settings.guidance, settings.null_schedule(step)):
        null_losses.append(loss)
        yield Progress("reconstruct", step, settings.steps, null_loss=loss)

    with torch.no_grad():
        guided = guide(model.predict(latents, level, empty.conditions), noise, settings.guidance)
        state.latents = model.move(latents, guided, level, lower)
        clean = model.move(latents, guided, level, CLEAN)
    state.tokens.append(tokens.rows)
    state.unconditional.append(empty.conditions.states)
    state.maps_after.append(maps)
    state.updates += updates
    state.null_losses.append(min(null_losses, default=None))
    yield Progress("step", step, settings.steps, clean=clean)


def _words(model: TextToImage, state: RepairState) -> tuple[list[Word], list[tuple[Word, Word]]]:
    """The nouns, and the adjectives with the nouns that they belong to."""
    caption = model.caption(state.prompt)
    words = [caption.find(noun) for noun in state.nouns]
    strange = [number for number in state.adjectives if not 0 <= number < len(words)]
    if strange:
        raise ConfigError(
            f"An adjective is given for noun number {strange[0]}, and there are {len(words)} nouns.",
            "Give adjectives for chosen nouns only.",
        )
    return words, [(caption.find(adjective), words[number]) for number, adjective in state.adjectives.items()]


def _check(state: RepairState, words: list[Word], bound: list[tuple[Word, Word]], masks: Tensor | None) -> None:
    if not words and state.settings.learns_words:
        raise ConfigError("No word is chosen.", "Choose the words of the caption that are objects.")
    taken = [position for word in [*words, *(adjective for adjective, _ in bound)] for position in word.positions]
    if len(taken) > len(set(taken)):
        raise ConfigError("A word of the caption is chosen twice.", "Choose every word once.")
    if masks is None:
        if bound:
            raise ConfigError("Adjectives need masks.", "Draw a mask for every chosen word, or leave adjectives out.")
        return
    if len(masks) != len(words):
        raise ConfigError(
            f"There are {len(masks)} masks and {len(words)} chosen words.", "Draw one mask for every chosen word."
        )
    for word, mask in zip(words, masks, strict=True):
        if not mask.any():
            raise ConfigError(f"The mask of “{word.text}” is empty.", "Draw it over the object.")


def _objective(state: RepairState, words: list[Word], bound: list[tuple[Word, Word]]) -> Objective:
    if state.masks is not None:
        return mask_objective(words, state.masks, bound, state.settings.masks)
    return leakage_objective(words, state.background, state.settings.leakage)


def _empty_prompt(model: TextToImage, state: RepairState) -> EmptyPrompt:
    """Of the step before; that of no text at the first step, and in the official schedule at every step."""
    fresh = model.unconditional()
    if state.settings.official or not state.unconditional:
        return EmptyPrompt(fresh)
    return EmptyPrompt(Conditions(state.unconditional[-1], fresh.pooled))


def _cluster_side(model: TextToImage, state: RepairState) -> int:
    """Side of the self-attention that is clustered: the finest that memory allows."""
    sides = model.attention_sides(state.trajectory[0].shape[-1], "self")
    return next((side for side in sides if side <= FINEST_CLUSTERS), sides[-1])


@torch.no_grad()
def _without_gradient(model: TextToImage, prompt: str) -> Conditions:
    return model.encode([prompt])
