"""Decoupled attention: what must hold exactly, since there is no official code to compare with."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.prompts import create_method
from engines.prompts.dpl_decoupled import DPLDecoupled
from tests.parity import parity_weights

CLASSES = parity_weights.CLASSES


def made(tiny: Backbone, **settings: Any) -> DPLDecoupled:
    torch.manual_seed(0)
    method = create_method("dpl-decoupled", tiny, CLASSES, **settings)
    assert isinstance(method, DPLDecoupled)
    return method


def test_exact_mode_is_ordinary_prompting_of_images(tiny: Backbone) -> None:
    method, pixels = made(tiny, mode="exact"), parity_weights.images()
    vision = tiny.vision
    x = vision.embed(pixels)
    own, p = x.shape[1], torch.zeros(1, 4, x.shape[2])
    for block, q in zip(vision.blocks, method.image, strict=True):
        x = block(torch.cat([x[:, :own], (p + q).expand(len(x), -1, -1)], dim=1))
        p = x[:, own:]
    torch.testing.assert_close(
        method.image_features(pixels), F.normalize(vision.pool(x[:, :own]), dim=-1), atol=1e-5, rtol=1e-5
    )


def test_exact_mode_is_ordinary_prompting_of_sentences(tiny: Backbone) -> None:
    """Every row of a sentence sees the prompts and the rows before it; prompts see all rows up to the end."""
    method = made(tiny, mode="exact")
    x, mask = method.tower.enter(method.rows)
    assert mask is not None
    n, length, m = len(x), x.shape[1], 4
    whole = torch.zeros(n, length + m, length + m)
    whole[:, :length, :length] = mask
    beyond = torch.arange(length) > method.eot[:, None]
    whole[:, length:, :length] = torch.where(beyond, float("-inf"), 0.0)[:, None]
    heads = method.tower.blocks[0].attn.num_heads
    p = torch.zeros(1, m, x.shape[2])
    for block, q in zip(method.tower.blocks, method.text, strict=True):
        together = torch.cat([x, (p + q).expand(n, -1, -1)], dim=1)
        together = block(together, attn_mask=whole.repeat_interleave(heads, dim=0))
        x, p = together[:, :length], together[:, length:]
    expected = F.normalize(method.tower.leave(x, method.eot), dim=-1)
    torch.testing.assert_close(method.text_features(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"per_head": True}, {"prompts_see_inputs": True}])
def test_without_weight_both_towers_are_the_untouched_model(tiny: Backbone, settings: dict[str, Any]) -> None:
    method, pixels = made(tiny, gain=0.0, **settings), parity_weights.images()
    plain = create_method("zero-shot", tiny, CLASSES)
    torch.testing.assert_close(method.image_features(pixels), plain.image_features(pixels), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(method.text_features(), plain.text_features(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        method.for_classes(["lung"]).text_features(), create_method("zero-shot", tiny, ["lung"]).text_features()
    )


@pytest.mark.parametrize(
    "settings", [{}, {"mode": "exact"}, {"per_head": True, "weaken_inputs": True}, {"prompts_see_inputs": True}]
)
def test_it_learns(tiny: Backbone, settings: dict[str, Any]) -> None:
    method = made(tiny, **settings)
    pixels, labels = parity_weights.images(), parity_weights.labels()
    optimizer = torch.optim.SGD(method.parameter_groups(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(method.backward(pixels, labels).item())
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    assert all(later < earlier + 0.5 for earlier, later in pairwise(losses))


def test_prompts_do_not_depend_on_the_image(tiny: Backbone) -> None:
    """So that they can be computed once: an image's feature is the same alone and among others."""
    method, pixels = made(tiny), parity_weights.images()
    torch.testing.assert_close(
        method.image_features(pixels[:1]), method.image_features(pixels)[:1], atol=1e-6, rtol=1e-5
    )


def test_weights_are_not_pulled_to_nothing(tiny: Backbone) -> None:
    method = made(tiny)
    learned, gains = method.parameter_groups()
    assert gains["weight_decay"] == 0.0
    assert {id(p) for g in (learned, gains) for p in g["params"]} == {id(p) for p in method.parameters()}
