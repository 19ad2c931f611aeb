"""What all methods share: a frozen backbone, class names, a config, and the estimator's contract.

A method adds its learnable tensors, how it makes text features from them, and its loss. See docs/add-a-method.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.errors import BackboneError, ConfigError
from engines.prompts.official import OfficialNames
from engines.prompts.settings import MethodConfig, TrainingConfig

if TYPE_CHECKING:
    from engines.prompts.trainer import Examples

METHODS: dict[str, type[PromptMethod]] = {}
"""Every method class that was imported, by registry name."""


@dataclass(frozen=True)
class MethodInfo:
    """What a person reads about a method before choosing it; makes the list, the command line and the docs page."""

    name: str
    """Registry name: the paper's short name in lower case."""
    title: str
    """The paper's spelling."""
    summary: str
    """Two plain sentences for a non-specialist."""
    when: str
    """When to choose it, in one sentence."""
    paper: str
    """Authors, title, venue, arXiv number."""
    needs: str = "A few labelled images of every class."
    group: str = "a few labels"
    """What the user has: `a few labels`, `no labels`, `several sites or scanners`, `only normal images`."""
    cost: Literal["none", "seconds", "minutes", "long"] = "seconds"
    """Order of magnitude on a CPU with the shipped model and 16 labelled images per class."""
    parity: str = ""
    """How it was checked against the official implementation."""
    reported: str = ""
    """The paper's headline numbers."""


