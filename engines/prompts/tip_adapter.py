"""Tip-Adapter and Tip-Adapter-F: labelled images as a memory (Zhang et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.prompts.base import MethodInfo, PromptMethod
from engines.prompts.fields import PLAIN, Sentence
from engines.prompts.settings import MethodConfig, TrainingConfig
from engines.prompts.zero_shot import shipped_templates

if TYPE_CHECKING:
    from engines.prompts.trainer import Examples

VIEWS = 10
"""Random crops of every image that are averaged into one entry of the memory (`augment_epoch`)."""

Limit = Annotated[float, Field(gt=0.1, le=1000, json_schema_extra={"advanced": True})]
Steps = Annotated[int, Field(ge=1, le=1000, json_schema_extra={"advanced": True})]


class TipAdapterConfig(MethodConfig):
    template: Sentence = PLAIN
    ensemble: Literal["none", "imagenet-7", "imagenet-80"] = Field(
        "none",
        title="Sentences averaged",
        description="Averages 7 or 80 general sentences instead of yours, as the official code does for ImageNet.",
    )
    init_alpha: float = Field(
        1.17,
        ge=0,
        le=1000,
        title="Weight of the images",
        description="How much the likeness to labelled images counts beside the sentence (α). Official values run from"
        " 1.17 for everyday photos to 10 for flowers.",
    )
    init_beta: float = Field(
        1.0,
        gt=0,
        le=1000,
        title="Sharpness",
        description="How quickly the say of a labelled image fades as a new one looks less like it (β).",
    )
    search_hp: bool = Field(
        True,
        title="Try out both",
        description="Choose the weight and the sharpness that do best on validation images, where there are any.",
    )
    search_scale_alpha: Limit = Field(3.0, title="Largest weight tried", description="Weights from 0.1 up to this.")
    search_scale_beta: Limit = Field(7.0, title="Largest sharpness tried", description="From 0.1 up to this.")
    search_step_alpha: Steps = Field(20, title="Weights tried", description="How many between 0.1 and the largest.")
    search_step_beta: Steps = Field(200, title="Sharpnesses tried", description="How many between 0.1 and the largest.")
    ties: Literal["first", "nearest"] = Field(
        "first",
        title="Among equals",
        description="With few validation images many choices do equally well. The official code takes the first, which"
        " is the smallest; nearest takes the one closest to the values above.",
        json_schema_extra={"advanced": True},
    )
    model_scale: bool = Field(
        False,
        title="The model’s own scale",
        description="The official code weighs the sentence with the constant 100, the scale of OpenAI’s models. Switch"
        " on for models with another scale, so that the weight of the images keeps its meaning.",
        json_schema_extra={"advanced": True},
    )


class TipAdapter(PromptMethod):
    """logits = 100 u . w_c + alpha sum_n exp(-beta (1 - u . f_n)) [label n is c] (section 3.1).

    f_n is the unit mean of the RAW features of random crops of labelled image n; `keys` [N, D] holds them, `values`
    [N, C] the labels. The official code chooses alpha and beta on test images for ImageNet, and the best pass of
    Tip-Adapter-F always; that is not taken over: validation images decide, and the last pass counts.
    """

    info = MethodInfo(
        name="tip-adapter",
        title="Tip-Adapter",
        summary="Keeps the labelled images as a memory and asks which of them a new image resembles, beside what the"
        " ready-made sentence says. Nothing is trained, so it is ready at once.",
        when="You want to know in a moment whether your labelled images help.",
        paper="Zhang, Zhang, Fang, Gao, Li, Dai, Qiao, Li, “Tip-Adapter: Training-free Adaption of CLIP for Few-shot"
        " Classification”, ECCV 2022, arXiv 2207.09519",
        cost="seconds",
        parity="Memory, both parts of the logits, the whole grid of weights and sharpnesses and the choice among them"
        " equal the official code's to 1e-4. Choosing on test images is not taken over.",
        reported="RN50, mean of 11 data sets, 1 / 2 / 4 / 8 / 16 labelled images per class:"
        " 62.33 / 64.62 / 66.54 / 68.50 / 70.32.",
    )
    Config = TipAdapterConfig
    config: TipAdapterConfig
    fitting: ClassVar[Literal["none", "gradient", "closed-form"]] = "closed-form"
    new_classes = False
    official_names: ClassVar[dict[str, str]] = {"keys": "adapter.weight", "values": "cache_values"}

    @classmethod
    def training_defaults(cls, protocol: str = "few-shot", shots: int = 16) -> TrainingConfig:
        """10 mirrored crops of at least half an image; for Tip-Adapter-F 20 passes of AdamW, cosine step by step."""
        return TrainingConfig(
            epochs=20,
            batch_size=256,
            learning_rate=0.001,
            views=VIEWS,
            crop_scale=0.5,
            optimizer="adamw",
            weight_decay=0.01,
            epsilon=1e-4,
            schedule="cosine-steps",
            warmup_epochs=0,
        )

    def build(self) -> None:
        self.values: Tensor
        self.alpha: Tensor
        self.beta: Tensor
        self.keys = nn.Parameter(torch.empty(0), requires_grad=self.fitting == "gradient")
        self.register_buffer("alpha", torch.tensor(self.config.init_alpha))
        self.register_buffer("beta", torch.tensor(self.config.init_beta))
        self._make_room(0)

    @cached_property
    def ready_made(self) -> Tensor:
        """Unit features [C, D] of the ready-made sentences, computed once."""
        name = self.config.ensemble
        return self.sentence_features([self.config.template] if name == "none" else shipped_templates(name))

    def text_features(self) -> Tensor:
        return self.ready_made

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        images = self._images(pixels, features)
        remembered = torch.exp(-self.beta * (1 - images @ self.keys.T)) @ self.values
        return self.sentence_logits(images) + self.alpha * remembered

    def sentence_logits(self, images: Tensor) -> Tensor:
        """What the ready-made sentence says of unit image features [B, D] -> [B, C]."""
        return (self.backbone.logit_scale if self.config.model_scale else 100.0) * images @ self.ready_made.T

    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Make the memory from raw features [V, N, D] of V views, or [N, D], and labels [N]."""
        views = features if features.dim() == 3 else features[None]
        self._make_room(len(labels))
        with torch.no_grad():
            self.keys.copy_(F.normalize(views.to(self.keys.device).mean(dim=0), dim=-1))
            self.values.copy_(F.one_hot(labels, len(self.class_names)))

    def fit(
        self,
        features: Tensor,
        labels: Tensor,
        val_features: Tensor | None = None,
        val_labels: Tensor | None = None,
    ) -> None:
        """`remember`, then `search` where there are validation images (features [M, D], labels [M])."""
        self.remember(features, labels)
        if self.config.search_hp and val_features is not None and val_labels is not None and len(val_labels):
            self.search(val_features, val_labels)

    @torch.no_grad()
    def search(self, features: Tensor, labels: Tensor) -> Tensor:
        """Set alpha and beta to what does best on features [M, D] with labels [M]; returns all accuracies.

        Of settings that do equally well the first counts, beta in the outer loop; where nothing is ever right, they
        stay as they are (the official code then returns zeros).

        Returns:
            [betas, alphas], fractions of 1.
        """
        images, labels = self._images(None, features.to(self.keys.device)), labels.to(self.keys.device)
        farness, said = 1 - images @ self.keys.T, self.sentence_logits(images)
        betas = _grid(self.config.search_scale_beta, self.config.search_step_beta)
        alphas = _grid(self.config.search_scale_alpha, self.config.search_step_alpha)
        rows = []
        for beta in betas:
            remembered = torch.exp(-beta * farness) @ self.values
            rows.append([((said + alpha * remembered).argmax(dim=1) == labels).float().mean() for alpha in alphas])
        grid = torch.stack([torch.stack(row) for row in rows]).cpu()
        best = np.argwhere(grid.numpy() == grid.max().item())
        if self.config.ties == "nearest":
            here = np.log(
                [[betas[i] / self.config.init_beta, alphas[j] / max(self.config.init_alpha, 0.1)] for i, j in best]
            )
            best = best[np.abs(here).sum(axis=1).argsort(kind="stable")]
        if grid.max() > 0:
            self.beta.fill_(betas[best[0][0]])
            self.alpha.fill_(alphas[best[0][1]])
        return grid

    def load_official(self, state_dict: Mapping[str, Any]) -> None:
        """Take over `adapter.weight` [N, D] and `cache_values` [N, C]; alpha and beta where they are given."""
        given = dict(state_dict.get("state_dict", state_dict))
        if "adapter.weight" in given:
            self._make_room(len(given["adapter.weight"]))
        super().load_official({"alpha": self.alpha, "beta": self.beta} | given)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        self._make_room(len(state_dict[f"{prefix}keys"]))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _make_room(self, entries: int) -> None:
        """Size the memory; what it held is lost, unless the size stays."""
        shape = (entries, self.backbone.embed_dim)
        if self.keys.shape != shape:
            device = self.backbone.device
            self.keys = nn.Parameter(torch.zeros(shape, device=device), requires_grad=self.keys.requires_grad)
            self.register_buffer("values", torch.zeros(entries, len(self.class_names), device=device))


