"""Where a prompt looks in an image: attention roll-out and gradient-weighted relevance, for ViT towers.

Roll-out: Abnar and Zuidema, “Quantifying Attention Flow in Transformers”, ACL 2020, section 3. Relevance: Chefer, Gur,
Wolf, “Generic Attention-model Explainability”, ICCV 2021, equations 5 and 6 (the rule for self-attention alone).

Learned prompts of the image tower are tokens as well. What flows out of them is counted together in a column of its
own, which the map leaves out; where a block gets fresh prompts, their rows begin anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engines.backbones.preprocess import PixelSpec
from engines.backbones.recording import recorded_attention, unreadable
from engines.backbones.vision import OpenClipVisionTower, TimmVisionTower, VisionTower
from engines.errors import BackboneError, ConfigError
from engines.prompts.base import PromptMethod
from engines.prompts.deep import DeepPrompt
from engines.prompts.defects import FindsDefects

Rule = Literal["relevance", "rollout"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """What a prompt says of one image, and where it looks."""

    probabilities: Floats
    """[C]"""
    classes: list[int]
    """Classes that the maps are for."""
    maps: Floats
    """[K, g, g]: share of every patch. Roll-out is a share of 1; relevance has no unit of its own."""
    prompts: Floats
    """[K]: what flows out of learned prompts in the image tower instead of the image, in the same units."""


def rollout(maps: Sequence[Tensor], own: int, renewed: int = 0) -> Tensor:
    """Attention roll-out [T, own + 1]: product over blocks of (A + I) / 2, A the mean of the heads; rows sum to 1.

    Args:
        maps: attention [H, T, T] of each block.
        own: tokens of the model itself; the others, behind them, are learned prompts and share the last column.
        renewed: in front of so many blocks, from the second on, the prompts are replaced by fresh ones.
    """
    flow = _start(maps[0], own)
    for place, attention in enumerate(maps):
        mean = attention.mean(dim=0)
        flow = _renew(flow, mean, own, 1 <= place <= renewed)
        flow = (mean @ flow + flow) / 2
    return flow


def relevance(maps: Sequence[Tensor], gradients: Sequence[Tensor], own: int, renewed: int = 0) -> Tensor:
    """Relevance [T, own + 1]: R <- R + E_h[(dy/dA * A)^+] R from R = I; arguments as for `rollout`.

    Args:
        gradients: of the score with respect to each of `maps`.
    """
    flow = _start(maps[0], own)
    for place, (attention, gradient) in enumerate(zip(maps, gradients, strict=True)):
        weighted = (gradient * attention).clamp(min=0).mean(dim=0)
        flow = _renew(flow, weighted, own, 1 <= place <= renewed)
        flow = flow + weighted @ flow
    return flow


def refuse(method: PromptMethod) -> str:
    """Why it cannot be told where `method` looks, in words; empty where it can."""
    if isinstance(method, FindsDefects):
        return f"{method.info.title} draws maps of defects itself; they are on the page of its result"
    tower = method.backbone.vision
    if reason := unreadable(tower):
        return reason
    return "" if _pooling(tower) else "its image tower gathers the patches in a way that a map cannot follow"


def look(method: PromptMethod, image: Image.Image, classes: Sequence[int] = (), rule: Rule = "relevance") -> Look:
    """What `method` says of an image, and where it looks for `classes` (for its answer where none is named).

    Raises:
        BackboneError: this model or method does not tell where it looks.
        ConfigError: there is no such class.
    """
    if reason := refuse(method):
        raise BackboneError(
            f"Where {method.info.title} on “{method.backbone.name}” looks cannot be told: {reason}.",
            "Choose a result of a model with a ViT image tower.",
        )
    if any(not 0 <= c < len(method.class_names) for c in classes):
        raise ConfigError("The prompt does not know this class.", "Choose one of its classes.")
    tower, pixels = method.backbone.vision, method.prepare(image)[None].to(method.backbone.device)
    with torch.no_grad():
        own = tower.embed(pixels).shape[1]
    with torch.enable_grad(), recorded_attention(tower) as maps:
        logits = _logits(method, pixels)[0]
        chosen = list(classes) or [int(logits.argmax())]
        found = [_flow(method, logits[c], maps, own, rule) for c in chosen]
    patches = torch.stack([row[_lead(tower) : own] for row in found])
    side = isqrt(patches.shape[1])
    return Look(
        logits.detach().float().softmax(dim=0).cpu().numpy(),
        chosen,
        patches.unflatten(1, (side, side)).float().cpu().numpy(),
        torch.stack([row[own] for row in found]).float().cpu().numpy(),
    )


def laid_on(found: Floats, size: tuple[int, int], pixels: PixelSpec) -> Floats:
    """A map [g, g] upsampled (bilinear) onto an image of `size` (width, height): [height, width].

    What the model does not see, because its test transform cuts the image square, is 0.
    """
    width, height = size
    cut = (width, height) if pixels.resize_mode == "squash" else (min(size), min(size))
    if pixels.resize_mode == "longest":
        cut = (max(size), max(size))
    spread = Image.fromarray(np.asarray(found, np.float32)).resize(cut, Image.Resampling.BILINEAR)
    whole = np.zeros((height, width), np.float32)
    left, top = (width - cut[0]) // 2, (height - cut[1]) // 2
    part = np.asarray(spread)[max(0, -top) : max(0, -top) + height, max(0, -left) : max(0, -left) + width]
    whole[max(0, top) : max(0, top) + part.shape[0], max(0, left) : max(0, left) + part.shape[1]] = part
    return whole


# --- helpers ------------------------------------------------------------------


def _logits(method: PromptMethod, pixels: Tensor) -> Tensor:
    if method.frozen_images:
        return method.logits(features=method.backbone.vision.encode(pixels))
    return method.logits(pixels)


def _flow(method: PromptMethod, score: Tensor, maps: list[Tensor], own: int, rule: Rule) -> Tensor:
    """What flows into the pooled token(s), [own + 1]."""
    tower = method.backbone.vision
    single = [attention[0] for attention in maps]
    renewed = _renewed(method)
    followed = score.requires_grad and len(maps) == tower.depth and all(m.shape[-1] >= own for m in single)
    gradients: tuple[Any, ...] = ()
    if followed and rule == "relevance":
        gradients = torch.autograd.grad(score, maps, retain_graph=True, allow_unused=True)
        followed = all(gradient is not None for gradient in gradients)
    if not followed:
        raise BackboneError(
            f"{method.info.title} handles images in a way that cannot be followed back to their parts.",
            "Choose another result.",
        )
    with torch.no_grad():
        if rule == "rollout":
            flow = rollout(single, own, renewed)
        else:
            flow = relevance(single, [gradient[0] for gradient in gradients], own, renewed)
        return flow[0] if _pooling(tower) == "token" else flow[_lead(tower) : own].mean(dim=0)


def _start(attention: Tensor, own: int) -> Tensor:
    """Every token stands for itself; learned prompts share the last column."""
    tokens = attention.shape[-1]
    flow = attention.new_zeros(tokens, own + 1)
    places = torch.arange(tokens)
    flow[places, places.clamp(max=own)] = 1
    return flow


def _renew(flow: Tensor, attention: Tensor, own: int, fresh: bool) -> Tensor:
    """`flow` with prompts that begin anew where the block gets fresh ones (or another number of them)."""
    if not fresh and flow.shape[0] == attention.shape[-1]:
        return flow
    return torch.cat([flow[:own], _start(attention, own)[own:]])


def _renewed(method: PromptMethod) -> int:
    inner = getattr(method, "wrapped", method)
    return max(0, len(inner.image_prompts()) - 1) if isinstance(inner, DeepPrompt) else 0


def _lead(tower: VisionTower) -> int:
    """Tokens in front of the patches."""
    return int(tower._visual.trunk.num_prefix_tokens) if isinstance(tower, TimmVisionTower) else 1


def _pooling(tower: VisionTower) -> str:
    """`token` where the first token becomes the feature, `mean` where the patches do; empty for others."""
    if isinstance(tower, OpenClipVisionTower):
        return "token" if tower._visual.pool_type == "tok" else "mean"
    if isinstance(tower, TimmVisionTower):
        pooled = str(tower._visual.trunk.global_pool)
        return {"token": "token", "avg": "mean"}.get(pooled, "")
    return ""
