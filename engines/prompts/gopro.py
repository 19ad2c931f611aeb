"""GOPro: generate and optimise prompts with self-supervised learning (Singha, Jha, Banerjee, BMVC 2023)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms

from engines.prompts.base import MethodInfo, PromptMethod, required
from engines.prompts.context import ContextPrompt
from engines.prompts.fields import ContextLength, CountTokens, StartingWords
from engines.prompts.settings import MethodConfig
from engines.prompts.style import Looks, StylePrompt, block_by_block, linears, over_blocks


class GOProConfig(MethodConfig):
    n_ctx: ContextLength = 4
    ctx_init: StartingWords = "a photo of a"
    views: Literal["paper", "crops"] = Field(
        "paper",
        title="How views differ",
        description="As in the paper the second view of an image has other colours and is blurred, and the third is a"
        " mixture of changes (AugMix). “crops” only cuts them out differently: choose it where colour tells classes"
        " apart.",
    )
    consistency: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="Weight of agreement",
        description="How firmly the views of an image are held to the same words.",
    )
    contrast: float = Field(
        0.0,
        ge=0,
        le=1000,
        title="Weight of the contrast",
        description="The paper’s third term (0.1 there). In the released code it reaches neither words nor answers, so"
        " it is left out unless you set a weight.",
        json_schema_extra={"advanced": True},
    )
    temperature: float = Field(
        0.1,
        gt=0,
        le=10,
        title="Sharpness of the contrast",
        description="Lower counts the most alike images more.",
        json_schema_extra={"advanced": True},
    )
    count_tokens: CountTokens = False


class PerBlock(nn.Module):
    """One linear layer for each block: [B, M, W] -> [B, M, d]."""

    def __init__(self, blocks: int, width: int, out: int) -> None:
        super().__init__()
        self.linear = linears(blocks, width, out)

    def forward(self, x: Tensor) -> Tensor:
        return block_by_block(self.linear, x)


class Projector(nn.Module):
    """Linear(D, D) and batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.batchnorm = nn.Linear(width, width), nn.BatchNorm1d(width)

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, D]"""
        projected: Tensor = self.batchnorm(self.linear(features))
        return projected


class GOPro(StylePrompt, ContextPrompt):
    """Context that the style and the content of each image shift: ctx + rho([g_1 .. g_M]), the same for all its words.

    g_l = (style_l((mu + sigma) / 2) + content_l(mu)) / 2 in block l, rho is Linear(M, 1) over the blocks.
    L = CE(z, y) + w sum_v |T - T_v|^2 + w_c L_con, where T_v are the text features of further views. Views are three
    training crops of which, by default, the second gets MoCo v3's colours and blur and the third AugMix of severity 1.
    The released code alters garbled pixels and compares every image with AugMix views of the first one; both are put
    right. L_con (SimCLR) sees frozen image features behind a projector that nothing else uses. Not taken over: CoCoOp's
    unused network, the choice of the best pass on test images. Every step encodes 3 B C prompts.
    """

    info = MethodInfo(
        name="gopro",
        title="GOPro",
        summary="Learns words in front of the class name that the style and the content of every image adjust. Altered"
        " views of an image must lead to the same words, so that what is learned does not hang on lighting or crop.",
        when="Images vary much in look, you have few classes, will meet further ones later, and can wait.",
        paper="Singha, Jha, Banerjee, “GOPro: Generate and Optimize Prompts in CLIP using Self-Supervised Learning”,"
        " BMVC 2023, arXiv 2308.11605",
        cost="long",
        parity="Features, context, text features of all three views, logits, all three terms of the loss, every"
        " gradient and every value after 5 steps equal the released code's to 1e-4, on fixed views. The views"
        " themselves differ: there they are made of garbled pixels, here of the images, with the paper's operations.",
        reported="ViT-B/16, 16 labelled images per class, mean of 11 data sets, base / new / harmonic mean: 84.21 /"
        " 77.32 / 80.62; from ImageNet to 10 other data sets 67.86. The best pass was chosen on test images.",
    )
    Config = GOProConfig
    config: GOProConfig
    image_views = 3
    official_names: ClassVar[dict[str, str]] = {
        "ctx": "prompt_learner.ctx",
        "style.": "prompt_learner.style.",
        "content.": "prompt_learner.content.",
        "rho.": "prompt_learner.rho.",
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {"few-shot": {"epochs": 50, "batch_size": 4}}

    def build(self) -> None:
        super().build()
        vision, out = self.backbone.vision, self.backbone.text_width
        self.style, self.content = (PerBlock(vision.depth, vision.width, out) for _ in range(2))
        self.rho = nn.Linear(vision.depth, 1)
        if self.config.contrast:
            self.simproj = Projector(self.backbone.embed_dim)

    # --- prompts ----------------------------------------------------------------

    def text_features(self) -> Tensor:
        return PromptMethod.text_features(self)  # refuses, in words: there is no text without an image

    def shifted_context(self, seen: Looks) -> Tensor:
        """[B, n, d]"""
        shift = over_blocks(self.rho, (self.style(seen.style) + self.content(seen.mean)) / 2)
        return self.ctx + shift[:, None]

    def conditional_text_features(self, seen: Looks) -> Tensor:
        """Unit text features [B, C, D]."""
        context = self.shifted_context(seen)
        return F.normalize(self.backbone.text.encode_prompts(self.layout, context, per_group=True), dim=-1)

    def logits(self, pixels: Tensor | None = None, *, features: Tensor | None = None) -> Tensor:
        seen = self.looks(pixels, features)
        return self.scores(seen.features, self.conditional_text_features(seen))

    # --- training ---------------------------------------------------------------

    def loss_terms(self, views: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy, disagreement and contrast (`ce`, `sem`, `con`) of views [V, B, 3, H, W], not weighted."""
        seen = self.looks(views.flatten(0, 1))
        first, *others = self.conditional_text_features(seen).unflatten(0, views.shape[:2])
        images = seen.features.unflatten(0, views.shape[:2])
        zero = first.new_zeros(())
        return {
            "ce": F.cross_entropy(self.scores(images[0], first), labels),
            "sem": torch.stack([F.mse_loss(first, other) for other in others]).sum() if others else zero,
            "con": self.contrast(images[0], images[min(1, len(others))]) if self.config.contrast else zero,
        }

    def contrast(self, images: Tensor, others: Tensor) -> Tensor:
        """L_con of two views' unit features [B, D]: each finds its other view among all images; 0 for one image."""
        if len(images) < 2:
            return images.new_zeros(())
        a, b = (F.normalize(self.simproj(view), dim=-1) for view in (images, others))
        own = torch.eye(len(a), device=a.device) * 1e9
        place = torch.arange(len(a), device=a.device)

        def found(x: Tensor, y: Tensor) -> Tensor:
            among = torch.cat([x @ y.T / self.config.temperature, x @ x.T / self.config.temperature - own], dim=1)
            return F.cross_entropy(among, place)

        return (found(a, b) + found(b, a)) / 2

    def loss(
        self, pixels: Tensor | None = None, labels: Tensor | None = None, *, features: Tensor | None = None
    ) -> Tensor:
        """As the class says, of views [V, B, 3, H, W], the first of which is classified; [B, 3, H, W] is one view."""
        pixels = required(pixels)
        terms = self.loss_terms(pixels if pixels.dim() == 5 else pixels[None], required(labels))
        return terms["ce"] + self.config.consistency * terms["sem"] + self.config.contrast * terms["con"]

    def backward(
        self, pixels: Tensor | None, labels: Tensor, *, features: Tensor | None = None, weight: float = 1.0
    ) -> Tensor:
        pixels = required(pixels)
        if self.config.views == "paper" and pixels.dim() == 5:
            pixels = torch.stack([pixels[0], self.altered(pixels[1], MOCO), self.altered(pixels[2], AUGMIX)])
        return super().backward(pixels, labels, features=features, weight=weight)

    def altered(self, pixels: Tensor, change: transforms.Compose) -> Tensor:
        """Normalised crops [B, 3, H, W], each changed by itself."""
        mean, std = (
            torch.tensor(x, device=pixels.device)[:, None, None] for x in (self.backbone.mean, self.backbone.std)
        )
        raw = ((pixels * std + mean).clamp(0, 1) * 255).round().byte()
        changed = torch.stack([change(image) for image in raw])
        return (changed / 255 - mean) / std


MOCO = transforms.Compose(
    [
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.GaussianBlur(13, (0.1, 2.0)),
    ]
)
"""MoCo v3's view behind its crop and mirroring, bytes [3, H, W] -> [3, H, W]."""
AUGMIX = transforms.Compose([transforms.AugMix(severity=2, mixture_width=3, chain_depth=-1, all_ops=False)])
"""AugMix, 3 chains of 1 to 3 operations. Torchvision's first level changes nothing; its second is the paper's first."""
