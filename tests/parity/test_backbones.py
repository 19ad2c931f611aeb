"""The façade against what official CLIP and open_clip answered: token ids, features, logits, a BERT text tower."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import HFTokenizer
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


@pytest.fixture(scope="module")
def biomedical(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A tiny BERT beside a tiny timm ViT, as open_clip builds BiomedCLIP."""
    folder: Path = tmp_path_factory.mktemp("bert")
    config = {
        "model_type": "bert",
        "vocab_size": 121,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 48,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_bytes((FOLDER / "hf_vocabulary.txt").read_bytes())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    text = {
        "hf_model_name": str(folder),
        "hf_model_pretrained": False,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 24,
    }
    vision = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 32}
    model = CustomTextCLIP(48, vision, text)
    model.visual.set_input_size(32)
    parity_weights.fill_(model)
    tokenizer = HFTokenizer(str(folder), context_length=24)
    return Backbone.from_open_clip(model, tokenizer, open_clip.image_transform(32, is_train=False))


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
