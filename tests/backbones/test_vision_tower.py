"""Visual prompts: where they stand, what they never touch, and which image towers cannot carry them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from engines.backbones import Backbone
from tests.backbones.conftest import TIMM, Fails, model_settings, random_model, wrap


def pixels(backbone: Backbone, n: int = 2) -> Tensor:
    size = backbone.image_size
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


PLAIN_VITS = {
    "class token": model_settings(quick_gelu=True),
    "average": model_settings({"pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True}),
    "timm, class token": {**model_settings(), "vision_cfg": TIMM},
    "timm, average": {**model_settings(), "vision_cfg": TIMM | {"timm_pool": "avg"}},
    "timm, attention pool": {
        **model_settings(),
        "vision_cfg": TIMM | {"timm_model_name": "test_vit3", "timm_pool": "map"},
    },
}


@pytest.fixture(scope="module", params=PLAIN_VITS.values(), ids=PLAIN_VITS.keys())
def vit(request: pytest.FixtureRequest) -> Backbone:
    return wrap(random_model(request.param))


class TestPlainVisionTransformers:
    def test_without_prompts_it_is_the_model(self, vit: Backbone) -> None:
        images = pixels(vit)
        expected = vit.model.encode_image(images)
        torch.testing.assert_close(vit.encode_image(images), expected)
        features, tokens = vit.vision.encode(images, return_tokens=True)
        torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
        assert tokens.shape[0] == 2
        assert tokens.shape[2] == vit.vision_width
        assert vit.supports.vision_prompts
        assert vit.supports.patch_tokens

    def test_prompts_change_the_feature_and_get_gradients(self, vit: Backbone) -> None:
        images, prompts = pixels(vit), draw(3, vit.vision_width)
        deep = [draw(3, vit.vision_width, seed=2)]
        features = vit.vision.encode(images, prompts, deep)
        assert (features - vit.encode_image(images)).abs().max() > 1e-3
        for gradient in torch.autograd.grad(features.square().sum(), [prompts, *deep]):
            assert gradient.abs().max() > 0

    def test_prompts_are_not_among_the_patch_tokens(self, vit: Backbone) -> None:
        images = pixels(vit)
        _, plain = vit.vision.encode(images, return_tokens=True)
        _, prompted = vit.vision.encode(images, draw(5, vit.vision_width), return_tokens=True)
        assert plain.shape == prompted.shape

    def test_one_prompt_for_each_image(self, vit: Backbone) -> None:
        images, prompts = pixels(vit), draw(2, 3, vit.vision_width)
        together = vit.vision.encode(images, prompts)
        alone = [vit.vision.encode(images[i : i + 1], prompts[i]) for i in range(2)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)

    def test_deeper_than_the_tower(self, vit: Backbone, fails: Fails) -> None:
        deep = [draw(3, vit.vision_width)] * vit.vision.depth
        assert "exceeds" in fails(vit.vision.encode, pixels(vit), draw(3, vit.vision_width), deep)
        fails(vit.vision.encode, pixels(vit), None, deep[:1])


def test_prompts_against_the_steps_written_out(tiny: Backbone) -> None:
    """The recipe of the multimodal prompt papers, word for word, on open_clip's own modules."""
    visual: Any = tiny.model.visual
    images, prompts, inner = pixels(tiny), draw(2, 128), draw(2, 128, seed=3)
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(2, 1, -1), patches], dim=1) + visual.positional_embedding
    x = visual.ln_pre(torch.cat([x, prompts.expand(2, -1, -1)], dim=1))
    x = visual.transformer.resblocks[0](x)
    x = visual.transformer.resblocks[1](torch.cat([x[:, :-2], inner.expand(2, -1, -1)], dim=1))
    x = visual.transformer.resblocks[2](x)
    expected = visual.ln_post(x[:, 0]) @ visual.proj
    torch.testing.assert_close(tiny.vision.encode(images, prompts, [inner]), expected, rtol=1e-5, atol=1e-5)


def test_average_of_projected_patches_is_the_pooled_feature() -> None:
    backbone = wrap(random_model(model_settings({"pool_type": "avg"})))
    features, tokens = backbone.vision.encode(pixels(backbone), return_tokens=True)
    projected = backbone.vision.project(tokens)
    torch.testing.assert_close(projected.mean(1), features, rtol=1e-4, atol=1e-5)


OTHERS = {
    "ResNet": (model_settings({"layers": [1, 1, 1, 1], "width": 8, "patch_size": None, "head_width": 8}), "ResNet"),
    "attention pooling": (model_settings({"attentional_pool": True, "attn_pooler_heads": 2}), "attention pooling"),
    "timm ResNet": ({**model_settings(), "vision_cfg": TIMM | {"timm_model_name": "test_resnet"}}, "ResNet"),
    "timm ViT with relative positions": (
        {**model_settings(), "vision_cfg": TIMM | {"timm_model_name": "test_vit_relpos", "timm_pool": "avg"}},
        "RelPos",
    ),
}


@pytest.mark.parametrize(("settings", "word"), OTHERS.values(), ids=OTHERS.keys())
def test_towers_that_carry_no_prompts(settings: dict[str, Any], word: str, fails: Fails) -> None:
    if settings["vision_cfg"].get("timm_model_name") == "test_resnet":
        settings = {**settings, "vision_cfg": settings["vision_cfg"] | {"timm_pool": "avg"}}
    backbone = wrap(random_model(settings))
    images = pixels(backbone)
    features = backbone.encode_image(images)
    assert features.shape == (2, backbone.embed_dim)
    assert features.isfinite().all()
    assert not backbone.supports.vision_prompts
    assert word in backbone.supports.reason["vision_prompts"]
    assert word in fails(backbone.vision.encode, images, draw(3, backbone.vision_width))
    assert word in fails(backbone.vision.encode, images, return_tokens=True)
    fails(backbone.vision.project, torch.zeros(1, 4, backbone.vision_width))


def test_gradients_reach_the_pixels(tiny: Backbone) -> None:
    images = pixels(tiny).requires_grad_()
    (gradient,) = torch.autograd.grad(tiny.encode_image(images).square().sum(), images)
    assert gradient.abs().max() > 0
