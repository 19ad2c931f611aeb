"""From a name, a folder or a file to a backbone."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engines.backbones.backbone import Backbone
from engines.backbones.runtime import Runtime
from engines.backbones.sources import FileSource, FolderSource, TagSource, find_source
from engines.backbones.weights import read_state_dict
from engines.errors import BackboneError

WARM = 3  # backbones kept in a process, so that the next training starts at once
_warm: OrderedDict[tuple[object, ...], Backbone] = OrderedDict()
_lock = threading.Lock()


def load_backbone(
    name: str,
    *,
    pretrained: str | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
) -> Backbone:
    """Load a backbone, or hand out the one that is warm in this process.

    Args:
        name: "mini-clip" (shipped); an open_clip architecture with a tag, "ViT-B-16:openai" or "ViT-B-16/openai";
            "hf-hub:organisation/name"; a folder with open_clip_config.json and weights; or a checkpoint file in the
            layout of OpenAI's releases (loaded in full float32 precision, with their QuickGELU).
        pretrained: tag, or path of a weight file for the architecture `name` (which then also says whether the model
            uses QuickGELU, e.g. "ViT-B-32-quickgelu").
        device: "cuda", "mps" or "cpu"; the best one at hand by default.
        precision: "fp32" (default), on CUDA also "bf16" or "fp16" autocast.
    Raises:
        BackboneError: unknown name or tag, no network, missing, damaged or unfitting weights; with the remedy.
    """
    runtime = Runtime.choose(device, precision)
    source = find_source(name, pretrained)
    key = (source, source.version(), runtime)
    with _lock:
        if key not in _warm:
            while len(_warm) >= WARM:
                _warm.popitem(last=False)
            _warm[key] = Backbone(*_build(source), source.name, runtime)
        _warm.move_to_end(key)
        return _warm[key]


def forget_backbones() -> None:
    """Drop the warm backbones of this process and with them their memory."""
    with _lock:
        _warm.clear()


def build_openai(state_dict: Mapping[str, Tensor]) -> tuple[Any, Any, Any]:
    """Model, tokeniser and test transform for a state dict in the layout of OpenAI's releases, exact in float32."""
    import open_clip
    from open_clip.model import build_model_from_openai_state_dict

    described = ("input_resolution", "context_length", "vocab_size")  # facts, not weights
    state = {name: value for name, value in state_dict.items() if name not in described}
    if not is_openai_layout(state):
        raise BackboneError(
            "These weights do not have the layout of OpenAI's CLIP releases, so they do not say what model they fit.",
            "Name the architecture and pass the file as its weights: load_backbone('ViT-B-16', pretrained='<file>').",
            f"First names: {', '.join(list(state)[:5])}",
        )
    try:
        model = build_model_from_openai_state_dict(dict(state), quick_gelu=True, cast_dtype=None).float()
    except (KeyError, IndexError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise BackboneError(
            "These weights are incomplete or contradict each other, so no CLIP model can be built from them.",
            "Choose a complete checkpoint.",
            f"{type(error).__name__}: {error}",
        ) from error
    model.load_state_dict(state)  # once more: open_clip rounded them to half precision while building
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    return model, tokenizer, open_clip.image_transform(model.visual.image_size, is_train=False)


def is_openai_layout(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is a plain CLIP with ViT or ResNet image tower, text tower at the top level."""
    image = "visual.proj" in state or "visual.layer1.0.conv1.weight" in state
    return image and all(n in state for n in ("text_projection", "token_embedding.weight", "ln_final.weight"))


def _build(source: TagSource | FolderSource | FileSource) -> tuple[Any, Any, Any]:
    if isinstance(source, FolderSource):
        from engines.backbones.folders import build_folder

        return build_folder(source.folder)
    if isinstance(source, FileSource):
        return build_openai(read_state_dict(source.path))
    return _build_tag(source)


def _build_tag(source: TagSource) -> tuple[Any, Any, Any]:
    import open_clip

    path = source.weights()
    tag = source.settings()
    settings = open_clip.get_model_config(source.architecture)
    if tag:
        # open_clip only warns where architecture and tag disagree about QuickGELU; the tag knows how it was trained.
        settings["quick_gelu"] = bool(tag.get("quick_gelu"))
    if "hf_model_name" in settings["text_cfg"]:
        settings["text_cfg"]["hf_model_pretrained"] = False
    try:
        model = build_model(settings)
        tokenizer = open_clip.get_tokenizer(source.architecture)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise BackboneError(
            f"The model '{source.name}' needs further files (text model settings or a tokeniser) that are not on this "
            "machine.",
            "Start the program once with PROMPTLOUPE_ONLINE=1 to fetch them.",
            str(error),
        ) from error
    load_weights(model, read_state_dict(path), str(path))
    return model, tokenizer, with_preprocess(model, tag)


def build_model(settings: Mapping[str, Any]) -> Any:
    """The open_clip model of a "model_cfg", in float32, its weights not yet loaded."""
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    settings = dict(settings)
    custom = settings.pop("custom_text", False) or "hf_model_name" in settings["text_cfg"]
    kind = CLIP if not custom else CoCa if "multimodal_cfg" in settings else CustomTextCLIP
    return kind(**settings)


def with_preprocess(model: Any, settings: Mapping[str, Any]) -> Any:
    """Note a tag's or folder's preprocessing settings on the model and make its test transform."""
    from open_clip.model import set_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    merged = merge_preprocess_dict(PreprocessCfg(), dict(settings)) | {"size": model.visual.image_size}
    set_model_preprocess_cfg(model, merged)
    return image_transform_v2(PreprocessCfg(**merged), is_train=False)


def load_weights(model: Any, state: dict[str, Tensor], where: str) -> None:
    """Put weights into an open_clip model, strictly, in float32 whatever the file's precision.

    Raises:
        BackboneError: names or shapes do not fit the model.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    described = ("input_resolution", "context_length", "vocab_size", "text.transformer.embeddings.position_ids")
    state = {name: value for name, value in convert_state_dict(model, state).items() if name not in described}
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    if not hasattr(model, "text"):
        state = {name.removeprefix("text."): value for name, value in state.items()}
    own = model.state_dict()
    for name in ("logit_scale", "logit_bias"):
        if name in own and name in state and state[name].numel() == own[name].numel():
            state[name] = state[name].reshape(own[name].shape)
    missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [n for n in own.keys() & state.keys() if own[n].shape != state[n].shape]
    if missing or foreign or wrong:
        raise BackboneError(
            f"The weights in '{where}' do not fit the model: {len(missing)} missing, {len(foreign)} unknown, "
            f"{len(wrong)} of another shape.",
            "Choose the architecture these weights were trained with, or the weights of this one.",
            "; ".join(
                [f"missing {n}" for n in missing[:4]]
                + [f"unknown {n}" for n in foreign[:4]]
                + [f"{n}: {list(state[n].shape)} instead of {list(own[n].shape)}" for n in sorted(wrong)[:4]]
            ),
        )
    model.load_state_dict(state)
