"""AD-CLIP: adapting domains in prompt space (Singha et al., ICCV workshop OOD-CV 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from engines.prompts.base import MethodInfo, required
from engines.prompts.settings import MethodConfig
from engines.prompts.style import Looks, StylePrompt, block_by_block, linears, over_blocks

if TYPE_CHECKING:
    from engines.prompts.trainer import Examples


class ADCLIPConfig(MethodConfig):
    mapper_input: Literal["target", "source"] = Field(
        "target",
        title="What the style mapper sees",
        description="It learns to guess the look of your labelled images from a target image, so that later a target"
        " image is enough (paper). “source” is the released code, where it never sees a target image in training.",
    )
    entropy: Literal["plain", "released"] = Field(
        "plain",
        title="Measure of certainty",
        description="Plain entropy of the answers on target images, or the form of the released code, which first"
        " divides by each class’s size in the batch.",
        json_schema_extra={"advanced": True},
    )
    align_weight: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="Draw both sides together",
        description="How firmly the words for labelled images and for target images are held to the same meaning.",
    )
    style_weight: float = Field(
        0.1,
        ge=0,
        le=1000,
        title="Weight of the style mapper",
        description="How much it counts to guess the look of the labelled images from a target image.",
    )
    entropy_weight: float = Field(
        0.01,
        ge=0,
        le=1000,
        title="Weight of certainty",
        description="How much it counts to be certain about target images, right or wrong.",
    )
    image_tokens: int = Field(
        4,
        ge=1,
        le=32,
        title="Words from the content",
        description="How many word places tell what the image shows; they all hold the same, as in the released code.",
        json_schema_extra={"advanced": True},
    )
    domain_hidden: int = Field(
        256,
        ge=1,
        le=4096,
        title="Width of the style reader",
        description="Width of the network that turns an image’s style into words. The paper takes 512 for ViT-L/14.",
        json_schema_extra={"advanced": True},
    )
    style_mapping_hidden: int = Field(
        384,
        ge=1,
        le=4096,
        title="Width of the style mapper",
        description="Width of the network that guesses the other side’s style. The paper takes 640 for ViT-L/14.",
        json_schema_extra={"advanced": True},
    )


class DomainTokens(nn.Module):
    """Style as words: Linear(W, h), Linear(h, d) for each block, without anything in between."""

    def __init__(self, blocks: int, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = linears(blocks, width, hidden), linears(blocks, hidden, out)

    def forward(self, seen: Looks) -> Tensor:
        """[B, M, d]"""
        return block_by_block(self.linear2, block_by_block(self.linear1, seen.style))


class StyleMapper(DomainTokens):
    """Guesses the domain words of the other side: Linear(W, h), ReLU, Linear(h, d) for each block.

    Its input is the mean of neighbours in [mean, deviation], 2 W numbers that become W.
    """

    def forward(self, seen: Looks) -> Tensor:
        pairs = torch.cat([seen.mean, seen.deviation], dim=-1).unflatten(-1, (-1, 2)).mean(dim=-1)
        return block_by_block(self.linear2, block_by_block(self.linear1, pairs).relu())


class ImageTokens(nn.Module):
    """Content as one word: Linear(W, d) on each block's mean, then Linear(M, 1) over the blocks."""

    def __init__(self, blocks: int, width: int, out: int) -> None:
        super().__init__()
        self.linear, self.lin = linears(blocks, width, out), nn.Linear(blocks, 1)

    def forward(self, seen: Looks) -> Tensor:
        """[B, d]"""
        return over_blocks(self.lin, block_by_block(self.linear, seen.mean))