class TipAdapterF(TipAdapter):
    """Tip-Adapter whose `keys` are learned by cross-entropy (section 3.2); they are not brought back to unit length.

    `init_alpha` and `init_beta` hold during training; the search follows it.
    """

    info = MethodInfo(
        name="tip-adapter-f",
        title="Tip-Adapter-F",
        summary="Keeps the labelled images as a memory, like Tip-Adapter, and then tunes the memory itself for some"
        " passes. A strong choice with many labelled images; it belongs to its classes.",
        when="Eight or more labelled images of every class, and only these classes matter.",
        paper=TipAdapter.info.paper,
        cost="seconds",
        parity="Learning rate, logits, losses, gradient and the memory after 1 and 5 steps equal the official code's to"
        " 1e-4. Choosing the best pass on test images is not taken over: the last pass counts.",
        reported="RN50, mean of 11 data sets, 1 / 2 / 4 / 8 / 16 labelled images per class:"
        " 64.60 / 66.65 / 69.67 / 72.45 / 75.83.",
    )
    fitting: ClassVar[Literal["none", "gradient", "closed-form"]] = "gradient"

    def start(self, examples: Examples) -> None:
        self.remember(examples.encoded(self.backbone, VIEWS), examples.labels)

    def finish(self, examples: Examples) -> None:
        if self.config.search_hp and examples.val_features is not None and examples.val_labels is not None:
            self.search(examples.val_features, examples.val_labels)


def _grid(largest: float, steps: int) -> list[float]:
    """`steps` values from 0.1, the upper end excluded."""
    return [0.1 + i * (largest - 0.1) / steps for i in range(steps)]
