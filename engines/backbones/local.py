"""A second path through a ViT that keeps patches local (DPAM: Zhou et al., AnomalyCLIP, ICLR 2024, section 4.3).

Its attention compares values with values, so a patch looks at patches that show the same. It is read off the ordinary
path in every layer and never fed back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones.attention import attended, project, residual
from engines.backbones.vision import VisionTower


class LocalTokens(NamedTuple):
    """What the tower saw, in the joint space, not normalised."""

    image: Tensor
    """[B, D]: class token of the ordinary path; as in the official code it lacks the last norm."""
    layers: list[Tensor]
    """[B, 1 + N, D] of each chosen layer, class token first."""


class TokenMemory:
    """Tokens of images that look the same in every pass: a frozen tower looks once at each, while there is room.

    Args:
        room: bytes of main memory to fill; of images beyond it nothing is kept.
    """

    def __init__(self, room: int = 2 * 2**30) -> None:
        self.room = room
        self._kept: dict[int, list[Tensor]] = {}

    def recall(self, numbers: Sequence[int], look: Callable[[], LocalTokens]) -> LocalTokens:
        """Tokens of the images called so; `look()` makes those of all of them, where one is not known yet."""
        if all(number in self._kept for number in numbers):
            image, *layers = (torch.stack(each) for each in zip(*(self._kept[n] for n in numbers), strict=True))
            return LocalTokens(image, layers)
        seen = look()
        rows = zip(*(each.cpu().unbind() for each in (seen.image, *seen.layers)), strict=True)
        for number, row in zip(numbers, rows, strict=True):
            size = sum(part.nbytes for part in row)
            if number not in self._kept and size <= self.room:
                self.room -= size
                self._kept[number] = [part.clone() for part in row]
        return seen


def local_tokens(
    vision: VisionTower, pixels: Tensor, first: int, layers: Collection[int], full: bool = False
) -> LocalTokens:
    """Walk both paths side by side: u_l = u_(l-1) + W_o softmax(v v^T / sqrt d) v of the ordinary path's v.

    Args:
        pixels: [B, 3, H, W] of any size.
        first: number of ordinary layers in front of the first with a local path; all of them for none.
        layers: whose tokens are wanted, counted from 1; ordinary tokens of those without a local path.
        full: u_l = a whole block on the ordinary path's input, with value-value attention and its MLP.
    """
    chosen = []
    x = local = vision.embed(pixels)
    for number, block in enumerate(vision.blocks):
        if number < first:
            x = local = block(x)
        else:
            q, k, v = (part.transpose(1, 2) for part in project(block, block.ln_1(x), 0, 3))
            alike = F.scaled_dot_product_attention(v, v, v).transpose(1, 2)
            local = residual(block, x, alike) if full else local + attended(block, alike)
            x = residual(block, x, F.scaled_dot_product_attention(q, k, v).transpose(1, 2))
        if number + 1 in layers:
            chosen.append(vision.joint_tokens(local).float())
    return LocalTokens(vision.project(x[:, :1])[:, 0].float(), chosen)
