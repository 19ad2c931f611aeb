"""GRAM: a meta-learned start and regulated gradients for a method (after Li et al., ICCV 2023; reconstruction)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from engines.errors import ConfigError
from engines.prompts.base import MethodInfo, PromptMethod
from engines.prompts.coop import CoOp
from engines.prompts.registry import create_method, method_class
from engines.prompts.settings import MethodConfig, TrainingConfig

if TYPE_CHECKING:
    from engines.prompts.trainer import Examples

Tensors = dict[str, Tensor]
META_RATE, FIRST_STEP, TASKS = 2e-3, 0.05, 4
"""Step size on start and regulator, length of the first inner step beside the prompt's, episodes per step (ours)."""


class GRAMConfig(MethodConfig):
    wrapped: str = Field(
        "coop",
        title="Method to start better",
        description="The method that is trained; GRAM gives it a start and regulates its corrections.",
    )
    wrapped_settings: str = Field(
        "",
        title="Settings of that method",
        description='As JSON where they differ from its own, such as {"n_ctx": 4, "ctx_init": "a photo of a"}.',
        json_schema_extra={"advanced": True},
    )
    episodes: int = Field(
        200, ge=0, le=100_000, title="Rehearsals", description="How many steps of rehearsal come before the training."
    )
    ways: int = Field(
        5, ge=2, le=100, title="Classes per rehearsal", description="How many classes each small task has."
    )
    task_shots: int = Field(
        4, ge=1, le=64, title="Images per class", description="How many images of a class are learned from, and tried."
    )
    regulate: bool = Field(
        True,
        title="Regulate corrections",
        description="Pass every correction of the training through what was learned. Off: the better start alone.",
    )