class ADCLIP(StylePrompt):
    """Prompts from image statistics: [D_s, D_t, V] in front of the class name, for source and target images alike.

    D_s, D_t [M, d] are the domain words of a source image and of the target image that it is paired with, V the
    content word of the image in question. L = CE(z_s, y) + a |D_s - mapper|^2 + b H(z_t) + c KL(T_t || T_s); softmax of
    the KL runs over the classes for each dimension, its sum over both is divided by the batch. The squared error moves
    the domain words too (as released). In use, with target images only, the mapper stands in for D_s. That path and the
    mapper's training on target images are the paper's; the released code has neither (`mapper_input`).

    Each pass pairs source image i with the target image at place i mod T of a new order, so that any split of a batch
    keeps its pairs. Every step encodes 2 B C prompts. Not taken over: the choice of the best pass by labelled target
    images, and a step size that swings up and down every 100 steps.
    """

    info = MethodInfo(
        name="ad-clip",
        title="AD-CLIP",
        summary="You have labelled images from one site or scanner and none from another; it adapts to the other with"
        " images alone. The words in front of the class name are made anew from the style of every image.",
        when="Labelled images come from one place, the images to sort from another, and you can wait.",
        paper="Singha, Pal, Jha, Banerjee, “AD-CLIP: Adapting Domains in Prompt Space Using CLIP”, ICCV 2023 workshop"
        " OOD-CV, arXiv 2308.05659",
        needs="Labelled images of some domains, and images without labels of the domains that it is for.",
        group="several sites or scanners",
        cost="long",
        parity="Features, statistics, all words, text features and logits of both sides, all four terms of the loss,"
        " every gradient and every value after 5 steps equal the released code's to 1e-4 (ViT; settings “source” and"
        " “released”). The defaults follow the paper instead: the mapper sees target images, plain entropy, answers"
        " from a target image alone; these have nothing official to be compared with. Linear warm-up became a"
        " constant one. The trainer for ResNet is left out.",
        reported="Office-Home, mean of 12 transfers: ViT-B/16 86.1, ViT-L/14 90.5 (ready-made sentences 82.4 and 87.0),"
        " at the best pass as chosen on labelled target images.",
    )
    Config = ADCLIPConfig
    config: ADCLIPConfig
    learns_from: ClassVar[Literal["labels", "unlabelled", "domains", "masks"]] = "domains"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "domain-generalisation": {"epochs": 50, "batch_size": 16, "learning_rate": 0.01, "optimizer": "adam"}
    }

    def build(self) -> None:
        vision, config, out = self.backbone.vision, self.config, self.backbone.text_width
        self.domain_tokens = DomainTokens(vision.depth, vision.width, config.domain_hidden, out)
        self.image_tokens = ImageTokens(vision.depth, vision.width, out)
        self.style_mapping_tokens = StyleMapper(vision.depth, vision.width, config.style_mapping_hidden, out)
        self.layout = self.backbone.text.layout(self.class_names, n_ctx=2 * vision.depth + config.image_tokens)
        self._others: Examples | None = None
        self._order: tuple[int, Tensor] | None = None
        self._target: Tensor | None = None

    # --- prompts ----------------------------------------------------------------

    def context(self, source: Tensor, target: Tensor, content: Tensor) -> Tensor:
        """[B, 2 M + n, d] of domain words [B, M, d] of both sides and a content word [B, d], repeated n times."""
        return torch.cat([source, target, content[:, None].expand(-1, self.config.image_tokens, -1)], dim=1)

    def conditional_text_features(self, context: Tensor) -> Tensor:
        """Unit text features [B, C, D] of contexts [B, 2 M + n, d]."""
        return F.normalize(self.backbone.text.encode_prompts(self.layout, context, per_group=True), dim=-1)

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        """[B, C] of target images [B, 3, H, W]: the mapper guesses the source's words."""
        seen = self.looks(pixels, features)
        context = self.context(self.style_mapping_tokens(seen), self.domain_tokens(seen), self.image_tokens(seen))
        return self.scores(seen.features, self.conditional_text_features(context))

    # --- training ---------------------------------------------------------------

    def start(self, examples: Examples) -> None:
        self._others, self._order = examples.unlabelled, None

    def begin_step(self, indices: Tensor, epoch: int, phase: int) -> None:
        """Take the target images that these source images are paired with in this pass."""
        if self._others is None or self._others.pixels is None:
            return
        images = len(self._others.labels)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, torch.randperm(images)  # the trainer seeds every pass by itself
        pairs = self._order[1][indices.cpu() % images]
        self._target = self._others.pixels(pairs, epoch)

    def finish(self, examples: Examples) -> None:
        self._others = self._order = self._target = None

    def loss_terms(self, source: Looks, target: Looks, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy, error of the mapper, entropy and divergence (`ce`, `smn`, `entropy`, `kl`), not weighted."""
        words = self.domain_tokens(source), self.domain_tokens(target)
        guessed = self.style_mapping_tokens(target if self.config.mapper_input == "target" else source)
        contexts = [self.context(*words, self.image_tokens(seen)) for seen in (source, target)]
        text_s, text_t = self.conditional_text_features(torch.cat(contexts)).chunk(2)
        divergence = F.kl_div(text_s.log_softmax(dim=1), text_t.log_softmax(dim=1), reduction="sum", log_target=True)
        return {
            "ce": F.cross_entropy(self.scores(source.features, text_s), labels),
            "smn": F.mse_loss(words[0], guessed),
            "entropy": self.uncertainty(self.scores(target.features, text_t)),
            "kl": divergence / len(labels),
        }

    def uncertainty(self, logits: Tensor) -> Tensor:
        """Mean entropy of logits [B, C]; as released, every class is first divided by its L2 norm over the batch."""
        p = logits.softmax(dim=1)
        if self.config.entropy == "plain":
            return -(p * logits.log_softmax(dim=1)).sum(dim=1).mean()
        p = F.normalize(p, dim=0)
        return -(p * (p + 1e-8).log()).sum(dim=1).mean()

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        """As the class says, of source images and the target images of `begin_step`, or [2, B, 3, H, W] of both.

        Where there are no target images the source images stand in for them.
        """
        pixels, target = required(pixels), self._target
        self._target = None  # for this step alone
        if pixels.dim() == 5:
            pixels, target = pixels
        source = self.looks(pixels, features)
        other = source if target is None else self.looks(target)
        terms, config = self.loss_terms(source, other, required(labels)), self.config
        held = config.style_weight * terms["smn"] + config.entropy_weight * terms["entropy"]
        return terms["ce"] + held + config.align_weight * terms["kl"]
