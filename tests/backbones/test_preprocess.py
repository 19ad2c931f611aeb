"""From images to pixels: the model's test transform and random training views."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from engines.backbones import Backbone


@pytest.fixture
def image() -> Image.Image:
    """Red grows from left to right, green from top to bottom."""
    y, x = np.mgrid[0:60, 0:90]
    return Image.fromarray(np.stack([x * 255 / 89, y * 255 / 59, 0 * x], -1).astype(np.uint8))


def colours(pixels: torch.Tensor, tiny: Backbone) -> torch.Tensor:
    """[3, H, W] in 0 to 1."""
    return pixels * torch.tensor(tiny.std)[:, None, None] + torch.tensor(tiny.mean)[:, None, None]


def test_test_transform_takes_the_middle(tiny: Backbone, image: Image.Image) -> None:
    seen = colours(tiny.preprocess(image), tiny)
    assert seen.shape == (3, 32, 32)
    assert seen[:, 16, 16].tolist() == pytest.approx([0.5, 0.5, 0], abs=0.03)
    assert seen[0, 16, 0] == pytest.approx(1 / 6, abs=0.03)
    assert seen[1, 0, 16] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_image_becomes_three_channels(tiny: Backbone, image: Image.Image, mode: str) -> None:
    converted = image.convert(mode)
    assert tiny.preprocess(converted).shape == (3, 32, 32)
    assert tiny.train_transform()(converted).shape == (3, 32, 32)


def test_views_show_the_share_of_the_image_that_was_asked_for(tiny: Backbone, image: Image.Image) -> None:
    transform = tiny.train_transform(crop_scale=(0.3, 0.6), flip=False)
    shares = []
    for seed in range(200):
        seen = colours(transform(image, seed), tiny)
        shares.append(float((seen[0].max() - seen[0].min()) * (seen[1].max() - seen[1].min())))
        assert seen[0, 16, 31] > seen[0, 16, 0]
    assert 0.25 < min(shares) < 0.35
    assert 0.5 < max(shares) < 0.65
    assert np.mean(shares) == pytest.approx(0.45, abs=0.03)


def test_half_of_the_views_are_flipped(tiny: Backbone, image: Image.Image) -> None:
    transform = tiny.train_transform()
    flipped = [bool(view[0, 16, 31] < view[0, 16, 0]) for view in (transform(image, seed) for seed in range(200))]
    assert 70 < sum(flipped) < 130


def test_a_seed_decides_the_view_in_any_thread(tiny: Backbone, image: Image.Image) -> None:
    transform = tiny.train_transform()
    alone = [transform(image, seed) for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: transform(image, seed), range(20)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not torch.equal(alone[0], alone[1])


def test_without_a_seed_torchs_generator_decides(tiny: Backbone, image: Image.Image) -> None:
    transform = tiny.train_transform()
    torch.manual_seed(3)
    first, second = transform(image), transform(image)
    torch.manual_seed(3)
    assert torch.equal(transform(image), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("size", [(1, 1), (1000, 2), (3, 500)])
def test_odd_shapes(tiny: Backbone, size: tuple[int, int]) -> None:
    for seed in range(20):
        assert tiny.train_transform()(Image.new("RGB", size), seed).shape == (3, 32, 32)
