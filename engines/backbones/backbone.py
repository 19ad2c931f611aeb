"""One frozen CLIP-like model: image tower, text tower, tokeniser and pixels behind one façade."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from engines.backbones.causal import CausalTextTower, is_causal_clip
from engines.backbones.hf_text import HuggingFaceTextTower
from engines.backbones.open_clip_text import OpenClipTextTower
from engines.backbones.preprocess import PixelSpec, Preprocess, TrainTransform
from engines.backbones.runtime import Runtime
from engines.backbones.text import TextTower
from engines.backbones.tokens import prompt_tokenizer
from engines.backbones.vision import VisionTower, vision_tower


@dataclass(frozen=True)
class Capabilities:
    """What prompts a backbone can carry; `reason` says in words why not, by field name."""

    causal_text: bool
    deep_text_prompts: bool
    vision_prompts: bool
    patch_tokens: bool
    reason: Mapping[str, str] = field(default_factory=dict)


class Backbone:
    """A frozen model that methods build prompts on.

    Not a torch module on purpose: a method that holds a backbone does not count its weights among its own. All weights
    are float32, frozen and in evaluation mode; towers compute in autocast where the runtime says so, and features
    always come out as float32.
    """

    def __init__(self, model: Any, tokenizer: Any, preprocess: Preprocess, name: str, runtime: Runtime) -> None:
        self.name = name
        self.runtime = runtime
        self.model = model.float().to(runtime.device).eval().requires_grad_(False)
        self.pixels = PixelSpec.of(model, preprocess)
        self._preprocess = preprocess
        self.text: TextTower = _text_tower(model, tokenizer, runtime)
        self.vision: VisionTower = vision_tower(model, runtime)

    @classmethod
    def from_open_clip(
        cls,
        model: Any,
        tokenizer: Any,
        preprocess: Preprocess,
        name: str = "custom",
        *,
        device: str | torch.device | None = None,
        precision: str | None = None,
    ) -> Backbone:
        """Wrap an open_clip model held already; it is frozen, cast to float32 and moved in place.

        Args:
            model: what `open_clip.create_model` returns.
            tokenizer: what `open_clip.get_tokenizer` returns.
            preprocess: test transform, PIL image -> [3, H, W].
            device: where to compute; the model's own device by default.
        """
        device = device if device is not None else next(model.parameters()).device
        return cls(model, tokenizer, preprocess, name, Runtime.choose(device, precision))

    @classmethod
    def from_state_dict(
        cls,
        state_dict: Mapping[str, Tensor],
        name: str = "custom",
        *,
        device: str | torch.device | None = None,
        precision: str | None = None,
    ) -> Backbone:
        """Build the model that a state dict in the layout of OpenAI's releases describes, exactly, in float32.

        Raises:
            BackboneError: the layout is another one, or shapes contradict each other.
        """
        from engines.backbones.loading import build_openai

        copies = {name: value.detach().clone() for name, value in state_dict.items()}
        return cls(*build_openai(copies), name, Runtime.choose(device, precision))

    # -- encoding ------------------------------------------------------------------------------------------------

    def encode_image(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, D], not normalised. Gradients flow to `pixels` where it asks for them."""
        return self.vision.encode(pixels.to(self.device))

    def encode_text(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        """C texts -> [C, D], not normalised, without gradient."""
        return self.text.encode(texts, batch)

    def preprocess(self, image: Image.Image) -> Tensor:
        """The model's test transform: PIL image -> [3, H, W]."""
        return self._preprocess(image)

    def train_transform(self, crop_scale: tuple[float, float] = (0.08, 1.0), flip: bool = True) -> TrainTransform:
        """Training views of the papers' protocols: random resized crops, optionally flipped left to right."""
        return TrainTransform(self.pixels, crop_scale, flip)

    # -- facts ---------------------------------------------------------------------------------------------------

    @cached_property
    def embed_dim(self) -> int:
        """D, width of the joint space."""
        return int(self.encode_text(["a"]).shape[1])

    @property
    def text_width(self) -> int:
        """d, width of token embeddings and context vectors."""
        return self.text.width

    @property
    def vision_width(self) -> int:
        """d_v, width of patch tokens and visual prompts."""
        return self.vision.width

    @property
    def image_size(self) -> int:
        """Side of the square images the tower sees, in pixels."""
        return self.pixels.size

    @property
    def mean(self) -> tuple[float, ...]:
        return self.pixels.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.pixels.std

    @property
    def device(self) -> torch.device:
        return self.runtime.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and of all features."""
        return torch.float32

    @cached_property
    def logit_scale(self) -> Tensor:
        """s = exp of the trained temperature, 0-dim; frozen everywhere."""
        return self.model.logit_scale.detach().exp().reshape(())

    @cached_property
    def supports(self) -> Capabilities:
        reason = {}
        if not self.text.causal:
            reason["causal_text"] = "the text tower reads in both directions, so classes share no work"
        if not self.text.deep_prompts:
            reason["deep_text_prompts"] = "the blocks of this text tower cannot be reached one by one"
        if self.vision.reason:
            reason["vision_prompts"] = reason["patch_tokens"] = self.vision.reason
        plain_vit = not self.vision.reason
        return Capabilities(self.text.causal, self.text.deep_prompts, plain_vit, plain_vit, reason)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights and whatever else decides a feature; the same in every process and on every machine."""
        digest = hashlib.sha256()
        quick = any(type(module).__name__ == "QuickGELU" for module in self.model.modules())  # in no weight
        digest.update(json.dumps([quick, asdict(self.pixels)]).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
            digest.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).numpy()).cast("B"))
        return digest.hexdigest()

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self  # frozen for good: copies of a method share it

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, {self.image_size} px, on {self.device})"


def _text_tower(model: Any, tokenizer: Any, runtime: Runtime) -> TextTower:
    """The façade that fits the text side of an open_clip model."""
    module = getattr(model, "text", model)
    pieces = prompt_tokenizer(tokenizer, getattr(module, "context_length", None))
    if not hasattr(module, "token_embedding"):
        return HuggingFaceTextTower(module, pieces, runtime)
    tower = CausalTextTower if is_causal_clip(module) else OpenClipTextTower
    return tower(module, pieces, runtime)
