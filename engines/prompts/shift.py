"""Feature shift: how far learned prompts move what the towers see (RESTORE, arXiv 2403.06136).

The embedding shift follows the paper's words; its formula is a reconstruction, since the equations could not be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.backbones.layout import PromptLayout
from engines.backbones.open_clip_text import OpenClipTextTower
from engines.backbones.vision import VisionTower
from engines.errors import BackboneError


@dataclass(frozen=True)
class States:
    """One tower's states of its class (or end) token: behind every block [L, N, d], and its output [N, D].

    Where an image tower has no class token, the mean of its tokens stands in for it.
    """

    blocks: Tensor
    output: Tensor


@dataclass(frozen=True)
class Shift:
    """How far one tower moved, for each image or class."""

    blocks: Tensor
    """[L, N]: |h~ - h| / |h| behind every block."""
    output: Tensor
    """[N]: 1 - cos of the outputs."""


def shift(prompted: States, free: States) -> Shift:
    """Shift of `prompted` against `free`, the same tower without learned prompts."""
    moved = (prompted.blocks - free.blocks).norm(dim=-1) / free.blocks.norm(dim=-1)
    return Shift(moved, 1 - F.cosine_similarity(prompted.output, free.output, dim=-1))


def image_states(backbone: Backbone, pixels: Tensor, prompts: Sequence[Tensor] = ()) -> States:
    """States of the image tower for pixels [B, 3, H, W], with one prompt [n, d_v] for each of the first blocks."""
    first, deep = (prompts[0], prompts[1:]) if prompts else (None, ())
    pixels = pixels.to(backbone.device)
    return tower_states(backbone.vision, backbone.vision.hidden_states(pixels, first, deep))


def tower_states(vision: VisionTower, hidden: Sequence[Tensor]) -> States:
    """States of an image tower from its tokens behind every block, [B, T, d_v] each."""
    tokens = [state[:, 0] if vision.class_token else state.mean(dim=1) for state in hidden]
    with vision.runtime.autocast():
        return States(torch.stack(tokens), vision.pool(hidden[-1]))


def text_states(backbone: Backbone, layout: PromptLayout, prompts: Sequence[Tensor] = ()) -> States:
    """States of the text tower for all classes; without prompts the sentence's own words stand in their place.

    Raises:
        BackboneError: the blocks of this text tower cannot be reached one by one.
    """
    text = backbone.text
    if not isinstance(text, OpenClipTextTower):
        raise BackboneError("The blocks of this text tower cannot be reached one by one.", "Choose a CLIP model.")
    context, deep = (prompts[0], prompts[1:]) if prompts else (None, ())
    blocks = torch.stack(text.end_states(layout, context, deep))
    if context is None:
        return States(blocks, text.encode_embeddings(layout.embeddings, layout.eot))
    return States(blocks, text.encode_prompts(layout, context, deep))
