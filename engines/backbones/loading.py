"""From a name, a folder or a file to a backbone."""

from __future__ import annotations

import math
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


def build_openai(state_dict: Mapping[str, Tensor], where: str = "the state dict") -> tuple[Any, Any, Any]:
    """Model, tokeniser and test transform for a state dict in the layout of OpenAI's releases, exact in float32."""
    import open_clip

    if not is_openai_layout(state_dict):
        raise BackboneError(
            "These weights do not have the layout of OpenAI's CLIP releases, so they do not say what model they fit.",
            "Name the architecture and pass the file as its weights: load_backbone('ViT-B-16', pretrained='<file>').",
            f"First names: {', '.join(list(state_dict)[:5])}",
        )
    try:
        model = build_model(describe_openai(state_dict))
    except (KeyError, IndexError, ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise BackboneError(
            "These weights are incomplete or contradict each other, so no CLIP model can be built from them.",
            "Choose a complete checkpoint.",
            f"{type(error).__name__}: {error}",
        ) from error
    load_weights(model, state_dict, where)
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    return model, tokenizer, with_preprocess(model, {})


def is_openai_layout(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is a plain CLIP with ViT or ResNet image tower, text tower at the top level."""
    image = "visual.proj" in state or "visual.layer1.0.conv1.weight" in state
    return image and all(n in state for n in ("text_projection", "token_embedding.weight", "ln_final.weight"))


def describe_openai(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """open_clip's "model_cfg" of a state dict in OpenAI's layout, from names and shapes; heads are 64 wide there."""

    def count(prefix: str) -> int:
        return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})

    context_length, width = state["positional_embedding"].shape
    text = {
        "context_length": context_length,
        "vocab_size": len(state["token_embedding.weight"]),
        "width": width,
        "heads": width // 64,
        "layers": count("transformer.resblocks."),
    }
    vision: dict[str, Any]
    if "visual.proj" in state:
        patches = len(state["visual.positional_embedding"]) - 1
        v_width, _, _, patch = state["visual.conv1.weight"].shape
        size = patch * math.isqrt(patches)
        vision = {"layers": count("visual.transformer.resblocks."), "width": v_width, "patch_size": patch}
    else:
        size = 32 * math.isqrt(len(state["visual.attnpool.positional_embedding"]) - 1)
        vision = {
            "layers": [count(f"visual.layer{stage}.") for stage in (1, 2, 3, 4)],
            "width": len(state["visual.layer1.0.conv1.weight"]),
        }
    return {
        "embed_dim": state["text_projection"].shape[1],
        "vision_cfg": {"image_size": size, **vision},
        "text_cfg": text,
        "quick_gelu": True,
    }


def _build(source: TagSource | FolderSource | FileSource) -> tuple[Any, Any, Any]:
    if isinstance(source, FolderSource):
        from engines.backbones.folders import build_folder

        return build_folder(source.folder)
    if isinstance(source, FileSource):
        return build_openai(read_state_dict(source.path), str(source.path))
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
    """The open_clip model of a "model_cfg", its weights yet to be loaded.

    open_clip's own towers are laid out without memory and without drawing random weights, so that loading takes the
    weight file as it is (memory-mapped: towers that are never used cost no memory).
    """
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    settings = dict(settings)
    foreign = "hf_model_name" in settings["text_cfg"], "timm_model_name" in settings["vision_cfg"]
    custom = settings.pop("custom_text", False) or foreign[0]
    if custom and "multimodal_cfg" in settings:
        return CoCa(**settings)
    kind = CustomTextCLIP if custom else CLIP
    if any(foreign):  # these keep tensors that are in no weight file
        return kind(**settings)
    with torch.device("meta"):
        model = kind(**settings)
    text = getattr(model, "text", model)
    if text.attn_mask is not None:
        text.attn_mask = torch.full(text.attn_mask.shape, float("-inf")).triu_(1)
    return model


def with_preprocess(model: Any, settings: Mapping[str, Any]) -> Any:
    """Note a tag's or folder's preprocessing settings on the model and make its test transform."""
    from open_clip.model import set_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    merged = merge_preprocess_dict(PreprocessCfg(), dict(settings)) | {"size": model.visual.image_size}
    set_model_preprocess_cfg(model, merged)
    return image_transform_v2(PreprocessCfg(**merged), is_train=False)


def load_weights(model: Any, state: Mapping[str, Tensor], where: str) -> None:
    """Put weights into an open_clip model, strictly, in float32 whatever the file's precision.

    Raises:
        BackboneError: names or shapes do not fit the model.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    described = ("input_resolution", "context_length", "vocab_size", "text.transformer.embeddings.position_ids")
    weights = {name: value for name, value in convert_state_dict(model, dict(state)).items() if name not in described}
    if "positional_embedding" in weights and not hasattr(model, "positional_embedding"):
        weights = convert_to_custom_text_state_dict(weights)
    if not hasattr(model, "text"):
        weights = {name.removeprefix("text."): value for name, value in weights.items()}
    own = model.state_dict()
    for name in ("logit_scale", "logit_bias"):
        if name in own and name in weights and weights[name].numel() == own[name].numel():
            weights[name] = weights[name].reshape(own[name].shape)
    missing, foreign = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    wrong = [n for n in own.keys() & weights.keys() if own[n].shape != weights[n].shape]
    if missing or foreign or wrong:
        raise BackboneError(
            f"The weights in '{where}' do not fit the model: {len(missing)} missing, {len(foreign)} unknown, "
            f"{len(wrong)} of another shape.",
            "Choose the architecture these weights were trained with, or the weights of this one.",
            "; ".join(
                [f"missing {n}" for n in missing[:4]]
                + [f"unknown {n}" for n in foreign[:4]]
                + [f"{n}: {list(weights[n].shape)} instead of {list(own[n].shape)}" for n in sorted(wrong)[:4]]
            ),
        )
    weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    model.load_state_dict(weights, assign=True)