class Regulator(nn.Module):
    """M(g) = (1 + gamma) g + |g| beta for a gradient row g; identity at first, |gamma| and |beta| at most 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, max(1, width // 8))
        self.outer = nn.Linear(max(1, width // 8), 2 * width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, gradient: Tensor) -> Tensor:
        """[..., d] -> [..., d], row by row."""
        length = gradient.norm(dim=-1, keepdim=True)
        gamma, beta = self.outer(self.inner(gradient / (length + 1e-8)).relu()).chunk(2, dim=-1)
        beta = beta / beta.norm(dim=-1, keepdim=True).clamp_min(1.0)
        return (1 + gamma.tanh()) * gradient + length * beta


class _Loss(nn.Module):
    """A method's loss as a module's forward, so that it can be computed with other values of its parameters."""

    def __init__(self, method: PromptMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, **batch: Any) -> Tensor:
        return self.method.loss(**batch)


class GRAM(PromptMethod):
    """Wraps a method: rehearses small tasks whose support and query come from different image clusters, then trains.

    theta' = theta - a M(grad L(theta; support)), and sum L(theta'; query) is made small over theta and M (section 3,
    as far as it is known). In the training that follows, every gradient goes through M, which stays as it is. The
    rehearsal is of second order where the image tower is frozen, else of first order.

    RECONSTRUCTION: no code, and of the paper only abstract and summaries. The published method rehearses on a large
    collection of captioned images; none is shipped, so the tasks are made of the training images themselves, clusters
    of image features standing for domains: the weakest of the sources that were considered.
    """

    info = MethodInfo(
        name="gram",
        title="GRAM (reconstruction)",
        summary="Rehearses with many small tasks made of your images before it trains another method, so that the"
        " training begins in a better place. It also learns to smooth the corrections of that training.",
        when="You want to try whether a better start helps a method that you use already; compare with it alone.",
        paper="After Li, Gao, Wei, Tang, Zhang, Li, Ji, Tian, Chua, Zhuang, “Gradient-Regulated Meta-Prompt Learning"
        " for Generalizable Vision-Language Models”, ICCV 2023, arXiv 2303.06571",
        cost="minutes",
        parity="There is no official code. Before the first rehearsal it equals the wrapped method exactly.",
        reported="Nothing is quoted: no table could be read, and in a small test of this reconstruction the regulated"
        " step was not better than the plain one.",
    )
    Config = GRAMConfig
    config: GRAMConfig

    @classmethod
    def training_defaults(cls, protocol: str = "few-shot", shots: int = 16) -> TrainingConfig:
        """CoOp's, which is wrapped by default; choose those of another wrapped method by hand."""
        return CoOp.training_defaults(protocol, shots)

    def build(self) -> None:
        cls = method_class(self.config.wrapped)
        if cls.fitting != "gradient" or cls.learns_from != "labels" or cls.phases > 1 or issubclass(cls, GRAM):
            raise ConfigError(
                f"GRAM cannot start {cls.info.title}.", "Choose a method that learns from labels in steps."
            )
        self._rehearses = False
        self.wrapped = create_method(self.config.wrapped, self.backbone, self.class_names, **self._settings())
        self.frozen_images, self.image_views = self.wrapped.frozen_images, self.wrapped.image_views
        self.text_regulator = Regulator(self.backbone.text_width).requires_grad_(False)
        self.image_regulator = Regulator(self.backbone.vision_width).requires_grad_(False)

    def _settings(self) -> dict[str, Any]:
        try:
            given = json.loads(self.config.wrapped_settings or "{}")
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise ConfigError(
                f"“{self.config.wrapped_settings}” are no settings.", 'Write them as JSON, such as {"n_ctx": 4}.'
            )
        return given

    # --- the wrapped method ------------------------------------------------------

    @property
    def class_bound(self) -> bool:
        return self.wrapped.class_bound

    def parameter_groups(self) -> list[dict[str, Any]]:
        return self.wrapped.parameter_groups()

    def text_features(self) -> Tensor:
        return self.wrapped.text_features()

    def adapt(self, raw: Tensor) -> Tensor:
        return self.wrapped.adapt(raw)

    def image_features(self, pixels: Tensor) -> Tensor:
        return self.wrapped.image_features(pixels)

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        return self.wrapped.logits(pixels, features=features)

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        return self.wrapped.loss(pixels, labels, features=features)

    @property
    def preparation(self) -> int:
        return self.config.episodes if self._rehearses else 0

    def begin_step(self, indices: Tensor, epoch: int, phase: int) -> None:
        self.wrapped.begin_step(indices, epoch, phase)

    def end_epoch(self, epoch: int, epochs: int) -> None:
        self.wrapped.end_epoch(epoch, epochs)

    def finish(self, examples: Examples) -> None:
        self.wrapped.finish(examples)

    def backward(
        self, pixels: Tensor | None, labels: Tensor, *, features: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        """The wrapped method's gradients through M; parts of a batch are added up before that."""
        learned = self.wrapped.trainable_parameters()
        if all(p.grad is None for p in learned.values()):
            self._raw: Tensors = {}
        for name, parameter in learned.items():
            parameter.grad = self._raw.get(name)
        loss = self.wrapped.backward(pixels, labels, features=features, weight=weight)
        self._raw = {name: p.grad.clone() for name, p in learned.items() if p.grad is not None}
        if self.config.regulate:
            for name, gradient in self.regulated(self._raw).items():
                learned[name].grad = gradient
        return loss

    # --- the regulator -----------------------------------------------------------

    def regulated(self, gradients: Tensors, values: Tensors | None = None) -> Tensors:
        """M of every prompt's gradient, one M for each tower; other parameters' gradients as they are.

        Args:
            values: other values of the regulators' parameters, for the rehearsal.
        """
        return {name: self._pass(self._tower(name, g), g, values) for name, g in gradients.items()}

    def _tower(self, name: str, gradient: Tensor) -> str:
        if gradient.dim() < 2 or any(word in name for word in ("weight", "bias")):
            return ""  # a layer of the method, no prompt
        side = "image" if "image" in name else "text"
        width = self.backbone.vision_width if side == "image" else self.backbone.text_width
        return side if gradient.shape[-1] == width else ""

    def _pass(self, tower: str, gradient: Tensor, values: Tensors | None) -> Tensor:
        if not tower:
            return gradient
        regulator: Regulator = getattr(self, f"{tower}_regulator")
        if values is None:
            return regulator(gradient)
        own = {name: values[f"{tower}_regulator.{name}"] for name, _ in regulator.named_parameters()}
        return functional_call(regulator, own, (gradient,))

    # --- the rehearsal -----------------------------------------------------------

    def start(self, examples: Examples) -> None:
        self.wrapped.descriptions, self.wrapped.other_classes = self.descriptions, self.other_classes
        self.wrapped.start(examples)
        self._rehearses = self.config.episodes > 0 and not examples.begun and len(examples.labels.unique()) > 1
        if self._rehearses:
            with sdpa_kernel(SDPBackend.MATH):  # the quick kernels have no second derivative
                self._rehearse(_Tasks(self, examples), examples.tick)

    def _rehearse(self, tasks: _Tasks, tick: Callable[[], None]) -> None:
        """Adam on the sum of the query losses, over the start and the regulators."""
        start = self.wrapped.trainable_parameters()
        regulators = {n: p for n, p in self.named_parameters() if "_regulator." in n}
        values = {n: p.detach().clone().requires_grad_() for n, p in (start | regulators).items()}
        optimizer = torch.optim.Adam(values.values(), META_RATE)
        step = 0.0
        for _ in range(self.config.episodes):
            optimizer.zero_grad()
            for _ in range(TASKS):
                loss, support, query = tasks.draw()
                theta = {name: values[name] for name in start}
                raw = self._gradient(loss, theta, support)
                if not step:
                    size = sum(float(t.detach().square().sum()) for t in theta.values()) ** 0.5
                    length = sum(float(g.detach().square().sum()) for g in raw.values()) ** 0.5
                    step = FIRST_STEP * size / max(length, 1e-12)
                bent = self.regulated(raw, values)
                moved = {name: theta[name] - step * bent[name] for name in theta}
                (functional_call(loss, _named(moved), (), query) / TASKS).backward()
            optimizer.step()
            tick()
        with torch.no_grad():
            for name, parameter in (start | regulators).items():
                parameter.copy_(values[name])

    def _gradient(self, loss: nn.Module, theta: Tensors, support: dict[str, Tensor]) -> Tensors:
        value = functional_call(loss, _named(theta), (), support)
        found = torch.autograd.grad(value, list(theta.values()), create_graph=self.frozen_images, allow_unused=True)
        pairs = zip(theta.items(), found, strict=True)
        return {name: torch.zeros_like(t) if g is None else g for (name, t), g in pairs}


def _named(theta: Tensors) -> Tensors:
    return {f"method.{name}": value for name, value in theta.items()}


class _Tasks:
    """Small tasks from the training images: some classes, support and query from different clusters of their images."""

    def __init__(self, gram: GRAM, examples: Examples) -> None:
        self.gram, self.examples = gram, examples
        self.members: list[list[Tensor]] = []
        self.classes: list[int] = []
        features = examples.encoded(gram.backbone, 1)[0].cpu()
        for label in examples.labels.unique().tolist():
            images = (examples.labels == label).nonzero().flatten()
            kmeans = KMeans(min(3, len(images)), n_init=1, random_state=0)
            found = torch.from_numpy(kmeans.fit_predict(features[images].double().numpy()))
            self.members.append([images[found == c] for c in found.unique()])  # equal images: fewer clusters
            self.classes.append(label)
        self.bound = gram.wrapped.class_bound

    def draw(self) -> tuple[_Loss, dict[str, Tensor], dict[str, Tensor]]:
        """(loss of the task's classes, support batch, query batch)."""
        ways = min(self.gram.config.ways, len(self.classes))
        places = torch.randperm(len(self.classes))[:ways].tolist()
        wrapped, labels = self.gram.wrapped, [self.classes[place] for place in places]
        if not self.bound and ways < len(wrapped.class_names):
            wrapped = wrapped.for_classes([wrapped.class_names[label] for label in labels])
            wrapped.descriptions = [self.gram.descriptions[label] for label in labels]
            labels = list(range(ways))
        sides: list[list[Tensor]] = [[], []]
        for place in places:
            clusters = self.members[place]
            order = torch.randperm(len(clusters)).tolist()
            for side, cluster in zip(sides, (order[0], order[-1]), strict=True):
                own = clusters[cluster]
                side.append(own[torch.randint(len(own), (self.gram.config.task_shots,))])
        return _Loss(wrapped), self._batch(sides[0], labels), self._batch(sides[1], labels)

    def _batch(self, chosen: list[Tensor], labels: list[int]) -> dict[str, Tensor]:
        indices, device = torch.cat(chosen), self.gram.backbone.device
        named = torch.tensor(labels).repeat_interleave(len(chosen[0]))
        batch = {"labels": named.to(device)}
        if self.examples.features is not None:
            views = torch.randint(len(self.examples.features), (len(indices),))
            return batch | {"features": self.examples.features[views, indices].to(device)}
        take: Callable[[Tensor, int], Tensor] | None = self.examples.pixels
        assert take is not None
        return batch | {"pixels": take(indices, int(torch.randint(1000, ()))).to(device)}
