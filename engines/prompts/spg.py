"""SPG: soft prompt generation for domain generalisation (Bai et al., ECCV 2024)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from math import ceil, log
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.errors import ConfigError
from engines.prompts.base import MethodInfo, PromptMethod
from engines.prompts.coop import CoOp, CoOpConfig
from engines.prompts.fields import ContextLength, StartingWords
from engines.prompts.settings import MethodConfig, TrainingConfig
from engines.prompts.spg_game import LIMITS, MOMENTUM, NOISE, Discriminator, Drawn, Generator, shorten
from engines.prompts.trainer import Examples, train

VIEWS = 8
"""Views per image that are encoded in advance where a training has no cached ones."""


class SPGConfig(MethodConfig):
    n_ctx: ContextLength = 4
    ctx_init: StartingWords = "a photo of a"
    label_passes: int = Field(
        50,
        ge=1,
        le=1000,
        title="Passes for each domain’s words",
        description="How often each domain’s images are used to learn its own words, before the generator learns.",
    )
    held_out: float = Field(
        0.3,
        ge=0,
        le=0.9,
        title="Set aside in each domain",
        description="Share of each domain’s images that picks its best words instead of teaching them. Classes with too"
        " few images to share give none; without any, the last pass counts.",
    )
    keep_best: bool = Field(
        True,
        title="Keep the best pass",
        description="Keep the generator of the pass that does best on validation images of the training domains, where"
        " there are any (the later of equally good ones).",
        json_schema_extra={"advanced": True},
    )
    draws: int = Field(
        5,
        ge=1,
        le=100,
        title="Prompts per image",
        description="So many prompts answer for every image, and the mean counts. More is steadier and slower.",
    )
    grad_clip: Literal["default", "pacs", "off"] = Field(
        "default",
        title="Limit of corrections",
        description="How corrections are kept small: the paper’s limits, those it chose for PACS, or not at all.",
        json_schema_extra={"advanced": True},
    )


class SPG(PromptMethod):
    """A generator of prompts, G(z, c) for the unit feature c of an image, learned against a discriminator D.

    Stage 1, the first pass: CoOp for each domain by itself gives its words P_d (`prompt_labels`, [K, n, d]).
    Stage 2, all other passes, two corrections per step with the same made-up prompts:
    L_D = mean (D(P_d, c) - 1)^2 + mean D(G(z, c'), c')^2, then L_G = mean (D(G(z, c'), c') - 1)^2.
    Classes play no part in stage 2. An answer is the mean of the class probabilities over prompts of a few fixed z.

    As released: epsilon 0.8 of the norms, limits on each tensor's gradient, best pass on validation images of the
    training domains. Different: probabilities use the temperature, every image gets prompts of its own in any batch,
    c' are drawn at once instead of by a second pass over the images. Made-up prompts begin far too large (up to 1;
    learned words have about 0.02), and in our trials with dozens of images they did not come near.
    """

    info = MethodInfo(
        name="spg",
        title="SPG",
        summary="First learns the words that suit each site or scanner, then a small network that makes up fitting"
        " words for any image. So images from a site it has never seen get words of their own, too.",
        when="Labelled images come from two or more known places, and it must work at one that you have no images of.",
        paper="Bai et al., “Soft Prompt Generation for Domain Generalization”, ECCV 2024, arXiv 2404.19286",
        needs="Labelled images of at least two domains, such as sites or scanners; better thousands than dozens, since"
        " with few the made-up words stay far from the learned ones (then CoOp does better).",
        group="several sites or scanners",
        cost="long",
        parity="Stage 1: logits, gradient, loss and words after 5 steps. Stage 2: made-up prompts, both losses over 5"
        " steps, limited gradients, all values and running statistics after 5 steps, and test answers. All equal the"
        " released code's to 1e-4 in double precision, with SGD and without dropout (under AdamW even two correct"
        " programs drift apart), once one activation that rounding alone decides is put on the released code's side.",
        reported="PACS, ViT-B/16, one domain left out in turn: 97 on average.",
    )
    Config = SPGConfig
    config: SPGConfig
    learns_from: ClassVar[Literal["labels", "unlabelled", "domains", "masks"]] = "domains"
    phases = 2
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # The first pass is stage 1; four at half the step size stand for the linear warm-up. The paper takes ten times
        # the step size for PACS and VLCS; without their thousands of images it drives all numbers to -1 and 1.
        "domain-generalisation": {
            "epochs": 71,
            "batch_size": 32,
            "learning_rate": 2e-4,
            "optimizer": "adamw",
            "weight_decay": 1e-4,
            "warmup_epochs": 5,
            "warmup_learning_rate": 1e-4,
        }
    }
    prompt_labels: Tensor
    best: Tensor
    best_accuracy: Tensor

    @classmethod
    def official_name(cls, name: str) -> str:
        return name if name.split(".")[0] in ("generator", "discriminator") else ""

    def build(self) -> None:
        learner, images, width = self.label_learner(), self.backbone.embed_dim, self.backbone.text_width
        self.layout, start = learner.layout, learner.ctx.detach()
        self.generator = Generator(images, len(start), width)
        self.discriminator = Discriminator(images, len(start), width)
        self.register_buffer("prompt_labels", start[None].clone())
        self.register_buffer("best", torch.zeros(0))  # the best pass's generator, while training
        self.register_buffer("best_accuracy", torch.tensor(-1.0))
        self._seed = int(torch.randint(2**31 - 1000, ()))
        self._examples: Examples | None = None
        self._step: tuple[int, Drawn | None] | None = None  # its phase, and what it plays with
        self._clear()

    def _clear(self) -> None:
        """Forget what a training is given."""
        self._features, self._domains, self._label_loss, self._share = torch.zeros(0), torch.zeros(0), 0.0, 0.0
        self._labelling: Iterator[float] = iter(())

    # --- stage 1 ----------------------------------------------------------------

    def label_learner(self) -> CoOp:
        """What learns one domain's words, as it begins."""
        return CoOp(self.backbone, self.class_names, CoOpConfig(n_ctx=self.config.n_ctx, ctx_init=self.config.ctx_init))

    def start(self, examples: Examples) -> None:
        given = examples.domains if examples.domains is not None else torch.zeros(len(examples.labels))
        names, self._domains = given.unique(return_inverse=True)
        if examples.domains is not None and len(names) < 2:
            raise ConfigError(
                "All training images come from one domain, so there would be nothing to generate but one prompt.",
                "Use CoOp, which learns that prompt directly, or add images of another domain.",
            )
        self._examples, self._step = examples, None
        self.best_accuracy.fill_(-1)
        self._features = examples.encoded(self.backbone, VIEWS)
        self.prompt_labels = self.prompt_labels[:1].repeat(len(names), 1, 1)
        self._labelling = self._label_domains(examples)

    def _label_domains(self, examples: Examples) -> Iterator[float]:
        """Learn `prompt_labels`, one domain after the other; yields the loss of every pass."""
        plain = examples.plain if examples.plain is not None else self._features[0]
        for domain in range(len(self.prompt_labels)):
            kept, held = self._split((self._domains == domain).nonzero().flatten(), examples.labels)
            given = Examples(examples.labels[kept], self._features[:, kept])
            if len(held):
                given.val_features, given.val_labels = plain[held], examples.labels[held]
            learner, best = self.label_learner(), -1.0
            for epoch in train(learner, given, TrainingConfig(epochs=self.config.label_passes), self._seed + domain):
                if epoch.val_accuracy is None or epoch.val_accuracy > best:
                    best = epoch.val_accuracy or 0.0
                    self.prompt_labels[domain] = learner.ctx.detach()
                yield epoch.loss

    def _split(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images of one domain that teach, and those of every class that are held out."""
        order = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(self._seed))]
        classes = [order[labels[order] == label] for label in labels[order].unique()]
        held = torch.cat([own[: int(self.config.held_out * len(own))] for own in classes])
        return order[~torch.isin(order, held)], held

    # --- stage 2 ----------------------------------------------------------------

    def begin_step(self, indices: Tensor, epoch: int, phase: int) -> None:
        if epoch > 0:
            self._step = phase, self._draw(indices, epoch)
            return
        self._step = phase, None
        if phase == 0:  # an equal share of stage 1 in every step, so that it can be watched and stopped
            steps = max(1, len(self._domains) // len(indices))
            share = ceil(len(self.prompt_labels) * self.config.label_passes / steps)
            for loss in islice(self._labelling, share):
                self._label_loss = loss

    def _draw(self, indices: Tensor, epoch: int) -> Drawn:
        """The same for both phases, and whenever the step is done again."""
        draw = torch.Generator().manual_seed(zlib.crc32(f"{self._seed}/{epoch}/{indices.tolist()}".encode()))
        views, images = self._features.shape[:2]
        others = torch.randperm(images, generator=draw)[: len(indices)]
        view = torch.randint(views, (len(others),), generator=draw)
        noise = torch.randn(len(others), NOISE, generator=draw)
        device = self.backbone.device
        raw = self._features[view, others].to(device)
        return Drawn(self.prompt_labels[self._domains[indices].to(device)], self.adapt(raw), noise.to(device))

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        """L_D + L_G, by itself: the images change places to be the others, and their domain is not known."""
        images = self._images(pixels, features)
        noise = torch.randn(len(images), NOISE).to(images.device)
        drawn = Drawn(self.prompt_labels.mean(dim=0).expand(len(images), -1, -1), images.flip(0), noise)
        fake = self.generator(drawn.noise, drawn.others, 0.0 if self.training else None)
        return self.discriminator.loss(images, fake, drawn) + self.discriminator.generator_loss(fake, drawn)

    def backward(
        self, pixels: Tensor | None, labels: Tensor, *, features: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        """The correction of the phase that `begin_step` told of; none during stage 1."""
        if self._step is None:
            return super().backward(pixels, labels, features=features, weight=weight)
        phase, drawn = self._step
        if drawn is None:
            return weight * torch.tensor(self._label_loss, device=self.backbone.device)
        return self.correct(phase, self._images(pixels, features), drawn, weight)

    def correct(self, phase: int, images: Tensor, drawn: Drawn, weight: float = 1.0) -> Tensor:
        """Add `weight` times the gradients of L_D to the discriminator (phase 0) or of L_G to the generator (phase 1).

        The first phase alone moves the running statistics. Gradients are limited when all parts of a batch are there.
        """
        judge = self.discriminator
        with torch.set_grad_enabled(phase == 1):
            fake = self.generator(drawn.noise, drawn.others, 0.0 if phase else MOMENTUM * weight)
        loss = judge.generator_loss(fake, drawn) if phase else judge.loss(images, fake, drawn)
        player: nn.Module = self.generator if phase else judge
        own = list(player.parameters())
        if own[0].grad is None:
            self._share = 0.0
        for parameter, gradient in zip(own, torch.autograd.grad(weight * loss, own), strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        self._share += weight
        if self._share > 1 - 1e-6:
            shorten("generator" if phase else "discriminator", player, LIMITS[self.config.grad_clip])
        return weight * loss.detach()

    @torch.no_grad()
    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Remember the generator where it did best so far."""
        if epoch == 0:
            if epochs < 2:
                raise ConfigError("The first pass learns each domain’s words only.", "Set two or more passes.")
            with torch.enable_grad():
                for loss in self._labelling:
                    self._label_loss = loss
            return
        known = self._examples if self.config.keep_best else None
        if known is None or known.val_features is None or known.val_labels is None:
            return
        answers = self.logits(features=known.val_features.to(self.backbone.device)).argmax(dim=1).cpu()
        accuracy = (answers == known.val_labels).float().mean()
        if accuracy >= self.best_accuracy.cpu():
            self.best_accuracy.fill_(accuracy)
            self.best = self.generator.flat()

    def finish(self, examples: Examples) -> None:
        if len(self.best):
            self.generator.restore(self.best)
        self.best, self._examples, self._step = self.best[:0].clone(), None, None
        self._clear()

    # --- answers ----------------------------------------------------------------

    def conditional_text_features(self, prompts: Tensor) -> Tensor:
        """Unit text features [N, C, D] of prompts [N, n, d]."""
        return F.normalize(self.backbone.text.encode_prompts(self.layout, prompts, per_group=True), dim=-1)

    def answers(self, images: Tensor, noise: Tensor) -> Tensor:
        """Logits [M, B, C] of unit features [B, D] for each of M noises, [M, Z] or [M, B, Z]."""
        noise = noise[:, None].expand(-1, len(images), -1) if noise.dim() == 2 else noise
        each = images.expand(len(noise), *images.shape)
        prompts = self.generator(noise.flatten(0, 1), each.flatten(0, 1))
        text = self.conditional_text_features(prompts).unflatten(0, each.shape[:2])
        return self.backbone.logit_scale * torch.einsum("mbd,mbcd->mbc", each, text)

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        """[B, C]: log of the mean class probabilities over `draws` prompts, or of one while it trains (quicker)."""
        images, draws = self._images(pixels, features), 1 if self._examples else self.config.draws
        draw = torch.Generator().manual_seed(0)  # the same prompts for an image whenever it is asked about
        noise = torch.stack([torch.randn(NOISE, generator=draw) for _ in range(draws)]).to(images.device)
        size = max(1, self.backbone.text.groups_at_once(self.layout) // draws)
        parts = [self.answers(part, noise).log_softmax(dim=2).logsumexp(dim=0) for part in images.split(size)]
        return torch.cat(parts) - log(draws)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name in ("prompt_labels", "best"):  # as many domains as there were in training
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty(stored.shape, device=self.backbone.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
