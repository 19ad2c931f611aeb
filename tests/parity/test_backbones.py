"""The façade against what official CLIP and open_clip answered: token ids, features, logits, a BERT text tower."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.backbones import Backbone
from tests.parity import parity_weights
from tests.parity.checks import FOLDER, assert_close, load_case

TEXTS = json.loads((FOLDER / "texts.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return Backbone.from_state_dict(parity_weights.tiny_clip_state_dict())


def unit(features: Tensor) -> Tensor:
    return F.normalize(features, dim=-1)


def ensemble(backbone: Backbone, templates: list[str]) -> Tensor:
    """[C, D]: unit mean of the unit features of all templates."""
    each = [unit(backbone.encode_text([t.format(name) for name in parity_weights.CLASSES])) for t in templates]
    return unit(torch.stack(each).mean(0))


def logits(backbone: Backbone, texts: Tensor) -> Tensor:
    return backbone.logit_scale * unit(backbone.encode_image(parity_weights.images())) @ texts.T


def test_token_ids_are_the_official_ones(tiny: Backbone) -> None:
    case = load_case("tokenizer")
    tokens = tiny.text.tokenizer
    for text, official in zip(TEXTS["tokenizer_texts"], case["ids"], strict=True):
        ids = [*tokens.start, *tokens.pieces(text), *tokens.end]
        assert ids == official[: len(ids)].tolist(), text
        assert not official[len(ids) :].any()


def test_name_lengths_are_the_official_ones(tiny: Backbone) -> None:
    layout = tiny.text.layout(parity_weights.CLASSES, n_ctx=4)
    assert list(layout.name_lengths) == load_case("tokenizer")["name_lens"].tolist()


def test_zero_shot_with_one_template(tiny: Backbone) -> None:
    case = load_case("zeroshot_single")
    images = tiny.encode_image(parity_weights.images())
    assert_close(images, case, "image_features_raw")
    assert_close(unit(images), case, "image_features")
    texts = torch.stack([ensemble(tiny, [template]) for template in TEXTS["zeroshot_single"]])
    assert_close(texts, case, "text_features")
    answers = torch.stack([logits(tiny, t) for t in texts])
    assert_close(answers, case, "logits")
    losses = torch.stack([F.cross_entropy(answer, parity_weights.labels()) for answer in answers])
    assert_close(losses, case, "loss")


@pytest.mark.parametrize("name", ["zeroshot_ensemble7", "zeroshot_ensemble80"])
def test_zero_shot_with_many_templates(tiny: Backbone, name: str) -> None:
    case = load_case(name)
    texts = ensemble(tiny, TEXTS[name])
    assert_close(texts, case, "text_features")
    assert_close(logits(tiny, texts), case, "logits")


def test_bert_tower_encodes_texts_and_images(biomedical: Backbone) -> None:
    case = load_case("hf_text_tower")
    prompts = [f"a photo of a {name}." for name in parity_weights.CLASSES]
    layout = biomedical.text.layout(parity_weights.CLASSES, n_ctx=4, words="a photo of a")
    length = layout.ids.shape[1]
    np.testing.assert_array_equal(layout.ids.numpy(), case["token_ids"][:, :length])
    assert not case["token_ids"][:, length:].any()
    assert_close(biomedical.encode_text(prompts), case, "text_features")
    assert_close(biomedical.encode_image(parity_weights.images()), case, "image_features")


def test_bert_tower_carries_soft_prompts(biomedical: Backbone) -> None:
    case = load_case("hf_text_tower")
    layout = biomedical.text.layout(parity_weights.CLASSES, n_ctx=4, words="a photo of a")
    context = torch.from_numpy(case["init.ctx"]).requires_grad_()
    features = biomedical.text.encode_prompts(layout, context)
    assert_close(features, case, "soft_text_features")
    answer = logits(biomedical, unit(features))
    assert_close(answer, case, "soft_logits")
    loss = F.cross_entropy(answer, parity_weights.labels())
    assert_close(loss, case, "soft_loss")
    loss.backward()
    assert context.grad is not None
    assert_close(context.grad, case, "grad.ctx")
