"""The background by clusters of self-attention; masks made smaller, images as squares, attention in little memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from engines.diffusion.attention import Recorded
from engines.diffusion.background import coverage, find_background, shrink_mask
from engines.diffusion.means import AttentionMeans
from engines.diffusion.pictures import square_mask, square_pixels
from engines.errors import ConfigError, DataError


def parts(side: int = 8) -> torch.Tensor:
    """Number of the part that a place belongs to: an object at the upper left, one at the lower right, the rest."""
    found = torch.zeros(side, side, dtype=torch.long)
    found[: side // 2, : side // 2] = 1
    found[side // 2 :, side // 2 :] = 2
    return found


def looking_at_itself(belonging: torch.Tensor) -> torch.Tensor:
    same = (belonging.flatten()[:, None] == belonging.flatten()[None]).float()
    return same / same.sum(dim=1, keepdim=True)


def heat_of(belonging: torch.Tensor, *numbers: int) -> torch.Tensor:
    small = belonging[::2, ::2]
    return torch.stack([(small == number).float() * 0.3 + 0.001 for number in numbers])


def test_what_no_word_looks_at_is_background() -> None:
    belonging = parts()
    found = find_background(looking_at_itself(belonging), heat_of(belonging, 1, 2), clusters=3)
    assert sorted(found.owners, key=str) == [0, 1, None]
    assert found.mask is not None
    assert torch.equal(found.mask, belonging == 0)
    only_one = find_background(looking_at_itself(belonging), heat_of(belonging, 1), clusters=3)
    assert only_one.mask is not None
    assert torch.equal(only_one.mask, belonging != 1)


def test_no_background_where_words_look_everywhere() -> None:
    belonging = parts()
    found = find_background(looking_at_itself(belonging), heat_of(belonging, 0, 1, 2), clusters=3)
    assert found.mask is None


def test_a_flat_image_has_one_cluster() -> None:
    flat = torch.full((64, 64), 1 / 64)
    nobody = find_background(flat, torch.zeros(1, 4, 4))
    assert nobody.mask is not None
    assert bool(nobody.mask.all())
    assert find_background(flat, torch.ones(1, 4, 4)).mask is not None  # a map without contrast shows nothing


def test_shrinking_covers_what_is_more_than_half_covered() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:4, :3] = True
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[:2, 0] = True  # the second column of cells is half covered: not more
    assert torch.equal(shrink_mask(mask, 4), expected)
    assert bool((shrink_mask(mask, 4, official=True) & ~expected).any())


def test_small_things_do_not_vanish() -> None:
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, 10, 10] = True
    assert float(coverage(mask, 16).sum()) == pytest.approx(1 / 16)


@pytest.mark.parametrize(
    ("size", "mode"), [((1, 1), "RGB"), ((20_000, 20), "RGB"), ((7, 90), "L"), ((20, 20_000), "L")]
)
def test_images_that_cannot_be_a_square_are_told(size: tuple[int, int], mode: str) -> None:
    with pytest.raises(DataError, match=f"{size[0]} x {size[1]}"):
        square_pixels(Image.new(mode, size), 32)


def test_the_middle_of_an_image_of_any_kind() -> None:
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste((0, 0, 255), (20, 0, 40, 20))
    pixels = square_pixels(wide, 16)
    assert pixels.shape == (1, 3, 16, 16)
    torch.testing.assert_close(pixels, torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16))
    deep = Image.fromarray(np.linspace(0, 4000, 32 * 32).astype(np.uint16).reshape(32, 32))
    assert deep.mode.startswith("I")
    stretched = square_pixels(deep, 32)
    assert float(stretched.min()) < 0.05
    assert float(stretched.max()) > 0.95


def test_masks_are_cut_like_the_image() -> None:
    mask = torch.zeros(20, 60)
    mask[:, 20:30] = 255
    found = square_mask(mask, 16)
    assert torch.equal(found[:, :8], torch.ones(16, 8, dtype=torch.bool))
    assert not found[:, 8:].any()
    outside = torch.zeros(20, 60)
    outside[:, :10] = 1
    for empty in (outside, torch.zeros(5, 5)):
        with pytest.raises(ConfigError, match="empty"):
            square_mask(empty, 16)


def test_means_are_those_of_all_calls() -> None:
    means, generator = AttentionMeans(), torch.Generator().manual_seed(0)
    calls = [torch.rand(2, 2, 16, 5, generator=generator) for _ in range(3)]
    for call in calls:
        means.add([Recorded(name, "cross", 4, one) for name, one in zip("ab", call, strict=True)])
        means.add([Recorded("c", "self", 4, call[0] * 2)])
    torch.testing.assert_close(means.mean("cross", 4, "b"), torch.stack(calls)[:, 1, -1].mean(dim=0))
    torch.testing.assert_close(means.mean("cross", 4), torch.stack(calls)[:, :, -1].mean(dim=(0, 1)))
    torch.testing.assert_close(means.mean("self", 4), 2 * torch.stack(calls)[:, 0, -1].mean(dim=0))
    with pytest.raises(KeyError, match="at 8"):
        means.mean("cross", 8)
    again = AttentionMeans.from_tensors(means.tensors())
    torch.testing.assert_close(again.mean("cross", 4, "a"), means.mean("cross", 4, "a"))
    again.add([Recorded("a", "cross", 4, torch.zeros(1, 16, 5))])
    torch.testing.assert_close(again.mean("cross", 4, "a"), means.mean("cross", 4, "a") * 3 / 4)


def test_stable_diffusion_at_512_pixels_stays_below_200_megabytes() -> None:
    """Five layers of self- and cross-attention at each of 32 and 16, as many steps as one likes."""
    means = AttentionMeans()
    for _ in range(3):
        for side in (32, 16):
            for layer in range(5):
                means.add([Recorded(f"{layer}.attn2", "cross", side, torch.zeros(1, side**2, 77))])
                means.add([Recorded(f"{layer}.attn1", "self", side, torch.zeros(1, side**2, side**2))])
    assert means.nbytes < 10e6
