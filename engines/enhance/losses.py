"""Losses of CLIP-LIT (arXiv:2303.17569, section 3; weights and margins of its release)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.enhance.guidance import ClipView
from engines.errors import ConfigError

RankOrder = Literal["improving", "released"]
WARM_UP_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0)
ENHANCE_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 0.5)
OFFICIAL_BATCH = 8
"""The release sums the identity loss over its batch of 8 and averages the other; other batches keep that balance."""
CALIBRATED = 32
"""Photos that the scale of a stand-in is found on."""
TWICE_AS_BRIGHT = 0.5
"""Distance that a stand-in for the paper's ResNet gives a photo and the same at twice its brightness.

The release prolongs a round while its loss is above 90, so a well-lit result is at most 90 / (22.5 * 8) = 0.5 from its
photo. Without this a ViT's tokens, which are not bounded, lay 14 times as far apart, and prompts hardly got through.
"""


def divided(pixels: Tensor, light: Tensor) -> Tensor:
    """The enhanced image of the training, clamp(x / (L + 1e-9), 0, 1)."""
    return (pixels / (light + 1e-9)).clamp(0, 1)


def prompt_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Prompt initialisation (equation 3): cross-entropy; label 0 is backlit, 1 well-lit."""
    return F.cross_entropy(logits, labels)


def hinge(a: Tensor, b: Tensor, margin: float) -> Tensor:
    """Mean of max(0, m - (a - b)) for p_backlit [B] of groups of which a ought to look more backlit."""
    return (margin - (a - b)).clamp_min(0).mean()


def rank_loss(
    backlit: Tensor, well_lit: Tensor, results: Sequence[Tensor] = (), order: RankOrder = "improving"
) -> Tensor:
    """Prompt refinement (equations 7 and 8), without the factor 200 of the objective.

    Args:
        backlit, well_lit: p_backlit [B] of photos.
        results: p_backlit [B] of enhanced photos, the newest last; none, one, or two.
        order: "improving" asks for backlit > previous > newest > well-lit; "released" for what the release's code
            does with two results: backlit > newest > previous > well-lit.
    """
    if len(results) > 2:
        raise ConfigError(f"{len(results)} groups of results cannot be ranked.", "Give the newest two.")
    if not results:
        return hinge(backlit, well_lit, 1.0)
    if len(results) == 1:
        (newest,) = results
        return hinge(backlit, well_lit, 0.9) + hinge(backlit, newest, 0.9) + hinge(newest, well_lit, 0.2)
    worse, better = results if order == "improving" else reversed(results)
    return (
        hinge(backlit, well_lit, 0.9)
        + hinge(backlit, worse, 0.9)
        + hinge(worse, better, 0.1)
        + hinge(better, well_lit, 0.1)
    )


def warm_up_objective(distances: Tensor, batch: int = OFFICIAL_BATCH) -> Tensor:
    """25 times the identity loss, for distances [B] with weights `WARM_UP_WEIGHTS`."""
    return 25 * batch * distances.mean()


def enhance_objective(
    guidance: Tensor, distances: Tensor, factor: float = 320.0, batch: int = OFFICIAL_BATCH
) -> Tensor:
    """factor * guidance + 0.9 * 25 * identity."""
    return factor * guidance + 22.5 * batch * distances.mean()


class Identity:
    """How far the content of two images lies apart, in five feature maps of a frozen image tower.

    The paper takes the stem and the four stages of CLIP's RN101. From a ViT five blocks, spread evenly, stand in: their
    patch tokens play the part of the maps, which is no published method; `label` says which of both is used.

    Attributes:
        scale: of all distances; 1 for the paper's tower, see `calibrate` for others.
    """

    def __init__(self, backbone: Backbone, antialias: bool = False) -> None:
        self.view = ClipView(backbone, antialias)
        self.scale = 1.0
        visual = backbone.model.visual
        self._published = hasattr(visual, "stem") and hasattr(visual, "layer4")
        if self._published:
            self.label = "ResNet stages (as in the paper)"
            self._maps: Callable[[Tensor], list[Tensor]] = lambda pixels: resnet_maps(visual, pixels)
        else:
            tower = backbone.vision
            if not tower.blocks:
                raise ConfigError(
                    f"The content of images cannot be compared in this model: {tower.reason}.",
                    "Choose a CLIP ResNet (RN101 in the paper) or a ViT for the identity loss.",
                )
            picked = [round(i * (tower.depth - 1) / 4) for i in range(5)]
            self.label = "ViT blocks (stand-in for the paper’s ResNet)"
            self._maps = lambda pixels: _picked(tower.hidden_states(pixels), picked)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Five maps of images [B, 3, H, W] in 0..1."""
        return self._maps(self.view.pixels(images))

    def distances(self, enhanced: Tensor, original: Tensor, weights: Sequence[float] = ENHANCE_WEIGHTS) -> Tensor:
        """[B]: the weighted sum of mean squared differences, with gradient to `enhanced` alone."""
        with torch.no_grad():
            kept = self.maps(original)
        return self.scale * map_distances(self.maps(enhanced), kept, weights)

    @torch.no_grad()
    def calibrate(self, photos: Tensor) -> None:
        """Sets a stand-in's `scale` so that photos [N, 3, H, W] uint8 are `TWICE_AS_BRIGHT` from twice themselves."""
        if self._published:
            return
        self.scale = 1.0
        some = photos[:CALIBRATED].to(self.view.backbone.device) / 255
        mean = float(self.distances((2 * some).clamp(0, 1), some).mean())
        self.scale = TWICE_AS_BRIGHT / mean if mean > 1e-6 else 1.0


def map_distances(maps: Sequence[Tensor], others: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """[B]: sum over maps of weight * mean squared difference."""
    each = [w * (a - b).square().flatten(1).mean(dim=1) for w, a, b in zip(weights, maps, others, strict=True)]
    return torch.stack(each).sum(dim=0)


def resnet_maps(visual: Any, pixels: Tensor) -> list[Tensor]:
    """Stem (behind its pooling) and stages 1 to 4 of open_clip's ModifiedResNet; the attention pool is not needed."""
    maps = [visual.stem(pixels)]
    for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        maps.append(stage(maps[-1]))
    return maps


def _picked(maps: Sequence[Tensor], numbers: Sequence[int]) -> list[Tensor]:
    return [maps[number] for number in numbers]
