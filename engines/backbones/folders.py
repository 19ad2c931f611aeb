"""Models in a folder with open_clip_config.json, complete or as the hub hands them out, without internet."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from engines.backbones.loading import build_model, load_weights, with_preprocess
from engines.backbones.places import CONFIG
from engines.backbones.sources import allow_network
from engines.backbones.weights import find_weights, read_state_dict
from engines.errors import BackboneError

# Any of these carries a vocabulary; a BERT's vocab.txt only together with tokenizer_config.json.
_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.json")


def build_folder(folder: Path) -> tuple[Any, Any, Any]:
    """Model, tokeniser and test transform of a model folder.

    A Hugging Face text tower needs its config.json; where it is missing (BiomedCLIP ships without), it is written from
    the weights' own shapes into a temporary folder. Nothing is written into the model's folder.

    Raises:
        BackboneError: a file is missing or damaged, or weights do not fit the configuration.
    """
    settings = _read_config(folder)
    text_settings = dict(settings["model_cfg"]["text_cfg"])
    path = find_weights(folder)
    state = read_state_dict(path)
    allow_network()
    with tempfile.TemporaryDirectory() as scratch:
        if text_settings.get("hf_model_name"):
            text_settings["hf_model_name"] = str(_text_config_folder(folder, text_settings, state, Path(scratch)))
            text_settings["hf_model_pretrained"] = False
        try:
            model = build_model({**settings["model_cfg"], "text_cfg": text_settings})
        except (TypeError, ValueError, RuntimeError, KeyError, AssertionError, OSError) as error:
            raise BackboneError(
                f"No model can be built from '{folder / CONFIG}'.",
                "Take the file from where the weights come from.",
                f"{type(error).__name__}: {error}",
            ) from error
    load_weights(model, state, str(path))
    preprocess = with_preprocess(model, settings.get("preprocess_cfg") or {})
    return model, _tokenizer(folder, text_settings), preprocess


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        settings = json.loads(path.read_text("utf-8"))
        if settings["model_cfg"]["text_cfg"] and settings["model_cfg"]["vision_cfg"]:
            return dict(settings)
    except OSError as error:
        raise BackboneError(
            f"The folder '{folder}' holds no {CONFIG}.", "Put it beside the weights, or name the weight file itself."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"'{path}' is damaged or no open_clip configuration.",
            "Take the file from where the weights come from.",
            f"{type(error).__name__}: {error}",
        ) from error
    raise BackboneError(f"'{path}' describes no model.", "Take the file from where the weights come from.")


def _text_config_folder(
    folder: Path, text_settings: Mapping[str, Any], state: Mapping[str, Tensor], scratch: Path
) -> Path:
    """Folder whose config.json describes the Hugging Face text model."""
    beside = Path(str(text_settings["hf_model_name"])).expanduser()
    for place in (folder, beside):
        config = place / "config.json"
        if config.is_file():
            with _readable(config):
                if "model_type" in json.loads(config.read_text("utf-8")):
                    return place.resolve()
    name = str(text_settings["hf_model_name"])
    words = state.get("text.transformer.embeddings.word_embeddings.weight")
    if words is None or "roberta" in name.lower():
        raise BackboneError(
            f"The settings of the text model '{name}' are missing.",
            f"Put the config.json of '{name}' into the folder '{folder}'.",
        )
    (scratch / "config.json").write_text(json.dumps(_bert_config(state, words)), "utf-8")
    return scratch


def _bert_config(state: Mapping[str, Tensor], words: Tensor) -> dict[str, Any]:
    """BERT's settings as the shapes of its weights tell them; heads are 64 wide in every released BERT."""
    text = "text.transformer."
    vocabulary, width = words.shape
    layers = {n.split(".")[4] for n in state if n.startswith(f"{text}encoder.layer.")}
    return {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": state[f"{text}encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": state[f"{text}embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state[f"{text}embeddings.token_type_embeddings.weight"].shape[0],
    }


def _tokenizer(folder: Path, text_settings: Mapping[str, Any]) -> Any:
    """The folder's own tokeniser, open_clip's byte-pair encoding where the configuration names none."""
    import open_clip

    name = text_settings.get("hf_tokenizer_name")
    bert, complete = (folder / "vocab.txt").is_file(), (folder / "tokenizer_config.json").is_file()
    if not name or any((folder / file).is_file() for file in _TOKENIZER_FILES) or (bert and complete):
        with _readable(folder):
            return open_clip.get_tokenizer(f"local-dir:{folder}")
    if bert:  # a vocabulary alone: tell the tokeniser's loader what it is
        with tempfile.TemporaryDirectory() as scratch, _readable(folder):
            for file in (CONFIG, "vocab.txt"):
                shutil.copy(folder / file, scratch)
            (Path(scratch) / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', "utf-8")
            return open_clip.get_tokenizer(f"local-dir:{scratch}")
    raise BackboneError(
        f"The folder '{folder}' holds no tokeniser for the text model.",
        f"Put tokenizer.json and tokenizer_config.json of '{name}' into it.",
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # tokeniser libraries raise bare Exception on a damaged file
        raise BackboneError(
            f"The tokeniser or text settings in '{path}' cannot be read.",
            "Copy them again from where the weights come from.",
            f"{type(error).__name__}: {error}",
        ) from error
