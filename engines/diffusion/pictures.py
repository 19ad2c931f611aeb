"""Images and masks as the square that a text-to-image model looks at."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from engines.diffusion.squares import middle, square_image
from engines.errors import ConfigError


def square_pixels(image: Image.Image, side: int) -> Tensor:
    """The middle square of an image of any mode, scaled: [1, 3, side, side] in 0..1.

    Raises:
        DataError: the image is too small, or so narrow that most of it would be cut off.
    """
    return torch.from_numpy(np.array(square_image(image, side))).permute(2, 0, 1)[None].float() / 255


def square_mask(mask: Tensor, side: int) -> Tensor:
    """The same square of a mask [H, W] (true or above 0: inside): bool [side, side].

    Raises:
        ConfigError: nothing is inside.
    """
    left, top, right, bottom = middle(mask.shape[1], mask.shape[0])
    cut = (mask > 0)[top:bottom, left:right].float()
    scaled = F.interpolate(cut[None, None], (side, side), mode="nearest-exact")[0, 0] > 0
    if not scaled.any():
        raise ConfigError(
            "A mask is empty, or lies outside the middle square that the model looks at.",
            "Draw the mask over the object, or leave it out.",
        )
    return scaled
