"""What says "backlit" or "well-lit" of an image: a learned prompt pair, a pair of free vectors, or RAVE's direction."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.errors import ConfigError

SCALE = 100.0
"""Of the cosines: fixed in the release, whatever the model's own scale is."""


class ClipView:
    """Images as a backbone sees them: squeezed to its square (aspect not kept), bilinear, normalised.

    Args:
        antialias: the release was made with a library that did not smooth when making tensors smaller.
    """

    def __init__(self, backbone: Backbone, antialias: bool = False) -> None:
        self.backbone = backbone
        self.antialias = antialias
        self._mean, self._std = (
            torch.tensor(values, device=backbone.device)[:, None, None] for values in (backbone.mean, backbone.std)
        )

    def pixels(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in 0..1 -> [B, 3, S, S], normalised; differentiable."""
        size = (self.backbone.image_size, self.backbone.image_size)
        images = images.to(self.backbone.device)
        small = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=self.antialias)
        return (small - self._mean) / self._std

    def features(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in 0..1 -> [B, D] of length 1."""
        return F.normalize(self.backbone.encode_image(self.pixels(images)), dim=-1)


class Guidance(nn.Module, ABC):
    """Gives the loss that pulls an enhanced image towards well-lit ones.

    Attributes:
        factor: of the loss in the training's objective; 16 * 20 in CLIP-LIT's release.
    """

    factor = 320.0

    @abstractmethod
    def loss(self, features: Tensor) -> Tensor:
        """Scalar for normalised image features [B, D]; smaller is better lit."""

    @abstractmethod
    def p_backlit(self, features: Tensor) -> Tensor:
        """[B], 0 to 1, for normalised image features [B, D]."""


class PairGuidance(Guidance):
    """Two learned points of the joint space: row 0 stands for backlit, row 1 for well-lit."""

    @abstractmethod
    def anchors(self) -> Tensor:
        """[2, D], not normalised."""

    def logits(self, features: Tensor) -> Tensor:
        """[B, 2]: 100 times the cosines."""
        return SCALE * features @ F.normalize(self.anchors(), dim=-1).T

    def p_backlit(self, features: Tensor) -> Tensor:
        return self.logits(features).softmax(dim=-1)[:, 0]

    def loss(self, features: Tensor) -> Tensor:
        """L_clip: mean probability of the backlit prompt."""
        return self.p_backlit(features).mean()


class PromptPair(PairGuidance):
    """Two soft prompts of the same n_ctx words "X" (the release: 16), told apart by training alone.

    Attributes:
        embedding: [2, L, d], start and end token included, as in the release. What stands behind the end token there
            has no influence and is left out.
    """

    def __init__(self, backbone: Backbone, n_ctx: int = 16) -> None:
        super().__init__()
        self.eot: Tensor
        if n_ctx < 1:
            raise ConfigError(f"A prompt of {n_ctx} words cannot be learned.", "Choose 1 or more; 16 is usual.")
        self._text = backbone.text
        rows, eot = self._text.embed_texts([" ".join("X" * n_ctx)] * 2)
        self.register_buffer("eot", eot, persistent=False)
        self.embedding = nn.Parameter(rows.clone())

    def anchors(self) -> Tensor:
        return self._text.encode_embeddings(self.embedding, self.eot)

    def load_official(self, embedding_prompt: Tensor) -> None:
        """Takes over `embedding_prompt` [2, 77, d] of a released prompt.

        Raises:
            ConfigError: it belongs to another model or length.
        """
        length = self.embedding.shape[1]
        if embedding_prompt.ndim != 3 or embedding_prompt[:, :length].shape != self.embedding.shape:
            raise ConfigError(
                f"A prompt of the shape {list(embedding_prompt.shape)} does not fit this model, which needs "
                f"{list(self.embedding.shape)} or longer.",
                "Load the model that the prompt was learned for (CLIP-LIT: OpenAI's ViT-B/32).",
            )
        with torch.no_grad():
            self.embedding.copy_(embedding_prompt[:, :length])


class LatentPair(PairGuidance):
    """Two free vectors in the place of text features (CLIP-LIT-Latent of RAVE, ECCV 2024): no text tower at all."""

    def __init__(self, width: int, seed: int = 0) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(2, width, generator=torch.Generator().manual_seed(seed)))

    def anchors(self) -> Tensor:
        return self.vectors


class RaveDirection(Guidance):
    """RAVE's residual vector (ECCV 2024): from the mean of backlit images to that of well-lit ones. Nothing to learn.

    v+ and v- are normalised means of normalised features, v = (v+ - v-) / |v+ - v-|, and the target is v+ . v.

    RAVE's factor is six times CLIP-LIT's, for a CLIP whose features lie close together. A small model spreads them so
    wide that this would drown the identity loss, so the backlit photos may cost no more than a prompt pair's can.

    Args:
        backlit, well_lit: normalised features [N, D].
    """

    def __init__(self, backlit: Tensor, well_lit: Tensor) -> None:
        super().__init__()
        self.direction: Tensor
        self.ends: Tensor
        low, high = (F.normalize(features.mean(dim=0), dim=0) for features in (backlit, well_lit))
        if float((high - low).norm()) < 1e-6:
            raise ConfigError(
                "Backlit and well-lit photos look the same to this model, so there is no direction between them.",
                "Check the two folders: they may hold the same photos.",
            )
        direction = F.normalize(high - low, dim=0)
        self.register_buffer("direction", direction)
        self.register_buffer("ends", torch.stack([low @ direction, high @ direction]))
        self.factor = min(6 * Guidance.factor, Guidance.factor / max(float(self.loss(backlit)), 1e-6))

    def loss(self, features: Tensor) -> Tensor:
        """Mean of (cos(f, v) - v+ . v)^2."""
        return (features @ self.direction - self.ends[1]).square().mean()

    def p_backlit(self, features: Tensor) -> Tensor:
        """Own addition, for curves: 0.98 at the mean of the backlit photos, 0.02 at that of the well-lit ones."""
        place = (features @ self.direction - self.ends.mean()) / (self.ends[1] - self.ends[0])
        return torch.sigmoid(-8 * place)


class Antonyms(PairGuidance):
    """Two fixed sentences as a judge that no enhancer was trained with."""

    def __init__(self, backbone: Backbone, low: str = "a backlit photo", high: str = "a well-lit photo") -> None:
        super().__init__()
        self.text: Tensor
        self.register_buffer("text", backbone.encode_text([low, high]))

    def anchors(self) -> Tensor:
        return self.text


@torch.no_grad()
def p_well_lit(pixels: np.ndarray, guidance: Guidance, view: ClipView) -> float:
    """1 - p(backlit) of a photo [H, W, 3]. An enhancer's own guidance flatters it: let `Antonyms` judge as well."""
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    return 1 - float(guidance.to(view.backbone.device).p_backlit(view.features(image))[0])
