"""RESTORE against the official implementation, and the shift of features as the paper describes it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from engines.backbones import Backbone
from engines.prompts import create_method
from engines.prompts.restore import RESTORE, ShiftConsistency
from engines.prompts.shift import image_states, shift, text_states
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights
from tests.parity.checks import assert_close, check_training, fill_official, load_case

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "restore_d3_n2": ("restore", {"prompt_depth": 3, "text_ratio": 0.05, "image_ratio": 0.05}),
    "restore_d3_n2_moved": ("restore", {"prompt_depth": 3, "text_ratio": 0.15, "image_ratio": 0.1, "w": 0.5}),
    "restore_ivlp_d3_n2_moved": ("restore-ivlp", {"prompt_depth_text": 3, "prompt_depth_vision": 3}),
}
CASE_NAMES = [*CASES]


def prepared(backbone: Backbone, name: str) -> ShiftConsistency:
    method_name, settings = CASES[name]
    method = create_method(method_name, backbone, parity_weights.CLASSES, **settings)
    assert isinstance(method, ShiftConsistency)
    fill_official(method, keep=["prompt_learner.ctx"])
    method.remember_start()
    if name.endswith("moved"):
        move(method)
    return method


def move(method: ShiftConsistency) -> None:
    """Overwrite the inner prompts, as the official case does after its first forward pass."""
    learned = method.trainable_parameters()
    with torch.no_grad():
        for name, parameter in learned.items():
            official = method.official_name(name)
            if "compound_prompt" in official or "VPT_shallow" in official:
                parameter.copy_(torch.from_numpy(parity_weights.parameter(f"moved.{official}", parameter.shape)))


@pytest.mark.parametrize("name", CASE_NAMES)
def test_equals_official_restore(backbone: Backbone, name: str) -> None:
    case, method = load_case(name), prepared(backbone, name)
    pixels, labels = parity_weights.images(), parity_weights.labels()
    assert_close(method.reference_text, case, "gram_norms_init_text")
    assert_close(method.reference_image, case, "gram_norms_init_vision")
    assert_close(method.raw_image_features(pixels), case, "image_features_raw")
    assert_close(method.raw_text_features(), case, "text_features_raw")
    if isinstance(method, RESTORE):
        assert_close(
            method.visual_adapter(method.raw_image_features(pixels), method.image_ratio), case, "surgery_image"
        )
        assert_close(method.text_adapter(method.raw_text_features(), method.text_ratio), case, "surgery_text")
        assert_close(method.image_features(pixels), case, "image_features")
        assert_close(method.text_features(), case, "text_features")
    assert_close(method.logits(pixels), case, "logits")
    cross_entropy = torch.nn.functional.cross_entropy(method.logits(pixels), labels)
    first = [method.shift_loss(pixels).item(), cross_entropy.item()]
    np.testing.assert_allclose(first, [case["shift_loss"][0], case["cross_entropy"][0]], rtol=1e-4, atol=1e-6)
    check_training(method, case)
    text, image = method.gram_norms()
    np.testing.assert_allclose(text.detach(), case["gram_norms_text"][5], rtol=1e-4)
    np.testing.assert_allclose(image.detach(), case["gram_norms_vision"][5], rtol=1e-4)
    if isinstance(method, RESTORE):
        method.grow_ratios()
        np.testing.assert_allclose([method.text_ratio, method.image_ratio], case["ratio_before_after"][1], rtol=1e-5)
        assert_close(method.logits(pixels), case, "logits_after_update")


@pytest.mark.parametrize("name", CASE_NAMES)
def test_embedding_shift_of_both_towers(backbone: Backbone, name: str) -> None:
    case, method = load_case(name), prepared(backbone, name)
    pixels = parity_weights.images()
    images, free_images = image_states(backbone, pixels, method.image_prompts()), image_states(backbone, pixels)
    words, free_words = (
        text_states(backbone, method.layout, method.text_prompts()),
        text_states(backbone, method.layout),
    )
    assert_close(images.blocks, case, "image_block_cls")
    assert_close(words.blocks, case, "text_block_eot")
    assert_close(free_images.blocks, case, "free_image_block_cls")
    assert_close(free_words.blocks, case, "free_text_block_eot")
    assert_close(free_images.output, case, "free_image_features_raw")
    assert_close(free_words.output, case, "free_text_features_raw")
    for tower, found in (("image", shift(images, free_images)), ("text", shift(words, free_words))):
        assert_close(found.blocks, case, f"shift_{tower}_layer")
        assert_close(found.output, case, f"shift_{tower}_out")


def test_nothing_moves_without_prompts(backbone: Backbone) -> None:
    """`ctx` starts as the words it stands for, so the first block's text shift is nothing at the start."""
    method = create_method("restore", backbone, parity_weights.CLASSES, prompt_depth=3)
    assert isinstance(method, RESTORE)
    found = shift(text_states(backbone, method.layout, method.text_prompts()), method.free_text)
    assert found.blocks[0].abs().max() < 1e-5
    assert found.blocks[2].min() > 1e-3
    nothing = shift(method.free_text, method.free_text)
    assert nothing.output.abs().max() < 1e-6


def test_embedding_shift_is_reduced_by_training_on_it(backbone: Backbone) -> None:
    torch.manual_seed(0)
    settings = {"prompt_depth": 3, "shift": "embedding", "w": 10.0}
    method = create_method("restore", backbone, parity_weights.CLASSES, **settings)
    assert isinstance(method, RESTORE)
    fill_official(method, keep=["prompt_learner.ctx"])
    move(method)
    pixels, labels = parity_weights.images(), parity_weights.labels()
    before = method.shift_loss(pixels).item()
    optimizer = torch.optim.SGD(method.trainable_parameters().values(), lr=0.02, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        method.backward(pixels, labels)
        optimizer.step()
    assert method.shift_loss(pixels).item() < 0.5 * before


def test_ratios_grow_once_and_resume_keeps_the_start(backbone: Backbone, tmp_path: Any) -> None:
    pixels = parity_weights.images()
    examples = Examples(parity_weights.labels(), pixels=lambda indices, epoch: pixels[indices])
    torch.manual_seed(0)
    whole = create_method("restore", backbone, parity_weights.CLASSES, prompt_depth=3)
    cut = copy.deepcopy(whole)
    config = whole.training_defaults().model_copy(update={"epochs": 4})
    list(train(whole, examples, config, seed=1))
    assert whole.text_ratio > 0.1
    stopped = train(cut, examples, config, 1, tmp_path / "checkpoint.pt")
    next(stopped), next(stopped)
    torch.manual_seed(5)
    resumed = create_method("restore", backbone, parity_weights.CLASSES, prompt_depth=3)
    list(train(resumed, examples, config, 1, tmp_path / "checkpoint.pt"))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)


def test_ratios_of_a_checkpoint_are_taken_over(backbone: Backbone) -> None:
    method = create_method("restore", backbone, parity_weights.CLASSES, prompt_depth=3)
    ratios = {"text_cali_ratio": torch.tensor(0.31), "vis_cali_ratio": torch.tensor(0.12)}
    method.load_official(method.official_state_dict() | ratios)
    assert (float(method.text_ratio), float(method.image_ratio)) == (pytest.approx(0.31), pytest.approx(0.12))
