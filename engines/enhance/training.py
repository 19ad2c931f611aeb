"""Training an enhancer without paired photos: CLIP-LIT's stages A to D (arXiv:2303.17569, section 3), resumable."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engines.backbones import Backbone
from engines.enhance.checkpoint import write_tensors
from engines.enhance.guidance import ClipView, Guidance, LatentPair, PairGuidance, PromptPair, RaveDirection
from engines.enhance.losses import (
    ENHANCE_WEIGHTS,
    WARM_UP_WEIGHTS,
    Identity,
    divided,
    enhance_objective,
    prompt_loss,
    rank_loss,
    warm_up_objective,
)
from engines.enhance.network import LightMapNet
from engines.enhance.settings import Stage, TrainSettings
from engines.enhance.training_photos import digest, luma, pick, turned
from engines.enhance.training_state import TrainState, copy_of, new_adam, restore_state, save_state
from engines.errors import BackboneError, DataError

STATE, ENHANCER = "training.safetensors", "enhancer.safetensors"
WINDOW = 30
"""Newest steps over which losses are averaged."""
CHECK_EVERY = 20
LIMITS = {Stage.ENHANCE: (90.0, 60), Stage.REFINE: (60.0, 100)}
"""A loss above the first at a stage's end prolongs it by the second."""
LEAST_LEVEL, REDRAW_AFTER = 8.0, 100
"""dB between photo and result: a warm-up below it after so many steps begins anew, and gets as many more."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is, after a step.

    Attributes:
        steps: planned in this stage; may grow.
        p_backlit: mean over the step's enhanced photos, in the enhancement.
        snapshot: file with the enhancer of a round that has just ended.
    """

    stage: Stage
    round: int
    step: int
    steps: int
    total: int
    loss: float
    p_backlit: float | None = None
    snapshot: Path | None = None


def train_enhancer(
    backbone: Backbone,
    backlit: Tensor,
    well_lit: Tensor,
    folder: Path,
    settings: TrainSettings,
    identity: Backbone | None = None,
    network: LightMapNet | None = None,
) -> Generator[Progress, None, None]:
    """Trains a light-map network; `enhancer.safetensors` in `folder` is the newest round's.

    Closing the iterator keeps where it is. A training that was stopped, or killed, goes on in the same folder, with
    the same result as if it had not been stopped. Features of photos are computed once, so prompts learn without
    augmentation; the network sees flips and quarter turns.

    Args:
        backbone: judges; mini-CLIP too.
        backlit, well_lit: photos [N, 3, S, S] uint8; need not show the same things nor be equally many.
        identity: whose image tower compares content; `backbone` itself by default (the paper: CLIP's RN101).
        network: to go on from (fine-tuning); it is not changed.
    Raises:
        DataError: no photos, or the disk is full (the last checkpoint stays).
        ConfigError: the folder holds another training.
        BackboneError: the loss became infinite, or memory does not suffice.
    """
    yield from _Training(backbone, backlit, well_lit, folder, settings, identity or backbone, network).run()


