"""Guidance and identity keep the paper's balance with small models, whose features are spread wider."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.enhance.guidance import LatentPair, RaveDirection
from engines.enhance.losses import Identity
from tests.parity import parity_weights


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.from_state_dict(parity_weights.tiny_clip_state_dict())


def photos(count: int = 5) -> Tensor:
    noise = torch.rand(count, 3, 40, 40, generator=torch.Generator().manual_seed(count))
    return (noise * 100).to(torch.uint8)


def test_a_stand_in_is_scaled(backbone: Backbone) -> None:
    """A photo twice as bright costs one half, whatever the model's numbers are."""
    identity, some = Identity(backbone), photos()
    pixels = some / 255
    before = identity.distances(2 * pixels, pixels)
    identity.calibrate(some)
    after = identity.distances(2 * pixels, pixels)
    assert float(after.mean()) == pytest.approx(0.5, rel=1e-4)
    assert torch.allclose(after / before, (after / before)[:1].expand(5))
    identity.calibrate(some)  # a second time changes nothing
    assert torch.allclose(identity.distances(2 * pixels, pixels), after)
    identity.calibrate(torch.zeros_like(some))  # black stays black at any brightness
    assert identity.scale == 1


def test_the_published_tower_is_left_alone() -> None:
    import open_clip

    vision = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 16, "image_size": 32, "patch_size": None}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    torch.manual_seed(0)
    model = open_clip.CLIP(64, vision, text).eval()
    tokenizer = open_clip.get_tokenizer("RN50")
    identity = Identity(Backbone.from_open_clip(model, tokenizer, open_clip.image_transform(32, is_train=False)))
    assert "as in the paper" in identity.label
    identity.calibrate(photos())
    assert identity.scale == 1


def test_rave_weighs_no_more_than_a_prompt_pair() -> None:
    """Close features get the published 1920; wide ones so much that backlit photos cost 320."""
    draw = torch.Generator().manual_seed(0)
    middle, low, high = torch.randn(3, 64, generator=draw)

    def around(centre: Tensor, spread: float) -> Tensor:
        return F.normalize(middle + spread * (centre + 0.3 * torch.randn(20, 64, generator=draw)), dim=-1)

    close = RaveDirection(around(low, 0.1), around(high, 0.1))
    assert close.factor == 1920
    backlit = around(low, 3)
    wide = RaveDirection(backlit, around(high, 3))
    assert wide.factor < 1920
    assert wide.factor * float(wide.loss(backlit)) == pytest.approx(320, rel=1e-4)
    assert LatentPair(64).factor == 320
