"""CTP + TFT: what must hold, since there is no official code to compare with."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engines.backbones import Backbone
from engines.errors import ConfigError
from engines.prompts import create_method
from engines.prompts.ctp_tft import CTPTFT
from tests.parity import parity_weights

CLASSES = parity_weights.CLASSES


def made(tiny: Backbone, moved: bool = False, **settings: Any) -> CTPTFT:
    torch.manual_seed(0)
    method = create_method("ctp-tft", tiny, CLASSES, **settings)
    assert isinstance(method, CTPTFT)
    if moved:
        for parameter in method.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return method


@pytest.mark.parametrize("tune", [True, False])
def test_it_begins_as_the_ready_made_prompt(tiny: Backbone, tune: bool) -> None:
    method, pixels = made(tiny, tune_images=tune), parity_weights.images()
    plain = create_method("zero-shot", tiny, CLASSES).logits(pixels)
    torch.testing.assert_close(method.logits(pixels), plain, atol=1e-4, rtol=1e-5)


def test_with_the_whole_image_its_words_are_cocoops(tiny: Backbone) -> None:
    method = made(tiny, moved=True)
    cocoop = create_method("cocoop", tiny, CLASSES, n_ctx=4, ctx_init="a photo of a")
    cocoop.load_state_dict(
        {
            "ctx": method.ctx.detach(),
            "meta_net.linear1.weight": method.to_words[0].weight.detach(),
            "meta_net.linear1.bias": method.to_words[0].bias.detach(),
            "meta_net.linear2.weight": method.to_words[2].weight.detach(),
            "meta_net.linear2.bias": method.to_words[2].bias.detach(),
        }
    )
    images, _ = method.look(parity_weights.images())
    seen = images[:, None].expand(-1, len(CLASSES), -1)
    torch.testing.assert_close(method.class_texts(seen), cocoop.conditional_text_features(images), atol=1e-5, rtol=1e-5)


def test_classes_are_treated_alike(tiny: Backbone) -> None:
    """Another order of the classes gives the same answers in that order: nothing knows which class is the true one."""
    method, pixels = made(tiny, moved=True), parity_weights.images()
    order = [3, 0, 4, 1, 2]
    other = method.for_classes([CLASSES[c] for c in order])
    torch.testing.assert_close(other.logits(pixels), method.logits(pixels)[:, order], atol=1e-4, rtol=1e-4)


def test_words_pick_from_the_image_as_the_formula_says(tiny: Backbone) -> None:
    """g = unit(f + W_o softmax(W_q T (W_k V)^T / sqrt D) W_v V), image by image and class by class."""
    method = made(tiny, moved=True)
    for layer in (method.query, method.key, method.value, method.out):
        torch.nn.init.normal_(layer.weight, std=0.5)  # large enough that the softmax is far from even
    images, patches = method.look(parity_weights.images())
    texts = torch.nn.functional.normalize(torch.randn(8, 5, tiny.embed_dim), dim=-1)
    q, k, v, o = (layer.weight for layer in (method.query, method.key, method.value, method.out))
    tuned = method.tuned_images(images, patches, texts)
    for b in range(8):
        for c in range(5):
            picked = ((patches[b] @ k.T) @ (q @ texts[b, c]) / tiny.embed_dim**0.5).softmax(dim=0)
            moved = images[b] + o @ (picked @ (patches[b] @ v.T))
            torch.testing.assert_close(tuned[b, c], moved / moved.norm(), atol=1e-5, rtol=1e-4)


def test_words_begin_by_picking_what_resembles_them(tiny: Backbone) -> None:
    """W_q, W_k and W_v begin as identity, so that the first corrections of W_o have something to go by."""
    method = made(tiny)
    for layer in (method.query, method.key, method.value):
        assert torch.equal(layer.weight, torch.eye(tiny.embed_dim))


def test_where_a_class_looks_is_a_map(tiny: Backbone) -> None:
    method = made(tiny)
    _, patches = method.look(parity_weights.images())
    looks = method.attention(patches)
    assert looks.shape == (8, 5, patches.shape[1])
    torch.testing.assert_close(looks.sum(dim=-1), torch.ones(8, 5))
    uniform = made(tiny, sharpness=1e-6).attention(patches)
    torch.testing.assert_close(uniform, torch.full_like(uniform, 1 / patches.shape[1]), atol=1e-5, rtol=0)


def test_parts_of_a_batch_add_up(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = parity_weights.images(), parity_weights.labels()
    gradients = []
    for at_once in (8, 3):
        monkeypatch.setattr(type(tiny.text), "groups_at_once", lambda self, layout, n=at_once: n)
        method = made(tiny, moved=True)
        loss = method.backward(pixels, labels)
        torch.testing.assert_close(loss, method.loss(pixels, labels).detach())
        gradients.append([p.grad.clone() for p in method.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_it_learns_and_words_guide_the_images(tiny: Backbone) -> None:
    pixels, labels = parity_weights.images(), parity_weights.labels()
    last = {}
    for tune in (False, True):
        method = made(tiny, tune_images=tune)
        optimizer = torch.optim.SGD(method.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
        for _ in range(25):
            optimizer.zero_grad()
            last[tune] = method.backward(pixels, labels).item()
            optimizer.step()
    assert last[True] < last[False] < 1.9


def test_it_needs_the_images_themselves(tiny: Backbone) -> None:
    with pytest.raises(ConfigError, match="needs the images themselves"):
        made(tiny).logits(features=torch.randn(2, tiny.embed_dim))
