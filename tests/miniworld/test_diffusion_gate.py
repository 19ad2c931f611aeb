"""The rules that judge generated pictures agree with the renderer; maps are judged as computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engines.miniworld.diffusion.check import look, shows
from engines.miniworld.diffusion.gate import coarse, evaluate, judge_map
from engines.miniworld.diffusion.model import assemble, build_autoencoder, build_text, build_unet
from engines.miniworld.diffusion.pictures import draw


@pytest.mark.parametrize(("things", "least"), [(1, 0.97), (2, 0.95)])
def test_the_rules_name_what_was_drawn(things: int, least: float) -> None:
    drawn = draw(77, 0, 120, things)
    wanted = [[(thing.colour, thing.shape) for thing in spec.things] for spec in drawn.specs]
    right = [shows(picture, pairs) for picture, pairs in zip(drawn.pixels, wanted, strict=True)]
    assert np.mean(right) >= least
    others = wanted[1:] + wanted[:1]
    wrong = [shows(p, o) for p, o, w in zip(drawn.pixels, others, wanted, strict=True) if sorted(o) != sorted(w)]
    assert np.mean(wrong) < 0.03


def test_what_is_seen_lies_where_it_was_drawn() -> None:
    drawn = draw(78, 0, 40, 1)
    for picture, masks in zip(drawn.pixels, drawn.masks, strict=True):
        seen = look(picture)[0].mask
        assert (seen & masks[0]).sum() / (seen | masks[0]).sum() > 0.6


@pytest.mark.parametrize("picture", ["grey", "noise", "black"])
def test_pictures_of_nothing_show_no_thing(picture: str) -> None:
    pixels = {
        "grey": np.full((64, 64, 3), 128, np.uint8),
        "noise": np.random.default_rng(0).integers(120, 136, (64, 64, 3), np.uint8),
        "black": np.zeros((64, 64, 3), np.uint8),
    }[picture]
    assert look(pixels) == []
    assert shows(pixels, [])


def test_maps_are_judged_as_by_hand() -> None:
    masks = torch.zeros(1, 3, 64, 64, dtype=torch.bool)
    masks[0, 0, :8, :8] = True  # four cells
    masks[0, 1, 32:40, 32:40] = True
    cells = coarse(masks)[0]
    heat = torch.zeros(16, 16)
    heat[0, 0], heat[0, 1], heat[8, 8], heat[15, 15] = 4.0, 2.0, 1.5, 0.5
    found = judge_map(heat, cells, 0)
    assert found["pointing"] == 1
    assert found["iou"] == pytest.approx(2 / 5)  # two of four own cells, and one beside them
    assert (found["on_own"], found["on_others"], found["on_background"]) == pytest.approx((0.75, 0.1875, 0.0625))
    assert found["own_area"] == pytest.approx(4 / 256)
    assert judge_map(heat, cells, 1)["pointing"] == 0


def test_an_untrained_model_fails_the_gate() -> None:
    torch.manual_seed(0)
    found = evaluate(assemble(build_autoencoder(), build_text().eval(), build_unet().eval()), count=2)
    assert found["passed"] is False
    assert found["right_pictures_1"] == 0
    assert found["on_own_2"] + found["on_others_2"] + found["on_background_2"] == pytest.approx(1, abs=1e-3)
