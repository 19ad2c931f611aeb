"""RandAugment: whole images, two changes, a fixed strength, and a mild form."""

from __future__ import annotations

from itertools import repeat

import numpy as np
import pytest
import torch
from PIL import Image

from engines.backbones import Backbone
from engines.backbones.preprocess import PixelSpec
from engines.backbones.randaugment import HARSH, MILD, RandAugment

AUTOCONTRAST, ROTATE, COLOUR, CONTRAST, BRIGHTNESS, SHARPNESS, SHEAR_X, SHEAR_Y, SHIFT_X, SHIFT_Y = MILD
EQUALISE, INVERT, POSTERISE, SOLARISE, SOLARISE_ADD, CUTOUT = HARSH


@pytest.fixture
def image() -> Image.Image:
    """Red grows from left to right, green from top to bottom; 224 pixels wide, as the official distances are meant."""
    y, x = np.mgrid[0:224, 0:224]
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


def grey(value: int) -> Image.Image:
    return Image.new("RGB", (224, 224), (value, value, value))


def low() -> float:
    return 0.0


def high() -> float:
    return 0.9


def at(image: Image.Image, x: int = 112, y: int = 112) -> tuple[int, ...]:
    return tuple(np.asarray(image)[y, x].tolist())


def test_shifts_go_33_pixels_to_either_side(image: Image.Image) -> None:
    assert at(SHIFT_X(image, low))[0] == pytest.approx(112 + 33, abs=1)
    assert at(SHIFT_X(image, high))[0] == pytest.approx(112 - 33, abs=1)
    assert at(SHIFT_Y(image, low))[1] == pytest.approx(112 + 33, abs=1)


def test_shears_lean_by_a_tenth(image: Image.Image) -> None:
    assert at(SHEAR_X(image, low), y=100)[0] == pytest.approx(112 + 10, abs=1)
    assert at(SHEAR_Y(image, high), x=100)[1] == pytest.approx(112 - 10, abs=1)


def test_turns_by_ten_degrees(image: Image.Image) -> None:
    turned = np.asarray(ROTATE(image, low))[112].astype(int)
    assert turned[162, 1] - turned[62, 1] == pytest.approx(100 * np.tan(np.radians(10)), abs=2)


def test_tones(image: Image.Image) -> None:
    assert at(BRIGHTNESS(grey(100), low)) == (70, 70, 70)
    assert at(INVERT(grey(100), low)) == (155, 155, 155)
    assert at(POSTERISE(grey(103), low)) == (96, 96, 96)
    assert at(SOLARISE(grey(84), low)) == (84, 84, 84)
    assert at(SOLARISE(grey(86), low)) == (169, 169, 169)
    assert at(SOLARISE_ADD(grey(90), low)) == (126, 126, 126)
    assert at(SOLARISE_ADD(grey(100), low)) == (119, 119, 119)
    assert at(SOLARISE_ADD(grey(250), low)) == (0, 0, 0)
    assert np.ptp(np.asarray(CONTRAST(image, low))[..., 0]) == pytest.approx(0.7 * 223, abs=2)
    assert np.asarray(COLOUR(image, low)).std(-1).mean() < np.asarray(image).std(-1).mean()
    assert np.asarray(AUTOCONTRAST(image, low)).max() == 255
    assert np.asarray(EQUALISE(image, low)).shape == (224, 224, 3)
    assert np.asarray(SHARPNESS(image, low)).shape == (224, 224, 3)


def test_a_small_place_is_covered() -> None:
    covered = (np.asarray(CUTOUT(grey(0), lambda: 0.5)) != 0).any(-1)
    assert covered.sum() == pytest.approx(14 * 14, abs=30)
    assert covered[112, 112]


def test_images_stay_whole(image: Image.Image) -> None:
    """Two changes that change nothing leave the plain image, squeezed into the square."""
    wide = image.resize((448, 100))
    plain = PixelSpec(32).normalise(wide.resize((32, 32), Image.Resampling.BICUBIC))
    nothing = [seed for seed in range(300) if torch.allclose(RandAugment(PixelSpec(32))(wide, seed), plain, atol=0.1)]
    assert nothing  # two sharpenings or stretched contrasts hardly show


def test_a_seed_decides_the_view(tiny: Backbone, image: Image.Image) -> None:
    view = RandAugment(tiny.pixels)
    assert view(image, 7).shape == (3, 32, 32)
    assert torch.equal(view(image, 7), view(image, 7))
    assert len({view(image, seed).sum().item() for seed in range(20)}) > 10
    torch.manual_seed(7)
    first = view(image)
    torch.manual_seed(7)
    assert torch.equal(view(image), first)


def test_mild_views_keep_tones_in_order() -> None:
    """However drawn, a brighter image stays brighter under the mild changes; inverting is not among them."""
    dark, bright = grey(90), grey(160)
    for seed in range(60):
        view = RandAugment(PixelSpec(32), mild=True)
        assert view(bright, seed)[:, 16, 16].mean() >= view(dark, seed)[:, 16, 16].mean()
    harsh = [RandAugment(PixelSpec(32)) for _ in repeat(None, 60)]
    assert any(
        view(bright, seed)[:, 16, 16].mean() < view(dark, seed)[:, 16, 16].mean() for seed, view in enumerate(harsh)
    )
