"""Small models of every kind of layout that open_clip knows, with random weights that make features differ."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from engines.backbones import Backbone, forget_backbones
from engines.backbones.loading import build_model, load_weights
from tests.parity import parity_weights
from tests.parity.checks import FOLDER

VISION = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3}
TIMM = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
BERT = {
    "model_type": "bert",
    "vocab_size": 121,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 1,
    "intermediate_size": 96,
    "max_position_embeddings": 48,
    "type_vocab_size": 2,
}


def model_settings(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **top: Any
) -> dict[str, Any]:
    return {"embed_dim": 48, "vision_cfg": VISION | (vision or {}), "text_cfg": TEXT | (text or {}), **top}


def random_model(settings: dict[str, Any], seed: int = 0) -> nn.Module:
    """An open_clip model whose weights are neither tiny nor constant, norms and biases included."""
    model = build_model(copy.deepcopy(settings))
    generator, weights = torch.Generator().manual_seed(seed), {}
    for name, own in model.state_dict().items():
        noise = torch.randn(own.shape, generator=generator)
        if name in ("logit_scale", "logit_bias"):
            weights[name] = torch.full(own.shape, 2.5)
        elif not own.is_floating_point():
            weights[name] = torch.zeros(own.shape, dtype=own.dtype)
        elif own.ndim < 2:
            weights[name] = (0.0 if name.endswith(("bias", "running_mean")) else 1.0) + 0.1 * noise
        else:
            weights[name] = noise * own[0].numel() ** -0.5
    load_weights(model, weights, "random weights")
    return model


def wrap(model: nn.Module, **tokenizer: Any) -> Backbone:
    size = model.visual.image_size
    text = getattr(model, "text", model)
    return Backbone.from_open_clip(
        model,
        open_clip.SimpleTokenizer(context_length=text.context_length, **tokenizer),
        open_clip.image_transform(size, is_train=False),
    )


def write_folder(folder: Path, settings: dict[str, Any], model: nn.Module | None = None) -> Path:
    """A model folder as the hub hands it out."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": settings, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    if model is not None:
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors")
    return folder


def write_bert(folder: Path) -> Path:
    """A BERT configuration with the tokeniser of the parity case."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(BERT))
    (folder / "vocab.txt").write_bytes((FOLDER / "hf_vocabulary.txt").read_bytes())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return folder


def bert_settings(folder: Path) -> dict[str, Any]:
    text = {
        "hf_model_name": str(folder),
        "hf_tokenizer_name": str(folder),
        "hf_model_pretrained": False,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 24,
    }
    return {"embed_dim": 48, "vision_cfg": TIMM, "text_cfg": text}


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    return Backbone.from_state_dict(parity_weights.tiny_clip_state_dict())


@pytest.fixture(autouse=True)
def _cold(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test sees this machine's models, caches or network settings, nor another test's warm backbones."""
    monkeypatch.setenv("PROMPTLOUPE_MODELS", str(tmp_path_factory.mktemp("models")))
    monkeypatch.delenv("PROMPTLOUPE_ONLINE", raising=False)
    forget_backbones()


Fails = Callable[..., str]


@pytest.fixture
def fails() -> Fails:
    """Call something that must fail with a sentence for a person; gives what it says, remedy included."""
    from engines.errors import PromptloupeError

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        with pytest.raises(PromptloupeError) as caught:
            function(*args, **kwargs)
        assert caught.value.what.endswith(".")
        assert caught.value.remedy.endswith((".", "?"))
        return str(caught.value)

    return call