class PromptMethod(OfficialNames):
    """Base of all methods: a torch module whose parameters are exactly what the method learns.

    B images, C classes, D joint dimension. Features are unit length, logits are `exp(logit_scale)` times cosines.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    fitting: ClassVar[Literal["none", "gradient", "closed-form"]] = "gradient"
    """How it learns: not at all, by gradient steps on `loss`, or in one go by `fit(features, labels)`."""
    learns_from: ClassVar[Literal["labels", "unlabelled", "domains", "masks"]] = "labels"
    """What it is trained with: labelled images; images without labels (none ever reaches it: all are -1); labelled
    images of known domains, beside images of the target domains without labels (`Examples.unlabelled`); images with
    their defects marked (`Examples.masks`)."""
    frozen_images: bool = True
    """Whether the image tower is left as it is, so that its features are computed once and cached."""
    image_views: int = 1
    """How many views of an image a training step needs; where more than one, `loss` gets pixels [V, B, 3, H, W]."""
    new_classes: ClassVar[bool] = True
    """Whether it can be used on classes it was not trained on, with its default settings."""
    phases: ClassVar[int] = 1
    """Corrections per step. With more than one, only parameters that a phase gives a gradient are changed in it."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Training settings that differ from `TrainingConfig`, by protocol; those of few-shot where one is not named."""
    setting_presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Settings of the method that the paper chose differently for a protocol."""

    backbone: Backbone
    config: Any
    descriptions: list[list[str]]
    """Sentences that people wrote about each class (none by default); set before training by who knows them."""
    other_classes: list[str]
    """Names of classes that it will be tested on without having seen an image of them; set like the descriptions."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "info" in cls.__dict__:
            known = METHODS.setdefault(cls.info.name, cls)
            if known.__qualname__ != cls.__qualname__:
                raise ConfigError(f"Two methods are called “{cls.info.name}”.", "Give one of them another name.")
            METHODS[cls.info.name] = cls

    def __init__(self, backbone: Backbone, class_names: list[str], config: MethodConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.class_names = check_class_names(class_names)
        self.descriptions = [[] for _ in self.class_names]
        self.other_classes = []
        self.config = config
        if reason := self.refuse(backbone):
            raise BackboneError(f"{self.info.title} does not work with the model “{backbone.name}”.", reason)
        self.build()
        self.to(backbone.device)
        self._fixed_text: tuple[tuple[int, ...], Tensor] | None = None

    # --- what a method defines ------------------------------------------------

    @classmethod
    def refuse(cls, backbone: Backbone) -> str:
        """Why this method cannot work with `backbone`, in words; empty where it can."""
        return ""

    @classmethod
    def training_defaults(cls, protocol: str = "few-shot", shots: int = 16) -> TrainingConfig:
        """The paper's training settings for a protocol and a number of labelled images per class."""
        return TrainingConfig(**cls.presets.get(protocol, cls.presets.get("few-shot", {})))

    def build(self) -> None:
        """Make the learnable tensors."""

    def text_features(self) -> Tensor:
        """Unit text feature of every class, [C, D]."""
        raise BackboneError(f"The text of {self.info.title} depends on the image.", "Ask for logits instead.")

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        """The training objective, a scalar: cross-entropy of `logits`, mean over the batch."""
        return F.cross_entropy(self.logits(pixels, features=features), required(labels))

    def backward(
        self, pixels: Tensor | None, labels: Tensor, *, features: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        """Add the gradients of `weight * loss`; returns it, detached. Methods that bend gradients override this."""
        loss = self.loss(pixels, labels, features=features) * weight
        loss.backward()
        return loss.detach()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser gets: `params`, and where they differ `rate` (times the step size) and `weight_decay`."""
        return [{"params": list(self.trainable_parameters().values())}]

    def start(self, examples: Examples) -> None:
        """Called before the first step, and again where a training goes on: take what is needed from the images."""

    @property
    def preparation(self) -> int:
        """Steps of its own that `start` takes, calling `examples.tick()` after each; none where it goes on."""
        return 0

    def begin_step(self, indices: Tensor, epoch: int, phase: int) -> None:
        """Called before `backward` with the positions [B] in the examples that it will get, and the phase from 0."""

    def finish(self, examples: Examples) -> None:
        """Called after the last pass."""

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after epoch number `epoch` (from 0) of `epochs`."""

    @property
    def class_bound(self) -> bool:
        """Whether what it learned belongs to its classes, so that it cannot be used on others."""
        return not self.new_classes

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images that it wants to see."""
        return self.backbone.image_size

    def prepare(self, image: Image.Image) -> Tensor:
        """An image as the pixels [3, H, W] that it wants to see; the model's own test transform."""
        return self.backbone.preprocess(image)

    def untrained(self) -> PromptMethod:
        """What its results are compared with: the ready-made sentence about the same classes."""
        from engines.prompts.registry import create_method

        return create_method("zero-shot", self.backbone, self.class_names)

    @property
    def undescribed(self) -> list[str]:
        """Names of classes that lack descriptions which the method would use; none for methods that use none."""
        return []

    # --- what every method has ------------------------------------------------

    def image_features(self, pixels: Tensor) -> Tensor:
        """Unit image features of normalised pixels [B, 3, H, W] -> [B, D]."""
        with torch.no_grad():
            raw = self.backbone.encode_image(pixels)
        return self.adapt(raw)

    def adapt(self, raw: Tensor) -> Tensor:
        """Unit image features of what the frozen image tower gives [B, D]; adapters behind it override this."""
        return F.normalize(raw, dim=-1)

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        """Class scores [B, C] of `pixels` [B, 3, H, W] or of cached image features [B, D] (any length)."""
        return self.backbone.logit_scale * self._images(pixels, features) @ self._text().T

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Name -> learnable tensor."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def for_classes(self, class_names: list[str]) -> Self:
        """The same learned prompt around other class names.

        Raises:
            ConfigError: what was learned belongs to the training classes.
        """
        if self.class_bound:
            raise ConfigError(
                f"This {self.info.title} learned something for each of its classes, so it cannot be used on others.",
                "Choose a setting that is shared by all classes.",
            )
        other = type(self)(self.backbone, class_names, self.config)
        other.load_state_dict(self.state_dict())
        return other.train(self.training)

    def save(self, folder: str | Path) -> Path:
        """Write `prompt.safetensors` and `prompt.json` into `folder` and return it."""
        from engines.prompts.artifact import save_prompt

        return save_prompt(self, Path(folder))

    # --- helpers for methods --------------------------------------------------

    def sentence_features(self, templates: Sequence[str]) -> Tensor:
        """Unit features [C, D] of ready-made sentences, without gradient; {} stands for the class name.

        Of several templates the unit mean of their unit features (Radford et al., section 3.1.4).
        """
        names = [name.replace("_", " ") for name in self.class_names]
        sentences = [template.replace("{}", name) for name in names for template in templates]
        each = F.normalize(self.backbone.encode_text(sentences), dim=-1)
        return F.normalize(each.view(len(names), len(templates), -1).mean(dim=1), dim=-1)

    def _images(self, pixels: Tensor | None, features: Tensor | None) -> Tensor:
        if features is not None:
            if not self.frozen_images:
                raise ConfigError(f"{self.info.title} changes the image tower, so it needs the images themselves.")
            return self.adapt(features)
        return self.image_features(required(pixels))

    def _text(self) -> Tensor:
        """`text_features()`, computed once while nothing is learned: the classes of a prediction are fixed."""
        if torch.is_grad_enabled() and self.trainable_parameters():
            return self.text_features()
        versions = tuple(t._version for t in (*self.parameters(), *self.buffers()))
        if self._fixed_text is None or self._fixed_text[0] != versions:
            with torch.no_grad():
                self._fixed_text = versions, self.text_features()
        return self._fixed_text[1]


def required(tensor: Tensor | None) -> Tensor:
    """`tensor`, or a `TypeError` where a caller left it out."""
    if tensor is None:
        raise TypeError("give pixels (or features) and, for a loss, labels")
    return tensor


def check_class_names(class_names: list[str]) -> list[str]:
    """Class names as given, or a `ConfigError`: at least one, none empty, no doubles."""
    names = [str(name) for name in class_names]
    if not names:
        raise ConfigError("There are no classes.", "Give at least one class name.")
    if any(not name.strip() for name in names):
        raise ConfigError("A class has no name.", "Give every class a name that says what it shows.")
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"Two classes are called “{double}”.", "Rename one of them.")
    return names
