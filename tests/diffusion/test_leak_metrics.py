"""Leakage, IoU and pointing against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.diffusion.leak_metrics import attention_iou, leak_shares, points_at
from engines.errors import ConfigError


def square(top: int, bottom: int, left: int, right: int, side: int = 8) -> Tensor:
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


HEAT = torch.tensor([[4.0, 2.0], [3.0, 1.0]])
"""Each cell stands for 4 x 4 pixels of the masks."""
UPPER_LEFT, LEFT, LOWER = square(0, 4, 0, 4), square(0, 8, 0, 4), square(4, 8, 0, 8)


def test_shares_of_objects_and_background() -> None:
    shares = leak_shares(HEAT, [UPPER_LEFT, LOWER], own=0)
    assert [shares.own, *shares.others, shares.background] == pytest.approx([0.4, 0.4, 0.2])
    assert shares.leaked == pytest.approx(0.6)
    assert leak_shares(HEAT, [UPPER_LEFT, LOWER], own=1).others == pytest.approx((0.4,))


def test_a_pixel_of_several_masks_counts_once() -> None:
    """The lower left cell is the own object's; of others the first has it."""
    assert leak_shares(HEAT, [LOWER, LEFT], own=1).others == pytest.approx((0.1,))
    shares = leak_shares(HEAT, [UPPER_LEFT, LEFT, LOWER], own=0)
    assert shares.others == pytest.approx((0.3, 0.1))
    assert shares.background == pytest.approx(0.2)


def test_a_cell_that_is_half_covered_counts_half() -> None:
    shares = leak_shares(HEAT, [square(0, 2, 0, 4)], own=0)
    assert [shares.own, *shares.others, shares.background] == pytest.approx([0.2, 0.8])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([3, 4, 7]))
def test_shares_sum_to_one(seed: int, count: int, side: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    heat, masks = torch.rand(side, side, generator=generator), torch.rand(count, 12, 12, generator=generator) > 0.6
    shares = leak_shares(heat, list(masks), own=count - 1)
    assert shares.own + shares.leaked == pytest.approx(1, abs=1e-5)
    assert min(shares.own, shares.background, *shares.others) >= 0


def test_iou_by_hand() -> None:
    """A map of the mask's own size: above 0.3 of the maximum are 9 cells, 6 of them in a mask of 8."""
    heat = torch.zeros(8, 8)
    heat[0, :8], heat[1, 0], heat[7, 7] = 1.0, 0.31, 0.3
    mask = square(0, 2, 2, 6)
    mask[0, 6] = mask[0, 7] = True
    mask[1, 2:4] = False
    assert attention_iou(heat, mask) == pytest.approx(6 / (9 + 8 - 6))
    assert attention_iou(heat, mask, threshold=0.5) == pytest.approx(6 / (8 + 8 - 6))
    assert attention_iou(7 * heat, mask) == attention_iou(heat, mask)


def test_iou_of_a_coarse_map() -> None:
    """Scaled bilinearly: four columns 1, 0.75, 0.25, 0 between the centres of two cells."""
    heat = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    left = square(0, 4, 0, 2, side=4)
    assert attention_iou(heat, left) == 1
    assert attention_iou(heat, left, threshold=0.2) == pytest.approx(2 / 3)


def test_pointing() -> None:
    assert points_at(HEAT, UPPER_LEFT)
    assert not points_at(HEAT, LOWER)
    assert points_at(HEAT, square(0, 2, 0, 4))
    assert not points_at(HEAT, square(0, 2, 0, 3))


def test_what_cannot_be_measured_is_told() -> None:
    nothing = torch.zeros(8, 8, dtype=torch.bool)
    for heat in (torch.zeros(2, 2), torch.full((2, 2), float("nan"))):
        with pytest.raises(ConfigError, match="map is empty"):
            leak_shares(heat, [LEFT], 0)
        with pytest.raises(ConfigError, match="map is empty"):
            points_at(heat, LEFT)
    with pytest.raises(ConfigError, match="mask is empty"):
        attention_iou(HEAT, nothing)
    with pytest.raises(ConfigError, match="mask is empty"):
        points_at(HEAT, nothing)
    with pytest.raises(ConfigError, match="no threshold"):
        attention_iou(HEAT, LEFT, threshold=1)
    with pytest.raises(ConfigError, match="none with number 1"):
        leak_shares(HEAT, [LEFT], own=1)
    with pytest.raises(ConfigError, match="different sizes"):
        leak_shares(HEAT, [LEFT, square(0, 2, 0, 2, side=4)], own=0)
