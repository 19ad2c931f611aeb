"""Training a prompt: tensors in, events out. Knows nothing of data bases, jobs or pages."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.backbones import Backbone
from engines.errors import ConfigError
from engines.files import whole_file
from engines.prompts.base import PromptMethod
from engines.prompts.settings import TrainingConfig

Pixels = Callable[[Tensor, int], Tensor]
"""(image indices [B], epoch) -> normalised pixels [B, 3, H, W]; must depend on these two alone."""


@dataclass
class Examples:
    """Training images, labelled or not.

    Attributes:
        labels: class positions [N]; all -1 for methods that learn from images without labels.
        features: image features [V, N, D] of V cached views, for methods with a frozen image tower.
        pixels: makes pixels on demand; used where `features` is None.
        val_features: features [M, D] of validation images, where there are any; `val_labels` [M] theirs.
        plain: features [N, D] of the images as they are, uncropped, where the image tower is frozen.
        domains: domain number [N] of each image, from 0, for methods that learn from several domains.
        masks: marked defects [B, H, W] of 0 and 1, called like `pixels`.
        still: whether `pixels` and `masks` give the same in every pass.
        unlabelled: images of the target domains, without labels, for methods that adapt to them.
        tick: called by `PromptMethod.start` after each of its own steps (`preparation`); may raise to stop.
        begun: whether this training goes on, so that what `start` would learn comes from the checkpoint.
    """

    labels: Tensor
    features: Tensor | None = None
    pixels: Pixels | None = None
    val_features: Tensor | None = None
    val_labels: Tensor | None = None
    plain: Tensor | None = None
    domains: Tensor | None = None
    masks: Pixels | None = None
    still: bool = False
    unlabelled: Examples | None = None
    tick: Callable[[], None] = lambda: None
    begun: bool = False

    def encoded(self, backbone: Backbone, views: int, batch: int = 256) -> Tensor:
        """Features [V, N, D] of the training images: the cached views, or `views` fresh ones of each."""
        if self.features is not None:
            return self.features
        assert self.pixels is not None
        parts = torch.arange(len(self.labels)).split(batch)
        made = [[backbone.encode_image(self.pixels(part, view)) for part in parts] for view in range(views)]
        return torch.stack([torch.cat(view) for view in made])


@dataclass(frozen=True)
class Epoch:
    """One pass is over. Accuracies are fractions of 1, or None where they were not measured."""

    number: int
    """Counted from 1."""
    of: int
    loss: float
    learning_rate: float
    train_accuracy: float | None = None
    val_accuracy: float | None = None
    note: str = ""
    """What a person should know, such as a batch that had to be split."""


def train(
    method: PromptMethod,
    examples: Examples,
    config: TrainingConfig,
    seed: int,
    checkpoint: Path | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Epoch]:
    """Train `method` in place and yield an `Epoch` after every pass.

    With `checkpoint`, the state is saved there after each pass; a later call with the same arguments goes on from it
    and ends with the same values as an undisturbed training. It yields the passes that are over once more, in case they
    were not noted before the program was killed. `on_step(steps done, of)` is called after every step, those of the
    method's own preparation included, and may raise to stop.

    Raises:
        ConfigError: the loss is no longer a finite number.
    """
    if method.fitting == "none":
        return
    if method.fitting == "closed-form":
        yield _fit(method, examples)
        return
    yield from _Training(method, examples, config, seed, checkpoint, on_step).run()


def _fit(method: PromptMethod, examples: Examples) -> Epoch:
    features = examples.features
    if features is None:
        raise TypeError(f"{method.info.title} needs cached features")
    device = method.backbone.device
    method.fit(features, examples.labels, examples.val_features, examples.val_labels)  # type: ignore[operator]
    parts = zip(features[0].split(4096), examples.labels.split(4096), strict=True)
    with torch.no_grad():
        losses = [float(method.loss(features=x.to(device), labels=y.to(device))) * len(y) for x, y in parts]
    loss = sum(losses) / len(examples.labels)
    return Epoch(1, 1, loss, 0.0, _train_accuracy(method, examples))


class _Training:
    """Gradient training: the loop of Dassl, with a fixed order for every (seed, epoch)."""

    def __init__(
        self,
        method: PromptMethod,
        examples: Examples,
        config: TrainingConfig,
        seed: int,
        checkpoint: Path | None,
        on_step: Callable[[int, int], None],
    ) -> None:
        self.method, self.examples, self.config, self.seed = method, examples, config, seed
        self.checkpoint, self.on_step = checkpoint, on_step
        self.prepared = 0
        images = len(examples.labels)
        self.batch = min(config.batch_size, images)
        # An incomplete last batch is dropped, as Dassl's loader does (epochs of fewer images are one batch).
        self.steps = max(1, images // self.batch)
        self.parts = 1
        """In how many parts a batch is worked through; more than one after memory ran out."""
        self.note = ""
        self.history: list[Epoch] = []
        earlier = self._earlier()
        method.start(replace(examples, tick=self._tick, begun=earlier is not None))
        self.optimizer = _optimizer(method, config)
        if earlier is not None:
            self._go_on(earlier)

    def run(self) -> Iterator[Epoch]:
        yield from self.history
        self.method.train()
        for epoch in range(len(self.history), self.config.epochs):
            yield self._epoch(epoch)
        self.method.eval()
        self.method.finish(self.examples)

    def _epoch(self, epoch: int) -> Epoch:
        rate = self._set_rate(epoch)
        stream = zlib.crc32(f"{self.seed}/{epoch}".encode())
        torch.manual_seed(stream)  # for methods that draw inside their loss
        generator = torch.Generator().manual_seed(stream)
        order = torch.randperm(len(self.examples.labels), generator=generator)
        total = torch.zeros((), device=self.method.backbone.device)
        for step in range(self.steps):
            if self.config.schedule == "cosine-steps":
                rate = self._set_rate(epoch + step / self.steps)
            indices = order[step * self.batch : (step + 1) * self.batch]
            views = None
            if self.examples.features is not None:
                views = torch.randint(len(self.examples.features), (len(indices),), generator=generator)
            total += self._step(indices, views, epoch)  # stays on the device: no wait for it in every step
            self._report_step(self.method.preparation + epoch * self.steps + step + 1)
        loss = float(total) / self.steps
        if not isfinite(loss):
            raise ConfigError(
                f"The training diverged in pass {epoch + 1}: its loss is no longer a number.",
                f"Choose a smaller step size than {self.config.learning_rate:g}, or another seed.",
            )
        self.method.end_epoch(epoch, self.config.epochs)
        result = self._result(epoch, loss, rate)
        self.history.append(result)
        self._save()
        return result

    def _tick(self) -> None:
        self.prepared += 1
        self._report_step(self.prepared)

    def _report_step(self, done: int) -> None:
        self.on_step(done, self.method.preparation + self.config.epochs * self.steps)

    def _set_rate(self, epoch: float) -> float:
        rate = self.config.rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        return rate

    def _step(self, indices: Tensor, views: Tensor | None, epoch: int) -> Tensor:
        """Every phase of one step; returns the loss of the last."""
        loss = torch.zeros((), device=self.method.backbone.device)
        for phase in range(self.method.phases):
            loss = self._phase(indices, views, epoch, phase)
        return loss

    def _phase(self, indices: Tensor, views: Tensor | None, epoch: int, phase: int) -> Tensor:
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                loss = torch.zeros((), device=self.method.backbone.device)
                for part, view in zip(
                    indices.chunk(self.parts),
                    views.chunk(self.parts) if views is not None else [None] * self.parts,
                    strict=False,
                ):
                    self.method.begin_step(part, epoch, phase)
                    loss += self._backward(part, view, epoch, weight=len(part) / len(indices))
                self.optimizer.step()
                return loss
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or self.parts >= len(indices):
                    raise
                self.parts *= 2
                size = -(-len(indices) // self.parts)
                self.note = f"Memory ran out, so each step now works through its images {size} at a time."
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    def _backward(self, indices: Tensor, views: Tensor | None, epoch: int, weight: float) -> Tensor:
        device, examples = self.method.backbone.device, self.examples
        labels = examples.labels[indices].to(device)
        if examples.features is not None:
            features = examples.features[views, indices].to(device)
            return self.method.backward(None, labels, features=features, weight=weight)
        return self.method.backward(self._pixels(indices, epoch).to(device), labels, weight=weight)

    def _pixels(self, indices: Tensor, epoch: int) -> Tensor:
        """[B, 3, H, W], or [V, B, 3, H, W] for methods that need several views: further ones as of later passes."""
        assert self.examples.pixels is not None
        if self.method.image_views == 1:
            return self.examples.pixels(indices, epoch)
        later = [epoch + view * self.config.epochs for view in range(self.method.image_views)]
        return torch.stack([self.examples.pixels(indices, number) for number in later])

    def _result(self, epoch: int, loss: float, rate: float) -> Epoch:
        train_accuracy, val_accuracy, known = _train_accuracy(self.method, self.examples), None, self.examples
        if known.features is not None and known.val_features is not None and known.val_labels is not None:
            val_accuracy = _accuracy(self.method, known.val_features, known.val_labels)
        note, self.note = self.note, ""
        return Epoch(epoch + 1, self.config.epochs, loss, rate, train_accuracy, val_accuracy, note)

    # --- checkpoints ----------------------------------------------------------

    def _signature(self) -> str:
        """What a checkpoint belongs to; another training does not go on from it."""
        labels = zlib.crc32(self.examples.labels.cpu().numpy().tobytes())
        settings = f"{self.method.config.model_dump_json()} {self.config.model_dump_json()}"
        return f"{self.method.info.name} {settings} {self.seed} {labels}"

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        state = {
            "signature": self._signature(),
            "history": [asdict(epoch) for epoch in self.history],
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with whole_file(self.checkpoint) as file:  # a cut write leaves the older checkpoint whole
            torch.save(state, file)

    def _earlier(self) -> dict[str, Any] | None:
        """The state after the last pass of an attempt that was killed."""
        if self.checkpoint is None or not self.checkpoint.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception:  # a damaged checkpoint costs time, never the run
            return None
        return state if state.get("signature") == self._signature() else None

    def _go_on(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]


def _optimizer(method: PromptMethod, config: TrainingConfig) -> torch.optim.Optimizer:
    groups, rate, decay = method.parameter_groups(), config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=config.momentum, weight_decay=decay)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, rate, (config.beta1, 0.999), eps=config.epsilon, weight_decay=decay)
    return torch.optim.AdamW(groups, rate, (config.beta1, 0.999), eps=config.epsilon, weight_decay=decay)


def _out_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in words or "can't allocate" in words
    )


@torch.no_grad()
def _accuracy(method: PromptMethod, features: Tensor, labels: Tensor) -> float:
    logits = method.logits(features=features.to(method.backbone.device))
    return float((logits.argmax(dim=1).cpu() == labels).float().mean())


def _train_accuracy(method: PromptMethod, examples: Examples) -> float | None:
    """On the first cached view; None without cached views, and where images have no labels."""
    if examples.features is None or bool((examples.labels < 0).any()):
        return None
    return _accuracy(method, examples.features[0], examples.labels)


@torch.no_grad()
def probabilities(
    method: PromptMethod,
    features: Tensor | None = None,
    pixels: Iterable[Tensor] = (),
    batch: int = 4096,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Class probabilities [N, C] of cached features [N, D], or of batches of pixels; float32 on the CPU.

    `on_batch(images done)` is called after every batch and may raise to stop.
    """
    method.eval()
    device, rows, done = method.backbone.device, [], 0
    batches: Iterable[Tensor] = features.split(batch) if features is not None else pixels
    for part in batches:
        part = part.to(device)
        logits = method.logits(features=part) if features is not None else method.logits(part)
        rows.append(logits.float().softmax(dim=1).cpu().numpy())
        done += len(part)
        on_batch(done)
    return np.concatenate(rows) if rows else np.zeros((0, len(method.class_names)), np.float32)
