"""What a training will cost, measured on a few steps with made-up images before it starts."""

from __future__ import annotations

import time
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from engines.backbones import Backbone, load_backbone
from engines.errors import PromptloupeError
from engines.prompts import create_method, method_class
from engines.prompts.base import PromptMethod
from engines.prompts.catalog import method_entry
from engines.prompts.settings import TrainingConfig, problems_in_words
from engines.prompts.trainer import Examples
from engines.runs.defects import CLASSES
from engines.runs.request import TrainRequest, training_config

PROBE = 8
"""Images in the trial batch of the image tower."""


def check(request: TrainRequest, class_names: list[str], test_images: int, all_images: int = 0) -> dict[str, Any]:
    """Whether a request can work, and what it costs for each seed.

    Args:
        all_images: how many there are to learn from; methods that learn from marked defects take all.

    Returns:
        `ok`, `problems` [{"field", "message"}], `seconds` and `memory_mb` (0 where not ok), `note` in words. The time
        takes features as not computed yet, so a second training is quicker.
    """
    refused = {"ok": False, "seconds": 0.0, "memory_mb": 0.0, "note": ""}
    cls = method_class(request.method)
    try:
        config = training_config(method_entry(request.method), request)
        cls.Config.model_validate(request.settings)
    except ValidationError as error:
        return refused | {"problems": problems_in_words(error)}
    except PromptloupeError as error:
        return refused | {"problems": [{"field": "settings", "message": str(error)}]}
    if cls.learns_from == "masks":
        class_names = list(CLASSES)  # told apart are these two, whatever classes there are
    try:
        backbone = load_backbone(request.backbone)
        method = create_method(request.method, backbone, class_names, **request.settings)
    except PromptloupeError as error:
        return refused | {"problems": [{"field": "settings", "message": str(error)}]}
    unlabelled = method.learns_from == "unlabelled"
    if request.protocol in ("base-to-new", "cross-dataset") and method.class_bound and not unlabelled:
        message = f"{method.info.title} with these settings cannot be tested on classes it never saw."
        return refused | {"problems": [{"field": "protocol", "message": message}]}
    marked = method.learns_from == "masks"
    some = request.shots and not unlabelled and not marked
    images = request.shots * len(class_names) if some else max(test_images, len(class_names))
    images = max(all_images, len(class_names)) if marked else images
    per_image = _seconds_per_image(method)
    try:
        step, memory = _step(method, min(config.batch_size, images)) if method.fitting == "gradient" else (0.01, 0.0)
    except PromptloupeError as error:
        return refused | {"problems": [{"field": "settings", "message": str(error)}]}
    steps = config.epochs * max(1, images // config.batch_size) if method.fitting == "gradient" else 1
    live = 0 if (method.frozen_images and config.views) or marked else steps * config.batch_size
    looks = test_images + live + images * (config.views + 2 if method.fitting != "none" else 0)
    return {
        "ok": True,
        "problems": [],
        "seconds": steps * step + looks * per_image,
        "memory_mb": memory + _weights_mb(backbone),
        "note": _note(config, method),
    }


def _note(config: TrainingConfig, method: PromptMethod) -> str:
    if method.fitting == "none":
        return "Nothing is trained; the images are looked at once."
    if method.fitting == "closed-form":
        return "Solved in one go."
    which = "images" if method.learns_from == "unlabelled" else "labelled images"
    return f"{config.epochs} passes over the {which}."


@torch.no_grad()
def _seconds_per_image(method: PromptMethod) -> float:
    look = method.backbone.encode_image if method.image_size == method.backbone.image_size else method.image_features
    pixels = torch.zeros(PROBE, 3, method.image_size, method.image_size, device=method.backbone.device)
    look(pixels[:1])
    started = time.perf_counter()
    look(pixels).sum().item()
    return (time.perf_counter() - started) / PROBE


def _step(method: PromptMethod, batch: int) -> tuple[float, float]:
    """(seconds, MB kept for the backward pass) of one training step; the second of two is timed."""
    backbone, kept = method.backbone, {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    labels = torch.arange(batch, device=backbone.device) % len(method.class_names)
    labels = torch.full_like(labels, -1) if method.learns_from == "unlabelled" else labels
    features = torch.randn(batch, backbone.embed_dim, device=backbone.device) if method.frozen_images else None
    pixels = None if features is not None else torch.zeros(batch, 3, method.image_size, method.image_size)
    numbers = torch.arange(batch)
    if method.learns_from == "masks":  # it looks at an image once, so the second step is like all later ones
        method.start(Examples(labels, still=True))
        method.begin_step(numbers, 0, 0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        method.backward(pixels, labels, features=features)
    if method.learns_from == "masks":
        method.begin_step(numbers, 0, 0)
    started = time.perf_counter()
    method.backward(pixels, labels, features=features).item()
    return time.perf_counter() - started, sum(kept.values()) / 2**20


def _weights_mb(backbone: Backbone) -> float:
    return sum(p.numel() * p.element_size() for p in backbone.model.parameters()) / 2**20
