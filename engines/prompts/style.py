"""What AD-CLIP and GOPro share: the style of an image as statistics of every block of the frozen image tower.

B images, M blocks, W width of the image tower's tokens, d width of the text tower's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.errors import ConfigError
from engines.prompts.base import PromptMethod, required

EPSILON = 2.3e-8
"""Added to a sum of squares before its root (official code)."""


class Looks(NamedTuple):
    """What the frozen image tower makes of B images: block by block, over all tokens with the class token."""

    mean: Tensor
    """[B, M, W]"""
    deviation: Tensor
    """[B, M, W], of the same tokens; never 0."""
    features: Tensor
    """Unit features [B, D]."""

    @property
    def style(self) -> Tensor:
        """(mean + deviation) / 2, [B, M, W]."""
        return (self.mean + self.deviation) / 2


@torch.no_grad()
def looks(backbone: Backbone, pixels: Tensor) -> Looks:
    """One pass of pixels [B, 3, H, W] through the image tower; of every block only the statistics are kept."""
    tower, means, deviations = backbone.vision, [], []
    with backbone.runtime.autocast():
        x = tower.embed(pixels.to(backbone.device))
        for block in tower.blocks:
            x = block(x)
            tokens = x.float()
            mean = tokens.mean(dim=1)
            squares = ((tokens - mean[:, None]) ** 2).sum(dim=1)
            means.append(mean)
            deviations.append(((squares + EPSILON) / tokens.shape[1]).sqrt())
        features = tower.pool(x)
    return Looks(torch.stack(means, dim=1), torch.stack(deviations, dim=1), F.normalize(features, dim=-1))


class StylePrompt(PromptMethod):
    """A method whose prompts depend on the `Looks` of each image, so that every image has text features of its own.

    Its image tower is left as it is, but features alone do not tell the style: it always needs the images.
    """

    frozen_images = False

    @classmethod
    def refuse(cls, backbone: Backbone) -> str:
        if not backbone.vision.reason:
            return ""
        return f"It reads the style of an image off the blocks of the image tower, but {backbone.vision.reason}."

    def looks(self, pixels: Tensor | None, features: Tensor | None = None) -> Looks:
        """`Looks` of pixels [B, 3, H, W]; features are refused."""
        if features is not None:
            raise ConfigError(
                f"{self.info.title} reads the style off the image tower’s blocks, so it needs the images themselves.",
                "Give pixels instead of features.",
            )
        return looks(self.backbone, required(pixels))

    def scores(self, images: Tensor, text: Tensor) -> Tensor:
        """Logits [B, C] of unit image features [B, D], each against its own unit text features [B, C, D]."""
        return self.backbone.logit_scale * torch.einsum("bd,bcd->bc", images, text)


def linears(blocks: int, width: int, out: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(width, out) for _ in range(blocks))


def block_by_block(layers: nn.ModuleList, x: Tensor) -> Tensor:
    """Each of M layers on its own block: [B, M, ..] -> [B, M, ..]."""
    return torch.stack([layer(x[:, i]) for i, layer in enumerate(layers)], dim=1)


def over_blocks(layer: nn.Linear, x: Tensor) -> Tensor:
    """Linear(M, 1) over the axis of blocks: [B, M, d] -> [B, d]."""
    mixed: Tensor = layer(x.transpose(1, 2))
    return mixed.squeeze(-1)
