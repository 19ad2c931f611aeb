"""Background errors by hand, similarity of windows, CLIP scores and structure against step-by-step computations."""

from __future__ import annotations

import math

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torch.nn import functional as F

from engines.backbones.backbone import Backbone
from engines.diffusion.image_metrics import background_kept, clip_scores, structure_distance
from engines.errors import BackboneError, ConfigError
from tests.backbones.conftest import TIMM, model_settings, random_model, wrap
from tests.parity import parity_weights


def picture(seed: int, side: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_errors_outside_the_mask_by_hand() -> None:
    """Twelve of sixteen pixels are outside; one of them differs by 0.5 in one of three colours."""
    before, mask = torch.full((3, 4, 4), 0.25), torch.zeros(4, 4, dtype=torch.bool)
    mask[:2, :2] = True
    after = before.clone()
    after[:, mask] = 1.0
    after[1, 3, 3] = 0.75
    kept = background_kept(before, after, mask)
    assert kept.mse == pytest.approx(0.25 / (12 * 3))
    assert kept.psnr == pytest.approx(10 * math.log10(12 * 3 / 0.25))
    assert kept.ssim is None  # no window fits
    everywhere = background_kept(before, after, torch.zeros(4, 4))
    assert everywhere.mse == pytest.approx((4 * 3 * 0.75**2 + 0.25) / (16 * 3))


def test_nothing_outside_changed() -> None:
    before = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    after, mask = before.clone(), torch.zeros(40, 40, dtype=torch.bool)
    mask[:12, :12] = True
    after[:, mask] = 0
    kept = background_kept(before, after, mask)
    assert (kept.mse, kept.psnr) == (0, math.inf)
    assert kept.ssim == pytest.approx(1)


def test_similarity_of_flat_images_by_hand() -> None:
    """Without contrast only the means count: (2 m n + c) / (m² + n² + c), c = 0.01²."""
    kept = background_kept(torch.full((3, 32, 32), 0.2), torch.full((3, 32, 32), 0.6), torch.zeros(32, 32))
    assert kept.ssim == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4), abs=1e-6)


def test_windows_that_touch_the_mask_do_not_count() -> None:
    generator = torch.Generator().manual_seed(1)
    before, mask = torch.rand(3, 40, 40, generator=generator), torch.zeros(40, 40, dtype=torch.bool)
    mask[16:24, 16:24] = True
    after = (before + 0.1 * torch.rand(3, 40, 40, generator=generator)).clamp(0, 1)
    changed = after.clone()
    changed[:, mask] = 0
    first, second = background_kept(before, after, mask), background_kept(before, changed, mask)
    assert first == second
    assert first.ssim is not None
    assert 0 < first.ssim < 1
    mask[::11, ::11] = True  # a hole in every window
    assert background_kept(before, after, mask).ssim is None


def test_without_a_mask_it_is_the_usual_similarity() -> None:
    one, other = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(3))
    usual = structural_similarity(
        one.numpy(), other.numpy(), data_range=1, channel_axis=0, gaussian_weights=True, use_sample_covariance=False
    )
    assert background_kept(one, other, torch.zeros(24, 24)).ssim == pytest.approx(float(usual), abs=1e-5)


def test_what_cannot_be_compared_is_told() -> None:
    image = torch.zeros(3, 8, 8)
    with pytest.raises(ConfigError, match="whole image"):
        background_kept(image, image, torch.ones(8, 8))
    for other, mask in ((torch.zeros(3, 8, 9), torch.zeros(8, 8)), (image, torch.zeros(4, 4))):
        with pytest.raises(ConfigError, match="different sizes"):
            background_kept(image, other, mask)


@pytest.fixture(scope="module")
def clip() -> Backbone:
    return Backbone.from_state_dict(parity_weights.tiny_clip_state_dict(), "tiny")


def test_clip_scores(clip: Backbone) -> None:
    images, captions = [picture(0), picture(1)], ["a cat", "a dog"]
    found = clip_scores(clip, images, captions)
    for score, image, caption in zip(found, images, captions, strict=True):
        seen = clip.encode_image(clip.preprocess(image)[None])[0].numpy()
        read = clip.encode_text([caption])[0].numpy()
        assert score == pytest.approx(100 * seen @ read / np.linalg.norm(seen) / np.linalg.norm(read), abs=1e-3)
    assert clip_scores(clip, [], []) == []
    with pytest.raises(ConfigError, match="1 images and 2 captions"):
        clip_scores(clip, images[:1], captions)


def test_structure_is_compared_by_the_keys_of_the_last_block(clip: Backbone) -> None:
    images = [picture(0), picture(1)]
    pixels = torch.stack([clip.preprocess(image) for image in images])
    block = clip.vision.blocks[-1]
    weight, bias = block.attn.in_proj_weight.chunk(3)[1], block.attn.in_proj_bias.chunk(3)[1]
    entering = clip.vision.hidden_states(pixels)[-2]
    keys = F.linear(block.ln_1(entering), weight, bias)
    first, second = (F.cosine_similarity(one[:, None], one[None], dim=-1) for one in keys)
    found = structure_distance(clip, *images)
    assert found.value == pytest.approx(float((first - second).square().mean()), rel=1e-4)
    assert found.value > 1e-4
    assert "tiny" in found.seen_by
    assert "not DINO" in found.seen_by
    assert structure_distance(clip, images[0], images[0]).value == 0


def test_structure_by_another_kind_of_vit() -> None:
    backbone = wrap(random_model({**model_settings(custom_text=True), "vision_cfg": TIMM}))
    images = [picture(0), picture(1)]
    block, pixels = backbone.vision.blocks[-1], torch.stack([backbone.preprocess(image) for image in images])
    entering = block.norm1(backbone.vision.hidden_states(pixels)[-2])
    keys = F.linear(entering, block.attn.qkv.weight, block.attn.qkv.bias).chunk(3, dim=-1)[1]
    first, second = (F.cosine_similarity(one[:, None], one[None], dim=-1) for one in keys)
    expected = float((first - second).square().mean())
    assert structure_distance(backbone, *images).value == pytest.approx(expected, rel=1e-4)


def test_a_model_without_a_vit_is_told() -> None:
    settings = model_settings(vision={"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "image_size": 32})
    model = random_model(settings)
    backbone = Backbone.from_open_clip(
        model, open_clip.SimpleTokenizer(context_length=77), open_clip.image_transform(32, is_train=False)
    )
    with pytest.raises(BackboneError, match="cannot compare structure"):
        structure_distance(backbone, picture(0), picture(1))
