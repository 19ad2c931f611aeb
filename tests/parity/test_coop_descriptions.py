"""PCB's description variants against the official implementation, and what becomes of the phrases."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.errors import ConfigError
from engines.prompts import create_method, load_prompt
from engines.prompts.coop_descriptions import CoOpDescriptions
from engines.prompts.settings import TrainingConfig
from engines.prompts.trainer import Examples, train
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, fill_official, load_case

PHRASES = [
    ["whiskers", "pointed ears"],
    ["golden fur", "a friendly, broad face", "floppy ears"],
    ["yellow paint"],
    ["irregular border", "two or more colours", "asymmetry"],
    ["lobed leaves", "acorns"],
]
NONE: list[list[str]] = [[] for _ in PHRASES]
CASES: dict[str, tuple[list[list[str]], dict[str, Any]]] = {
    "active_desc_none_csc": (NONE, {"csc": True}),
    "active_desc_AS_csc": (PHRASES, {"csc": True, "combine": "similarity"}),
    "active_desc_AS_shared": (PHRASES, {"combine": "similarity"}),
    "active_desc_AE_shared": (PHRASES, {"combine": "embedding"}),
}


def fresh(backbone: Backbone, phrases: list[list[str]] | None = PHRASES, **settings: Any) -> CoOpDescriptions:
    method = create_method("coop-descriptions", backbone, parity_weights.CLASSES, **{"n_ctx": 4} | settings)
    assert isinstance(method, CoOpDescriptions)
    if phrases is not None:
        method.descriptions = phrases
    return method


@pytest.mark.parametrize("name", CASES)
def test_equals_official_pcb(backbone: Backbone, name: str) -> None:
    phrases, settings = CASES[name]
    case, method = load_case(name), fresh(backbone, phrases, **settings)
    fill_official(method)
    pixels, labels = parity_weights.images(), parity_weights.labels()
    assert_close(method.image_features(pixels), case, "image_features")
    assert_close(backbone.text.encode_prompts(method.layout, method.ctx), case, "text_raw")
    assert_close(method.logits(pixels), case, "logits")
    optimizer = torch.optim.SGD([method.ctx], lr=0.002, momentum=0.9, weight_decay=5e-4)
    for step in range(5):
        optimizer.zero_grad()
        loss = method.backward(pixels, labels)
        if step == 0:
            assert_close(loss, case, "loss")
            assert method.ctx.grad is not None
            assert_close(method.ctx.grad, case, "grad.prompt_learner.ctx")
        optimizer.step()
    assert_same_value(method.ctx, case, "after5.prompt_learner.ctx")
    assert_close(method.loss(pixels, labels), case, "after5.loss")


@pytest.mark.parametrize("combine", ["similarity", "embedding"])
def test_separate_contexts_that_are_equal_are_a_shared_one(backbone: Backbone, combine: str) -> None:
    shared = fresh(backbone, combine=combine)
    own = fresh(backbone, combine=combine, csc=True)
    with torch.no_grad():
        own.ctx.copy_(shared.ctx.expand_as(own.ctx))
    pixels, labels = parity_weights.images(), parity_weights.labels()
    assert torch.allclose(own.logits(pixels), shared.logits(pixels), atol=1e-4)
    own.backward(pixels, labels)
    shared.backward(pixels, labels)
    assert own.ctx.grad is not None
    assert shared.ctx.grad is not None
    assert torch.allclose(own.ctx.grad.sum(dim=0), shared.ctx.grad, atol=1e-5)


def test_prompts_are_the_official_ones(backbone: Backbone) -> None:
    method = fresh(backbone)
    assert method.prompts()[:3] == [
        (0, "cat, which is/has whiskers"),
        (0, "cat, which is/has pointed ears"),
        (1, "golden retriever, which is/has golden fur"),
    ]
    official = [49406, 343, 343, 343, 343, 2368, 267, 1448, 533, 270, 791, 6024, 2880, 269, 49407]
    np.testing.assert_array_equal(method.layout.ids[0, : len(official)].numpy(), official)


def test_similarity_is_the_mean_of_the_phrases_scores(backbone: Backbone) -> None:
    method, pixels = fresh(backbone), parity_weights.images()
    each = F.normalize(backbone.text.encode_prompts(method.layout, method.ctx), dim=-1)
    scores = backbone.logit_scale * method.image_features(pixels) @ each.T
    assert torch.allclose(method.logits(pixels)[:, 1], scores[:, 2:5].mean(dim=1), atol=1e-4)


def test_a_class_without_phrases_has_the_plain_prompt(backbone: Backbone) -> None:
    method = fresh(backbone, [["whiskers."], [], ["  "], ["asymmetry"], ["acorns", ""]])
    assert method.prompts() == [
        (0, "cat, which is/has whiskers"),
        (1, "golden retriever"),
        (2, "school bus"),
        (3, "melanoma, which is/has asymmetry"),
        (4, "oak tree, which is/has acorns"),
    ]
    assert method.undescribed == ["golden retriever", "school bus"]
    plain = create_method("coop", backbone, parity_weights.CLASSES, n_ctx=4)
    plain.load_state_dict({"ctx": method.ctx.detach()})
    assert torch.allclose(method.text_features()[1:3], plain.text_features()[1:3], atol=1e-5)


def test_without_any_phrase_it_is_coop(backbone: Backbone) -> None:
    method, pixels = fresh(backbone, None), parity_weights.images()
    plain = create_method("coop", backbone, parity_weights.CLASSES, n_ctx=4)
    plain.load_state_dict({"ctx": method.ctx.detach()})
    assert torch.allclose(method.logits(pixels), plain.logits(pixels), atol=1e-5)


@pytest.mark.parametrize("csc", [False, True])
def test_phrases_are_saved_with_the_prompt(backbone: Backbone, tmp_path: Path, csc: bool) -> None:
    method, pixels = fresh(backbone, csc=csc), parity_weights.images()
    loaded = load_prompt(method.save(tmp_path), backbone)
    assert isinstance(loaded, CoOpDescriptions)
    assert loaded.descriptions == PHRASES
    assert torch.allclose(loaded.logits(pixels), method.logits(pixels), atol=1e-5)


def test_damaged_phrases_are_told_in_words(backbone: Backbone) -> None:
    method = fresh(backbone)
    for text in (b"[1]", b"{", b'{"cat": 3}', b"\xff\xfe"):
        state = method.state_dict() | {"phrases": torch.tensor(list(text), dtype=torch.uint8)}
        with pytest.raises(RuntimeError, match="damaged"):
            fresh(backbone).load_state_dict(state)


def test_phrases_of_other_classes_go_by_name(backbone: Backbone) -> None:
    other = fresh(backbone).for_classes(["oak tree", "lung"])
    assert other.descriptions == [["lobed leaves", "acorns"], []]
    with pytest.raises(ConfigError, match="cannot be used on others"):
        fresh(backbone, csc=True).for_classes(["oak tree", "lung"])


def test_answers_follow_new_phrases(backbone: Backbone) -> None:
    """Features of fixed classes are kept, but not those of other phrases."""
    method, pixels = fresh(backbone, None), parity_weights.images()
    with torch.no_grad():
        before = method.logits(pixels)
        method.descriptions = PHRASES
        assert not torch.allclose(method.logits(pixels), before)
        method.descriptions = NONE
        assert torch.allclose(method.logits(pixels), before)


def test_too_long_a_phrase_is_refused(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match="reads at most 77"):
        fresh(backbone, [["very " * 80], [], [], [], []])


@pytest.mark.parametrize("csc", [False, True])
def test_training_goes_on_where_it_stopped(backbone: Backbone, tmp_path: Path, csc: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(20) % 5
    examples = Examples(labels, torch.randn(1, 20, backbone.embed_dim, generator=generator))
    config, ends = TrainingConfig(epochs=4, batch_size=8), []
    for stop in (None, 2):
        file = tmp_path / f"{stop}.pt"
        for last in (stop, None) if stop else (None,):
            torch.manual_seed(5)
            method = fresh(backbone, csc=csc)
            for epoch in train(method, examples, config, 1, file):
                if epoch.number == last:
                    break
        ends.append(method.ctx.detach().clone())
    assert torch.equal(ends[0], ends[1])
