"""The square that a text-to-image model sees of an image. Torch-free."""

from __future__ import annotations

from PIL import Image

from engines.data.images import to_rgb
from engines.errors import DataError

SMALLEST = 8
"""Pixels to the shorter side below which nothing can be seen."""
LONGEST = 4
"""How many times longer than the shorter side the longer may be: the rest is cut off."""


def square_image(image: Image.Image, side: int) -> Image.Image:
    """The middle square of an image of any mode, scaled to side x side, as RGB.

    Raises:
        DataError: the image is too small, or so narrow that most of it would be cut off.
    """
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise DataError(
            f"The image is {width} x {height} pixels: too small to show anything.",
            f"Choose an image whose shorter side has {SMALLEST} pixels or more.",
        )
    if max(width, height) > LONGEST * min(width, height):
        raise DataError(
            f"The image is {width} x {height} pixels, and the model looks at a square: most would be cut off.",
            "Cut out the part that matters, about as wide as high.",
        )
    return to_rgb(image.crop(middle(width, height))).resize((side, side), Image.Resampling.LANCZOS)


def middle(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the largest square in the middle."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
