"""Feature shift of every method, on a tiny CLIP: what it leaves alone has moved by exactly nothing."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.errors import ConfigError
from engines.inspection.shift_measure import Measured, measure
from engines.inspection.shift_readings import reading
from engines.inspection.shift_towers import unit
from engines.prompts import create_method
from engines.prompts.base import PromptMethod
from engines.prompts.catalog import method_catalog
from tests.parity import parity_weights
from tests.parity.checks import assert_close, load_case
from tests.parity.test_restore import CASE_NAMES, prepared

CLASSES = parity_weights.CLASSES
REFUSED = {"linear-probe", "anomalyclip"}
WITHOUT_TEXT_BLOCKS = {
    "ad-clip",
    "cocoop",
    "ctp-tft",
    "gopro",
    "mocoop",
    "promptkd",
    "spg",
    "dpl-decoupled",
    "coop-descriptions",
}
NAMES = [entry.name for entry in method_catalog() if entry.name not in REFUSED]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return Backbone.from_state_dict(parity_weights.tiny_clip_state_dict())


def found(method: PromptMethod) -> Measured:
    read, pixels = reading(method), parity_weights.images()
    with torch.no_grad():
        raw = method.backbone.encode_image(pixels)
    batches = [(raw[:5], pixels[:5]), (raw[5:], pixels[5:])]
    return measure(read, parity_weights.labels(), batches if read.needs_pixels else [(x, None) for x, _ in batches])


def stirred(backbone: Backbone, name: str, **settings: Any) -> PromptMethod:
    """A method whose learned numbers are not where they began."""
    torch.manual_seed(0)
    method = create_method(name, backbone, CLASSES, **settings).eval()
    method.logits(parity_weights.images()[:1])  # some make further layers when they are first asked
    with torch.no_grad():
        for label, parameter in method.trainable_parameters().items():
            seed = torch.Generator().manual_seed(zlib.crc32(label.encode()))
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=seed))
    return method


@pytest.mark.parametrize("name", NAMES)
def test_every_method_can_be_read(tiny: Backbone, name: str) -> None:
    shift = found(stirred(tiny, name))
    assert shift.images.shape == (8,)
    assert shift.words.shape == (len(CLASSES),)
    for values in (shift.images, shift.words, *shift.alignment, *shift.margin):
        assert np.isfinite(values).all()
    assert (shift.images >= 0).all()
    assert (shift.words >= 0).all()
    assert (shift.text_blocks is None) == (name in WITHOUT_TEXT_BLOCKS) == bool(shift.text_blocks_reason)
    assert (shift.image_blocks is None) == (name == "dpl-decoupled") == bool(shift.image_blocks_reason)
    if shift.image_blocks is not None:
        assert shift.image_blocks.shape == (tiny.vision.depth, 8)
    if shift.text_blocks is not None:
        assert shift.text_blocks.shape == (tiny.text.depth, len(CLASSES))


@pytest.mark.parametrize("name", ["zero-shot", "tip-adapter", "tip-adapter-f", "tfup"])
def test_nothing_is_moved(tiny: Backbone, name: str) -> None:
    shift = found(stirred(tiny, name))
    assert not shift.images.any()
    assert not shift.words.any()
    assert np.isnan(shift.direction).all()
    assert shift.image_blocks is not None
    assert shift.text_blocks is not None
    assert not shift.image_blocks.any()
    assert not shift.text_blocks.any()
    np.testing.assert_array_equal(*shift.alignment)


@pytest.mark.parametrize("name", ["coop", "kgcoop", "prograd", "biomedcoop", "pre", "cocoop", "gram", "gopro", "spg"])
def test_words_alone_are_moved(tiny: Backbone, name: str) -> None:
    shift = found(stirred(tiny, name))
    assert not shift.images.any()
    assert shift.image_blocks is not None
    assert not shift.image_blocks.any()
    assert (shift.words > 1e-6).all()


@pytest.mark.parametrize("name", ["vpt", "clip-adapter"])
def test_images_alone_are_moved(tiny: Backbone, name: str) -> None:
    shift = found(stirred(tiny, name))
    assert not shift.words.any()
    assert shift.text_blocks is not None
    assert not shift.text_blocks.any()
    assert (shift.images > 1e-6).all()
    # An adapter stands behind the tower, so that no block moves.
    assert shift.image_blocks is not None
    assert shift.image_blocks.any() == (name == "vpt")


@pytest.mark.parametrize("name", ["maple", "ivlp", "promptsrc", "coprompt", "restore", "restore-ivlp", "dpl-decoupled"])
def test_both_are_moved(tiny: Backbone, name: str) -> None:
    shift = found(stirred(tiny, name))
    assert (shift.images > 1e-6).all()
    assert (shift.words > 1e-6).all()
    assert np.isfinite(shift.direction[parity_weights.labels().unique()]).all()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_compared_is_told(tiny: Backbone, name: str) -> None:
    method = create_method(name, tiny, ["normal", "damaged"])
    with pytest.raises(ConfigError, match="no shift of images and words"):
        reading(method)


# --- against the official implementation's states -------------------------------


@pytest.mark.parametrize("name", CASE_NAMES)
def test_equals_the_states_of_the_official_code(tiny: Backbone, name: str) -> None:
    case, method = load_case(name), prepared(tiny, name)
    if hasattr(method, "image_ratio"):  # the case tells of the towers, without surgery behind them
        method.image_ratio.zero_()
        method.text_ratio.zero_()
    shift = found(method)
    assert shift.image_blocks is not None
    assert shift.text_blocks is not None
    for name_of, values in (
        ("shift_image_layer", shift.image_blocks),
        ("shift_text_layer", shift.text_blocks),
        ("shift_image_out", shift.images),
        ("shift_text_out", shift.words),
    ):
        assert_close(torch.from_numpy(values), case, name_of)


def test_surgery_is_a_share_of_the_feature(tiny: Backbone) -> None:
    method = stirred(tiny, "restore", image_ratio=0.3, text_ratio=0.0)
    shift, pixels = found(method), parity_weights.images()
    with torch.no_grad():
        raw = method.raw_image_features(pixels)
        block = method.visual_adapter
        correction = 0.3 * block.FFN(block.post_ln(raw))
    expected = correction.norm(dim=1) / raw.norm(dim=1)
    assert shift.surgery_images is not None
    assert shift.surgery_words is not None
    np.testing.assert_allclose(shift.surgery_images, expected, rtol=1e-4)
    np.testing.assert_allclose(shift.surgery_words, 0, atol=1e-6)


# --- the baseline -------------------------------------------------------------


@pytest.mark.parametrize("name", ["coop", "kgcoop", "mocoop", "coop-descriptions", "ivlp", "maple"])
def test_words_that_are_still_the_sentence_have_not_moved(tiny: Backbone, name: str) -> None:
    words = {"coop": {"ctx_init": "a photo of a"}, "coop-descriptions": {"ctx_init": "a photo of a"}}
    shallow = {"ivlp": {"prompt_depth_text": 1}, "maple": {"prompt_depth": 1}}
    method = create_method(name, tiny, CLASSES, **words.get(name, shallow.get(name, {})))
    assert found(method).words.max() < 1e-9


@pytest.mark.parametrize("name", ["coop", "ad-clip"])
def test_words_that_began_at_random_are_compared_with_the_plain_sentence(tiny: Backbone, name: str) -> None:
    read = reading(create_method(name, tiny, CLASSES))
    plain = create_method("zero-shot", tiny, CLASSES, template="a photo of a {}.").text_features()
    torch.testing.assert_close(read.ordinary.float(), plain, atol=1e-5, rtol=0)
    assert "began at random" in read.baseline


def test_words_of_every_image_are_averaged(tiny: Backbone) -> None:
    method = stirred(tiny, "cocoop")
    with torch.no_grad():
        images = F.normalize(tiny.encode_image(parity_weights.images()), dim=-1)
        own = method.conditional_text_features(images)
        before = tiny.text.encode_embeddings(method.layout.embeddings, method.layout.eot)
    mean = F.normalize(own.double().mean(dim=0), dim=-1)
    expected = 1 - F.cosine_similarity(mean, before.double(), dim=-1)
    np.testing.assert_allclose(found(method).words, expected, rtol=1e-4, atol=1e-7)


def test_class_specific_context(tiny: Backbone) -> None:
    method = stirred(tiny, "coop", csc=True, ctx_init="")
    shift = found(method)
    before = create_method("zero-shot", tiny, CLASSES).text_features()
    expected = 1 - F.cosine_similarity(method.text_features().double(), before.double(), dim=-1)
    np.testing.assert_allclose(shift.words, expected.detach(), rtol=1e-4, atol=1e-7)
    assert shift.text_blocks is not None


def test_a_student_of_another_model_has_no_before(tiny: Backbone) -> None:
    method = stirred(tiny, "promptkd")
    method.config = method.config.model_copy(update={"teacher": "another"})
    with pytest.raises(ConfigError, match="space of another model"):
        found(method)


def test_adapters_are_compared_in_the_joint_space(tiny: Backbone) -> None:
    method = stirred(tiny, "clip-adapter", ratio=0.5)
    with torch.no_grad():
        raw = tiny.encode_image(parity_weights.images())
        after = method.adapt(raw)
    expected = 1 - (unit(raw) * unit(after)).sum(dim=1)
    np.testing.assert_allclose(found(method).images, expected, rtol=1e-5, atol=1e-9)
