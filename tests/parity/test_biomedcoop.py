"""BiomedCoOp against the official implementation, and which sentences it reads and keeps."""

from typing import Any

import numpy as np
import pytest
import torch

from engines.backbones import Backbone
from engines.prompts import create_method
from engines.prompts.biomedcoop import BiomedCoOp
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, check_training, load_case

CASES: dict[str, dict[str, Any]] = {
    "biomedcoop_clip": {"sccm_weight": 5.0, "kdsp_weight": 20.0},
    "biomedcoop_biomedclip": {"sccm_weight": 20.0, "kdsp_weight": 20.0},
}
SENTENCES = (
    "a photo of a {}.",
    "a blurry photo of the {}.",
    "a close-up of a {} showing fine texture.",
    "an image of one {} in bright light.",
    "{} seen from far away.",
    "a drawing of the {}.",
    "a {}.",
    "the large {} stands out clearly against its background, with sharp edges and uneven colour.",
)


def fresh(backbone: Backbone, **settings: Any) -> BiomedCoOp:
    method = create_method("biomedcoop", backbone, parity_weights.CLASSES, **settings)
    assert isinstance(method, BiomedCoOp)
    method.descriptions = [[text.format(name) for text in SENTENCES] for name in parity_weights.CLASSES]
    return method


@pytest.mark.parametrize("name", CASES)
def test_equals_official_biomedcoop(name: str, request: pytest.FixtureRequest) -> None:
    backbone = request.getfixturevalue("backbone" if name == "biomedcoop_clip" else "biomedical")
    case, method = load_case(name), fresh(backbone, **CASES[name])
    pixels, labels = parity_weights.images(), parity_weights.labels()
    images = method.image_features(pixels)
    assert_same_value(method.ctx, case, "init.prompt_learner.ctx", absolute=0)
    length = method.layout.ids.shape[1]
    np.testing.assert_array_equal(method.layout.ids.numpy(), case["token_ids"][:, :length])
    assert_close(method.text_features(), case, "text_features")
    assert_close(images, case, "image_features")
    assert_close(method.logits(pixels), case, "logits")
    assert_close(method.raw_descriptions, case, "fixed_embeddings")
    assert_close(method.scores(images), case, "scores")
    np.testing.assert_array_equal(method.kept(images).numpy(), case["mask"])
    assert_close(method.teacher(images), case, "selected_embeddings")
    assert_close(method.mean_description, case, "mean_embeddings")
    assert_close(backbone.logit_scale * images @ method.teacher(images).T, case, "zero_shot_logits")
    cross_entropy, sccm, kdsp = method.loss_terms(images, labels)
    assert_close(cross_entropy, case, "loss_ce")
    assert_close(method.config.sccm_weight * sccm, case, "loss_sccm")
    assert_close(method.config.kdsp_weight * kdsp, case, "loss_kdsp")
    assert_close(method.loss(pixels, labels), case, "loss")
    check_training(method, case)


def test_all_classes_get_as_many_sentences_as_the_poorest(backbone: Backbone) -> None:
    """General sentences fill up a class with fewer than two."""
    method = fresh(backbone)
    method.descriptions[0] = ["A cat.", "A small cat.", "A furry cat."]
    method.descriptions[1] = ["A dog."]
    method.descriptions[2] = []
    read = method.sentences()
    assert [len(each) for each in read] == [3] * 5
    assert read[0] == ["A cat.", "A small cat.", "A furry cat."]
    assert read[1][0] == "A dog."
    assert all("golden retriever" in sentence for sentence in read[1][1:])
    assert all("school bus" in sentence for sentence in read[2])
    assert [len(each) for each in fresh(backbone, n_prompts=2).sentences()] == [2] * 5


@pytest.mark.parametrize(("tau", "kept"), [(1.4, [True, True, True, False]), (1.6, [True] * 4)])
def test_deviation_is_that_of_a_sample(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tau: float, kept: list[bool]
) -> None:
    """The last score lies 1.5 deviations from the mean with N - 1, but 1.73 with N."""
    method = fresh(backbone, tau=tau)
    monkeypatch.setattr(method, "scores", lambda images: torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert method.kept(torch.empty(0)).tolist() == kept


def test_equal_sentences_are_all_kept(backbone: Backbone) -> None:
    """The official code divides by zero here."""
    method = fresh(backbone)
    method.descriptions = [[f"a photo of a {name}."] * 7 for name in parity_weights.CLASSES]
    pixels = parity_weights.images()
    assert method.kept(method.image_features(pixels)).all()
    assert torch.isfinite(method.loss(pixels, parity_weights.labels()))
