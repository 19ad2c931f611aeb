"""The tiny models that official answers were taken from."""

import json
from pathlib import Path

import open_clip
import pytest
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import HFTokenizer

from engines.backbones import Backbone
from tests.parity import parity_weights
from tests.parity.checks import FOLDER


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return Backbone.from_state_dict(parity_weights.tiny_clip_state_dict())


@pytest.fixture(scope="session")
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