class _Training:
    def __init__(
        self,
        backbone: Backbone,
        backlit: Tensor,
        well_lit: Tensor,
        folder: Path,
        settings: TrainSettings,
        identity: Backbone,
        network: LightMapNet | None,
    ) -> None:
        if not len(backlit) or not len(well_lit):
            raise DataError("Both backlit and well-lit photos are needed.", "Choose a folder of each.")
        self.settings, self.folder, self.device = settings, folder, backbone.device
        self.backlit, self.view = backlit, ClipView(backbone, settings.antialias)
        self.identity = Identity(identity, settings.antialias)
        self.identity.calibrate(backlit)
        self.features = {"backlit": self._features(backlit), "well-lit": self._features(well_lit)}
        self.facts = {
            "settings": settings.model_dump(exclude={"checkpoint_every"}),
            "photos": [digest(backlit), digest(well_lit)],
            "models": [backbone.fingerprint, identity.fingerprint],
            "network": None if network is None else digest(torch.cat([p.flatten() for p in network.parameters()])),
        }
        self.state = self._fresh(backbone, network)
        self._results: list[Tensor] | None = None

    def run(self) -> Iterator[Progress]:
        state = self.state
        restore_state(state, self.folder / STATE, self.facts)
        while state.stage is not Stage.DONE:
            try:
                loss, p = self._step()
            except torch.OutOfMemoryError as error:
                raise BackboneError(
                    "The GPU’s memory does not suffice for this training.",
                    "Choose smaller training photos or a smaller batch.",
                    str(error),
                ) from error
            done = Progress(state.stage, state.round, state.step, state.planned, state.total, loss, p, self._close())
            if done.step == done.steps or state.total % self.settings.checkpoint_every == 0:
                save_state(state, self.folder / STATE, self.facts)
            try:
                yield done
            except GeneratorExit:
                save_state(state, self.folder / STATE, self.facts)
                raise

    # -- steps ---------------------------------------------------------------------------------------------------

    def _step(self) -> tuple[float, float | None]:
        """One step of whatever stage it is: its loss and, in the enhancement, p(backlit)."""
        state, p = self.state, None
        draw = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + state.total)
        if state.stage is Stage.PROMPT:
            loss = self._prompt_loss(draw)
        elif state.stage is Stage.REFINE:
            loss = self._refine_loss(draw)
        else:
            loss, p = self._network_loss(draw)
        found = float(loss.detach())
        if not math.isfinite(found):
            raise BackboneError("The training’s loss became infinite.", "Choose a smaller learning rate.")
        network = state.stage in (Stage.WARM_UP, Stage.ENHANCE)
        optimiser = state.network_optimiser if network else state.guidance_optimiser
        assert optimiser is not None
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        state.step, state.total = state.step + 1, state.total + 1
        state.recent = [*state.recent, found][-WINDOW:]
        return found, p

    def _prompt_loss(self, draw: torch.Generator) -> Tensor:
        """Stage A: as many draws of backlit as of well-lit photos, whatever the folders' sizes (as in the release)."""
        low, high = self.features["backlit"], self.features["well-lit"]
        labels = torch.randint(2, (self.settings.prompt_batch,), generator=draw)
        chosen = torch.stack([group[pick(group, 1, draw)[0]] for group in ([low, high][i] for i in labels.tolist())])
        assert isinstance(self.state.guidance, PairGuidance)
        return prompt_loss(self.state.guidance.logits(chosen), labels.to(self.device))

    def _refine_loss(self, draw: torch.Generator) -> Tensor:
        """Stage D: the same photos before and after, beside well-lit ones."""
        if self._results is None:
            self._results = [self._enhanced_features(weights) for weights in self.state.results]
        chosen = pick(self.backlit, self.settings.prompt_batch, draw)
        judge, well = self.state.guidance.p_backlit, self.features["well-lit"]
        groups = [judge(group[chosen]) for group in (self.features["backlit"], *self._results)]
        others = judge(well[pick(well, self.settings.prompt_batch, draw)])
        return 200 * rank_loss(groups[0], others, groups[1:], self.settings.order)

    def _network_loss(self, draw: torch.Generator) -> tuple[Tensor, float | None]:
        """Stages B and C."""
        state = self.state
        pixels = turned(self.backlit[pick(self.backlit, self.settings.batch, draw)], draw).to(self.device) / 255
        enhanced = divided(pixels, state.network(pixels))
        if state.stage is Stage.WARM_UP:
            error = luma(enhanced.detach() - pixels).square().mean(dim=(1, 2)).clamp_min(1e-10)
            state.levels = [*state.levels, float(-10 * error.log10().mean())][-WINDOW:]
            return warm_up_objective(self.identity.distances(enhanced, pixels, WARM_UP_WEIGHTS)), None
        features = self.view.features(enhanced)
        distances = self.identity.distances(enhanced, pixels, ENHANCE_WEIGHTS)
        loss = enhance_objective(state.guidance.loss(features), distances, state.guidance.factor)
        return loss, float(state.guidance.p_backlit(features).detach().mean())

    # -- between steps -------------------------------------------------------------------------------------------

    def _close(self) -> Path | None:
        """What is due behind a step: keep the best, prolong the stage or leave it; a finished round's snapshot."""
        state, settings = self.state, self.settings
        mean = sum(state.recent) / len(state.recent)
        checked = state.stage is Stage.ENHANCE and len(state.recent) == WINDOW and state.step % CHECK_EVERY == 0
        if checked and (state.best_loss is None or mean < state.best_loss):
            state.best_loss, state.best = mean, copy_of(state.network)
        if (
            state.stage is Stage.WARM_UP
            and state.step > REDRAW_AFTER
            and self._failed()
            and state.prolonged < settings.extensions
        ):
            self._begin_anew()
        if state.step < state.planned:
            return None
        limit, more = LIMITS.get(state.stage, (math.inf, 0))
        if mean > limit and state.prolonged < settings.extensions and settings.guidance != "rave":
            state.planned, state.prolonged = state.planned + more, state.prolonged + 1
            return None
        if state.stage is Stage.WARM_UP and self._failed():
            raise BackboneError(
                f"The warm-up failed: results stay {np.mean(state.levels):.1f} dB from the photos.",
                "Start with the light map near 1, with another seed, or with more warm-up steps.",
            )
        snapshot = self._keep_round() if state.stage is Stage.ENHANCE else None
        stage, number = settings.after(state.stage, state.round)
        state.enter(stage, number, settings.steps(stage))
        self._results = None
        return snapshot

    def _failed(self) -> bool:
        return sum(self.state.levels) < LEAST_LEVEL * len(self.state.levels)

    def _begin_anew(self) -> None:
        """Draws the network again: with an unlucky draw its light map is 0, where nothing can be learned."""
        state = self.state
        state.prolonged += 1
        self._draw(state.network, self.settings.seed + 7919 * state.prolonged)
        state.network_optimiser = new_adam(state.network.parameters(), self.settings.network_rate, self.settings)
        state.planned, state.levels = state.planned + REDRAW_AFTER, []

    def _keep_round(self) -> Path:
        state = self.state
        weights = state.best or copy_of(state.network)
        state.results = [*state.results, weights][-2:]
        notes = {"guidance": self.settings.guidance, "round": str(state.round), "identity": self.identity.label}
        snapshot = self.folder / f"round-{state.round}.safetensors"
        for path in (snapshot, self.folder / ENHANCER):
            write_tensors(path, weights, notes)
        return snapshot

    # -- parts ---------------------------------------------------------------------------------------------------

    def _fresh(self, backbone: Backbone, network: LightMapNet | None) -> TrainState:
        settings, stage_round = self.settings, self.settings.first()
        own = LightMapNet(settings.padding)
        if network is None:
            self._draw(own, settings.seed)
        else:
            own.load_state_dict(network.state_dict())
        own.to(self.device).train()
        guidance = self._guidance(backbone).to(self.device)
        learned = list(guidance.parameters())
        return TrainState(
            own,
            guidance,
            new_adam(own.parameters(), settings.network_rate, settings),
            new_adam(learned, settings.guidance_rate, settings) if learned else None,
            *stage_round,
            settings.steps(stage_round[0]),
        )

    def _draw(self, network: LightMapNet, seed: int) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            network.redraw()
        if self.settings.start == "unit":
            with torch.no_grad():
                network.cond_add1.bias.fill_(1)  # type: ignore[union-attr]

    def _guidance(self, backbone: Backbone) -> Guidance:
        if self.settings.guidance == "prompt":
            return PromptPair(backbone, self.settings.n_ctx)
        if self.settings.guidance == "latent":
            return LatentPair(self.features["backlit"].shape[1], self.settings.seed)
        return RaveDirection(self.features["backlit"], self.features["well-lit"])

    @torch.no_grad()
    def _features(self, photos: Tensor, network: LightMapNet | None = None) -> Tensor:
        """[N, D] of photos, or of what a network makes of them."""
        found = []
        for part in photos.split(self.settings.batch):
            pixels = part.to(self.device) / 255
            found.append(self.view.features(pixels if network is None else divided(pixels, network(pixels))))
        return torch.cat(found)

    def _enhanced_features(self, weights: dict[str, Tensor]) -> Tensor:
        network = LightMapNet(self.settings.padding).to(self.device)
        network.load_state_dict(weights)
        return self._features(self.backlit, network)
