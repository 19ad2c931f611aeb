"""Where a diffusion model looks: attention probabilities of a UNet's layers, recorded while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

Kind = Literal["cross", "self"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One layer's attention in one call of the UNet."""

    layer: str
    """Its name in the UNet, such as `down_blocks.0.attentions.0.transformer_blocks.0.attn2`."""
    kind: Kind
    """`cross`: pixels look at text tokens; `self`: pixels look at pixels."""
    side: int
    """The layer sees an image of side x side."""
    probabilities: Tensor
    """[B, side * side, keys], averaged over heads; rows sum to 1. Gradients flow through it."""


class AttentionRecorder:
    """Records attention while it is entered; the UNet's answers stay the same to rounding.

    Layers whose image is not one of `sides` keep the UNet's own, faster attention, which never forms probabilities.
    Calls are counted, not gradients, so a frozen UNet is recorded as well. It can be entered again and again: the UNet
    is searched for its layers only once.

        with AttentionRecorder(unet, sides=[16]) as recorder:
            unet(latents, step, states)
            maps = recorder.word_maps()  # [B, 16, 16, tokens]

    Args:
        unet: any UNet2DConditionModel whose images are square at the recorded layers.
        sides: which sizes to record; the size in latents, so 16 for Stable Diffusion 1 at 512 pixels.
        kinds: which attention to record.
    """

    def __init__(self, unet: UNet2DConditionModel, sides: Iterable[int], kinds: Iterable[Kind] = ("cross",)) -> None:
        self.unet, self.sides, self.kinds = unet, frozenset(sides), frozenset(kinds)
        self.recorded: list[Recorded] = []
        self._layers = [
            (layer, name, kind)
            for name, layer in unet.named_modules()
            if isinstance(layer, Attention) and (kind := kind_of(name)) in self.kinds
        ]

    def __enter__(self) -> Self:
        self._before = [layer.get_processor() for layer, _, _ in self._layers]
        for (layer, name, kind), own in zip(self._layers, self._before, strict=True):
            layer.set_processor(_Processor(self, name, kind, own))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for (layer, _, _), own in zip(self._layers, self._before, strict=True):
            layer.set_processor(own)

    def take(self) -> list[Recorded]:
        """What was recorded since the last time, in the order of running."""
        taken, self.recorded = self.recorded, []
        return taken

    def word_maps(self) -> Tensor:
        """Cross-attention of the last call, averaged over heads and layers: [B, side, side, tokens].

        Raises:
            ValueError: no layer of the wanted size has cross-attention, or layers of several sizes were recorded.
        """
        found = [one for one in self.take() if one.kind == "cross"]
        sides = {one.side for one in found}
        if len(sides) != 1:
            raise ValueError(f"cross-attention was recorded at sides {sorted(sides)}, and one is needed")
        mean = torch.stack([one.probabilities for one in found]).mean(dim=0)
        side = sides.pop()
        return mean.unflatten(1, (side, side))


def kind_of(layer: str) -> Kind:
    """Of a layer, by its name: diffusers calls self-attention attn1 and cross-attention attn2."""
    return "cross" if layer.endswith("attn2") else "self"


class _Processor:
    """Stands in for a layer's own processor."""

    def __init__(self, recorder: AttentionRecorder, layer: str, kind: Kind, own: Any) -> None:
        self.recorder, self.own, self.layer, self.kind = recorder, own, layer, kind

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        side = round(hidden_states.shape[1] ** 0.5)
        if side not in self.recorder.sides:
            given: Tensor = self.own(attn, hidden_states, encoder_hidden_states, attention_mask, **options)
            return given

        def note(probabilities: Tensor) -> Tensor:
            self.recorder.recorded.append(Recorded(self.layer, self.kind, side, probabilities.mean(dim=1)))
            return probabilities

        return attend(attn, hidden_states, encoder_hidden_states, attention_mask, note)


def attend(
    attn: Attention,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None,
    attention_mask: Tensor | None,
    change: Callable[[Tensor], Tensor],
) -> Tensor:
    """What a layer answers when its probabilities [B, heads, queries, keys] pass through `change` on their way.

    Args:
        attn: the layer.
        hidden_states: [B, queries, W].
        encoder_hidden_states: [B, keys, W'] that it looks at; its own image for None.
        attention_mask: added to the scores.
        change: may note them, or give back others.
    """
    states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
    query = attn.head_to_batch_dim(attn.to_q(hidden_states))
    key, value = attn.head_to_batch_dim(attn.to_k(states)), attn.head_to_batch_dim(attn.to_v(states))
    scores = attn.get_attention_scores(query, key, attention_mask)
    probabilities = change(scores.unflatten(0, (len(hidden_states), -1))).flatten(0, 1)
    joined = attn.batch_to_head_dim(torch.bmm(probabilities, value))
    mixed: Tensor = attn.to_out[1](attn.to_out[0](joined))
    return mixed / attn.rescale_output_factor
