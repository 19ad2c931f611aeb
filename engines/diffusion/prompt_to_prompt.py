"""Two images in one batch, the second looking where the first looks (Prompt-to-Prompt, Hertz et al., arXiv:2208.01626).

Batches have four rows: source and edited without text, then source and edited with text.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional as F

from engines.diffusion.attention import attend
from engines.diffusion.mappers import TokenMapping

SOURCE, EDITED = 2, 3
"""Rows with text."""


@dataclass(frozen=True, slots=True)
class Control:
    """What of the source's attention the edited image takes."""

    mapping: TokenMapping
    cross: Tensor
    """[steps, T] of 0 and 1: tokens whose maps are taken, step by step."""
    scales: Tensor
    """[T]: factors of taken maps; what comes out is not normalised again, as in the paper's re-weighting."""
    self_steps: int
    """In so many steps self-attention is taken, too."""
    self_side: int
    """Of layers that see images of at most this side: finer ones would copy texture."""
    official: bool = False
    """As the official code of DPL: the last layer counts a step ahead, and the maps to blend by are those of the third
    and fourth head of the whole batch."""


class ControlledAttention:
    """While entered, a UNet's attention obeys a `Control`; where it changes nothing, the UNet's own processors run.

        with ControlledAttention(unet, control, step, side=16) as attention:
            unet(four_latents, level, four_states)
            maps = attention.take_maps()  # [2, 16, 16, T]

    Args:
        unet: any whose images are square.
        control: what is taken.
        step: of the diffusion, the first being 0.
        side: of the cross-attention that `take_maps` gives.
    """

    def __init__(self, unet: UNet2DConditionModel, control: Control, step: int, side: int) -> None:
        self.unet, self.control, self.step, self.side = unet, control, step, side
        self._seen: list[Tensor] = []

    def __enter__(self) -> Self:
        self._before = dict(self.unet.attn_processors)
        last = [name for name in self._before if name.endswith("attn2.processor") and name.startswith("up_blocks")][-1:]
        changed = {name: _Processor(self, name, own, [name] == last) for name, own in self._before.items()}
        self.unet.set_attn_processor(changed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unet.set_attn_processor(self._before)

    def take_maps(self) -> Tensor:
        """Cross-attention of source and edited image in the last call, [2, side, side, T], with what was taken."""
        seen, self._seen = self._seen, []
        return torch.stack(seen).mean(dim=0).unflatten(1, (self.side, self.side))

    def changes_cross(self, step: int) -> bool:
        """Whether any word takes a map of the source in a step."""
        return step < len(self.control.cross) and bool(self.control.cross[step].any())

    def changes_self(self, side: int) -> bool:
        """Whether layers that see images of this side take self-attention of the source."""
        return self.step < self.control.self_steps and side <= self.control.self_side

    def cross(self, probabilities: Tensor, step: int, side: int) -> Tensor:
        """[4, heads, queries, T], the edited row changed; noted if they are of the wanted side."""
        control = self.control
        if self.changes_cross(step):
            own = probabilities[EDITED]
            taken = control.mapping.apply(probabilities[SOURCE], own) * control.scales.to(own)
            changed = torch.where(control.cross[step].to(own.device) > 0, taken, own)
            probabilities = torch.cat([probabilities[:EDITED], changed[None]])
        if side == self.side:
            self._seen.append(_pair(probabilities, control.official).float())
        return probabilities

    @staticmethod
    def look_alike(probabilities: Tensor) -> Tensor:
        """[4, heads, queries, queries], the edited image looking at itself as the source does at itself."""
        return torch.cat([probabilities[:EDITED], probabilities[SOURCE:EDITED]])


class _Processor:
    """Stands in for a layer's own processor."""

    def __init__(self, attention: ControlledAttention, name: str, own: Any, last: bool) -> None:
        self.attention, self.own, self.last = attention, own, last
        self.is_cross = name.endswith("attn2.processor")

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        attention, side = self.attention, round(hidden_states.shape[1] ** 0.5)
        if self.is_cross:
            step = attention.step + (self.last and attention.control.official)
            if attention.changes_cross(step) or side == attention.side:
                return attend(
                    attn,
                    hidden_states,
                    encoder_hidden_states,
                    attention_mask,
                    lambda probabilities: attention.cross(probabilities, step, side),
                )
        elif attention.changes_self(side):
            return attend(attn, hidden_states, encoder_hidden_states, attention_mask, attention.look_alike)
        given: Tensor = self.own(attn, hidden_states, encoder_hidden_states, attention_mask, **options)
        return given


@dataclass(frozen=True, slots=True)
class LocalBlend:
    """Confines an edit to where some words look: outside, latents of the source are kept."""

    words: Tensor
    """[2, T] of 0 and 1: tokens of the source and of the edited caption whose maps say where."""
    without: Tensor | None = None
    """[2, T]: tokens whose places are left out again."""
    threshold: float = 0.3
    """Of a map's maximum."""
    without_threshold: float = 0.3

    def mask(self, maps: Tensor, side: int) -> Tensor:
        """Where to edit, [side, side] bool: where the words of the source or the edited caption look.

        Args:
            maps: [2, s, s, T], of the source and the edited image; their scale does not matter.
            side: of the latents.
        """
        inside = self._looked_at(maps, self.words, self.threshold, side, widened=True)
        if self.without is not None:
            inside &= ~self._looked_at(maps, self.without, self.without_threshold, side, widened=False)
        return inside

    @staticmethod
    def _looked_at(maps: Tensor, words: Tensor, threshold: float, side: int, widened: bool) -> Tensor:
        heat = (maps * words.to(maps)[:, None, None]).sum(dim=-1)[:, None]
        if widened:
            heat = F.max_pool2d(heat, kernel_size=3, stride=1, padding=1)
        heat = F.interpolate(heat, (side, side), mode="nearest")[:, 0]
        return (heat > threshold * heat.amax(dim=(1, 2), keepdim=True)).any(dim=0)


def blended(latents: Tensor, inside: Tensor) -> Tensor:
    """Latents [2, C, h, w] of source and edited image; the edited ones only inside [h, w], elsewhere the source's."""
    return torch.stack([latents[0], torch.where(inside, latents[1], latents[0])])


def _pair(probabilities: Tensor, official: bool) -> Tensor:
    """Maps [2, queries, T] of source and edited image."""
    if official:
        return probabilities.flatten(0, 1)[2:4]
    return probabilities[SOURCE:].mean(dim=1)
