"""CoOp around described classes: the AS and AE variants of PCB (Bang, Ahn, Lee, CVPR 2024)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.prompts.base import MethodInfo
from engines.prompts.coop import CoOp, CoOpConfig

JOINED = "{}, which is/has {}"
"""How a class name and a phrase about it stand in a prompt."""


class CoOpDescriptionsConfig(CoOpConfig):
    combine: Literal["similarity", "embedding"] = Field(
        "similarity",
        title="Put phrases together by",
        description="Whether an image is compared with every phrase and the scores are averaged (similarity, the"
        " paper's AS), or the phrases' features are averaged first and compared once (embedding, AE).",
    )


class CoOpDescriptions(CoOp):
    """CoOp with one prompt “<context> <class>, which is/has <phrase>.” for every phrase about a class.

    t_p are features of the prompts p of class c, P_c of them, u unit image features, s the model's scale.

    - similarity (AS): logit_c = mean over p of s u . t_p / |t_p|
    - embedding (AE): logit_c = s u . m / |m| with m = mean over p of t_p

    The context `ctx` is [M, d] for all prompts, or with `csc` [P, M, d]: as in the official code every phrase has one
    of its own, not every class. A class that nobody described has CoOp's plain prompt. Phrases are read from
    `descriptions`, without the stop at their end; they are saved with the prompt, as it is not the same without them.
    """

    info = MethodInfo(
        name="coop-descriptions",
        title="CoOp with descriptions",
        summary="Learns the words in front of the class name like CoOp, but behind the name stands what one sees: short"
        " phrases such as “irregular border”. Every class gets one prompt for each of its phrases.",
        when="You can say in a few short phrases what each class looks like.",
        paper="Bang, Ahn, Lee, “Active Prompt Learning in Vision Language Models”, CVPR 2024, arXiv 2311.11178 (its"
        " variants AS and AE)",
        needs="A few labelled images of every class, and short phrases about each class (written on the Data page)."
        " A class without phrases has its name alone; without any phrases this is CoOp.",
        cost="seconds",
        parity="Prompts, features, logits, loss, gradient, and context and loss after 5 steps equal the official code's"
        " to 1e-4 (AS with shared and separate context, AE with shared context, no phrases with separate context).",
        reported="ViT-B/32, BADGE + PCB (AS), 8 labelled images per class, mean of 7 data sets: 74.36 (random choice"
        " without descriptions: 70.54, ready-made prompt: 59.44), as quoted by a later paper.",
    )
    Config = CoOpDescriptionsConfig
    config: CoOpDescriptionsConfig
    official_names: ClassVar[dict[str, str]] = CoOp.official_names | {"phrases": ""}

    def build(self) -> None:
        start, self._words = self.starting_context()
        self.ctx = nn.Parameter(start)
        self.register_buffer("phrases", torch.empty(0, dtype=torch.uint8))
        self._lay_out()

    @property
    def descriptions(self) -> list[list[str]]:
        """Phrases about each class; setting them writes the prompts anew."""
        return [list(phrases) for phrases in self._descriptions]

    @descriptions.setter
    def descriptions(self, lists: list[list[str]]) -> None:
        cleaned = [[text for phrase in phrases if (text := phrase.strip().rstrip(".").rstrip())] for phrases in lists]
        before = getattr(self, "_descriptions", None)
        self._descriptions = cleaned
        if "phrases" in self._buffers and cleaned != before:
            self._lay_out()

    @property
    def undescribed(self) -> list[str]:
        """Names of the classes that have the plain prompt, as there is no phrase about them."""
        return [name for name, own in zip(self.class_names, self._descriptions, strict=True) if not own]

    def prompts(self) -> list[tuple[int, str]]:
        """Class position and text behind the context of each of the P prompts, class by class."""
        named = list(zip(self.class_names, self._descriptions, strict=True))
        return [
            (place, JOINED.format(name, phrase) if phrase else name)
            for place, (name, own) in enumerate(named)
            for phrase in own or [""]
        ]

    def random_context(self) -> Tensor:
        """N(0, 0.02^2), one for all prompts or one for each."""
        own = [len(self.prompts())] if self.config.csc else []
        return torch.empty(*own, self.config.n_ctx, self.backbone.text.width).normal_(std=0.02)

    def text_features(self) -> Tensor:
        """What logits are cosines with, [C, D]; under `similarity` shorter than a unit where phrases disagree."""
        features = self.backbone.text.encode_prompts(self.layout, self.context())
        if self.config.combine == "embedding":
            return F.normalize(self._class_means(features), dim=-1)
        return self._class_means(F.normalize(features, dim=-1))

    def _class_means(self, rows: Tensor) -> Tensor:
        """Rows [P, D] of prompts, averaged by class: [C, D]."""
        sums = rows.new_zeros(len(self.class_names), rows.shape[1]).index_add(0, self._class_of, rows)
        return sums / self._class_of.bincount(minlength=len(self.class_names))[:, None]

    def _lay_out(self) -> None:
        """Prompts for the phrases there are; with `csc`, contexts are drawn anew where the number of those changed."""
        owners, texts = zip(*self.prompts(), strict=True)
        layout = self.backbone.text.layout(
            texts, self.ctx.shape[-2], self.config.class_token_position, self._words or None
        )
        self.layout = layout
        device = self.backbone.device
        self._class_of = torch.tensor(owners, device=device)
        described = dict(zip(self.class_names, self._descriptions, strict=True))
        self.phrases = torch.frombuffer(bytearray(json.dumps(described).encode()), dtype=torch.uint8).to(device)
        if self.ctx.dim() == 3 and len(self.ctx) != len(texts):
            self.ctx.data = self.random_context().to(device)  # the same parameter: an optimiser may hold it already
        self._fixed_text = None

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Takes over the phrases first, class by class: they decide how many prompts there are."""
        key = f"{prefix}phrases"
        if key in state_dict:
            described = _read(state_dict[key])
            self.descriptions = [described.get(name, []) for name in self.class_names]
            state_dict = {**state_dict, key: self.phrases}
        super()._load_from_state_dict(state_dict, prefix, *args)


def _read(phrases: Tensor) -> dict[str, list[str]]:
    """Phrases by class name, as `phrases` holds them in JSON.

    Raises:
        RuntimeError: they are damaged (what torch raises for any state that does not fit).
    """
    try:
        return {str(name): [str(phrase) for phrase in own] for name, own in json.loads(_bytes(phrases)).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise RuntimeError("The phrases about the classes are damaged.") from error


def _bytes(values: Tensor) -> bytes:
    return values.to("cpu", torch.uint8).numpy().tobytes()
