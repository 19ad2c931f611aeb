"""What an edit did to an image, without downloads: how well the rest was kept, and how well the words are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import minimum_filter
from skimage.metrics import structural_similarity
from timm.layers import Attention as TimmAttention
from torch import Tensor
from torch.nn import functional as F

from engines.backbones.attention import project
from engines.backbones.backbone import Backbone
from engines.backbones.recording import unreadable
from engines.errors import BackboneError, ConfigError

WINDOW = 11
"""Side of the Gaussian windows of structural similarity (Wang et al., 2004: sigma 1.5)."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How much of an image is the same outside a mask."""

    mse: float
    """Mean squared error over the pixels outside, values 0..1."""
    psnr: float
    """Of the same pixels, in dB; infinite where nothing changed."""
    ssim: float | None
    """Mean over the windows that lie wholly outside the mask and inside the image; None where there is none."""


def background_kept(before: Tensor, after: Tensor, mask: Tensor) -> Kept:
    """Compares two images outside the edited object: pixels inside the mask take no part (they are not set to zero).

    Args:
        before: [3, H, W] in 0..1.
        after: the same size.
        mask: [H, W] bool, true on the edited object.

    Raises:
        ConfigError: sizes differ, or the mask leaves nothing outside.
    """
    if before.shape != after.shape or before.shape[-2:] != mask.shape:
        raise ConfigError(
            f"Images and mask have different sizes: {list(before.shape)}, {list(after.shape)}, {list(mask.shape)}.",
            "Compare images of one size with a mask of that size.",
        )
    outside = ~mask.bool().cpu()
    if not outside.any():
        raise ConfigError("The mask covers the whole image, so there is no background.", "Draw a smaller mask.")
    one, other = before.double().cpu(), after.double().cpu()
    mse = float((one - other).square()[:, outside].mean())
    return Kept(mse, float(-10 * np.log10(mse)) if mse else float("inf"), _ssim(one, other, outside))


def clip_scores(backbone: Backbone, images: Sequence[Image.Image], captions: Sequence[str]) -> list[float]:
    """100 times the cosine of each image and its caption, as papers on editing report it.

    Args:
        backbone: any model with an image and a text tower; scores of different ones cannot be compared.
        images: n of them.
        captions: n of them, those of the edited images.

    Raises:
        ConfigError: not as many captions as images.
    """
    if len(images) != len(captions):
        raise ConfigError(f"There are {len(images)} images and {len(captions)} captions.", "Give each its caption.")
    if not images:
        return []
    with torch.no_grad():
        seen = backbone.encode_image(torch.stack([backbone.preprocess(image) for image in images]))
        read = backbone.encode_text(list(captions))
        scores: list[float] = (100 * F.cosine_similarity(seen, read.to(seen), dim=-1)).tolist()
    return scores


@dataclass(frozen=True, slots=True)
class StructureDistance:
    """How differently two images are built, and by whose eyes."""

    value: float
    """0 for the same structure."""
    seen_by: str
    """Whose keys they are. Papers use a DINO ViT, and numbers of another model cannot be compared with theirs."""


def structure_distance(backbone: Backbone, before: Image.Image, after: Image.Image) -> StructureDistance:
    """Mean squared difference of the self-similarity of two images (Tumanyan et al., arXiv:2201.00424, equation 4).

    Keys of the last block, heads joined; cosine between all tokens. The paper takes them from a DINO ViT; here the
    loaded model's own ViT gives them, which `seen_by` says.

    Raises:
        BackboneError: the model's image tower is not a plain ViT.
    """
    if reason := unreadable(backbone.vision):
        raise BackboneError(f"This model cannot compare structure: {reason}.", "Choose a model with a ViT.")
    pixels = torch.stack([backbone.preprocess(image) for image in (before, after)])
    keys = F.normalize(_last_keys(backbone, pixels), dim=-1)
    first, second = keys @ keys.transpose(-2, -1)
    return StructureDistance(float(F.mse_loss(first, second)), f"the last block's keys of {backbone.name}, not DINO's")


@torch.no_grad()
def _last_keys(backbone: Backbone, pixels: Tensor) -> Tensor:
    """[B, T, d] of all tokens."""
    block = backbone.vision.blocks[-1]
    found: list[Tensor] = []
    timm = isinstance(block.attn, TimmAttention)
    # Timm's layer projects queries, keys and values at once; open_clip's does so out of reach, behind its norm.
    watched = block.attn.qkv if timm else block.ln_1
    handle = watched.register_forward_hook(lambda module, given, answer: found.append(answer))
    try:
        backbone.encode_image(pixels)
    finally:
        handle.remove()
    if timm:
        return found[-1].chunk(3, dim=-1)[1].float()
    (keys,) = project(block, found[-1], 1, 2)
    return keys.flatten(-2).float()


def _ssim(one: Tensor, other: Tensor, outside: Tensor) -> float | None:
    if min(outside.shape) < WINDOW:
        return None
    whole = minimum_filter(outside.numpy(), size=WINDOW, mode="constant")
    if not whole.any():
        return None
    _, similar = structural_similarity(
        one.numpy(),
        other.numpy(),
        data_range=1.0,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return float(similar[:, whole].mean())
