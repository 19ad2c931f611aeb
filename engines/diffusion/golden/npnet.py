"""NPNet: golden noise predicted from noise and a prompt (Zhou et al., arXiv:2411.09502, section 3.3)."""

from __future__ import annotations

from typing import Literal

import torch
from diffusers.models.normalization import AdaGroupNorm
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from engines.diffusion.golden.residual_branch import SmallBranch, SwinBranch
from engines.diffusion.golden.svd_branch import SvdBranch
from engines.diffusion.model import TextToImage
from engines.errors import ConfigError

SMALL_SIDE = 32
"""Longest side of latents for which the small residual branch is the default."""


class NPNetConfig(BaseModel):
    """What an NPNet is made of, and which latents and prompts it fits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int = Field(4, ge=1)
    height: int = Field(128, ge=1, description="Of the latents.")
    width: int = Field(128, ge=1, description="Of the latents.")
    tokens: int = Field(77, ge=1, description="Text states of a prompt.")
    text_width: int = Field(2048, ge=1, description="Numbers in one text state.")
    svd: bool = Field(True, description="Whether singular values change; without, the noise itself takes their place.")
    attention: bool = Field(True, description="Whether singular directions look at each other.")
    residual: Literal["swin", "small", "none"] = Field("swin", description="Image network of the second branch.")

    @classmethod
    def fitting(cls, model: TextToImage, height: int | None = None, width: int | None = None) -> NPNetConfig:
        """For images of `height` x `width` pixels (those that the model was made for by default) of a model."""
        _, channels, rows, columns = latent_shape(model, height, width)
        return cls(
            channels=channels,
            height=rows,
            width=columns,
            tokens=model.room,
            text_width=int(model.unet.config.cross_attention_dim),
            residual="small" if max(rows, columns) <= SMALL_SIDE else "swin",
        )


class NPNet(nn.Module):
    """Noise [B, C, h, w] and text states [B, T, W] to golden noise [B, C, h, w], in training as at use.

    ``svd(x) + (2 sigmoid(alpha) - 1) t + beta r(x + t)``, t being the noise normed by its prompt; every sample has its
    own. alpha and beta start at 0, so that the first branch speaks alone.
    """

    def __init__(self, config: NPNetConfig) -> None:
        super().__init__()
        self.config = config
        size = config.channels, config.height, config.width
        self.svd = SvdBranch(*size, config.attention) if config.svd else None
        self.text_norm = AdaGroupNorm(config.tokens * config.text_width, config.channels, 1, eps=1e-6)
        self.residual: SwinBranch | SmallBranch | None = None
        if config.residual != "none":
            self.residual = SwinBranch(config.channels) if config.residual == "swin" else SmallBranch(config.channels)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.beta = nn.Parameter(torch.zeros(1))

    @property
    def device(self) -> torch.device:
        return self.alpha.device

    def forward(self, noise: Tensor, text: Tensor) -> Tensor:
        """Golden noise; float32 whatever comes in.

        Raises:
            ConfigError: noise of another size, or prompts of another text encoder.
        """
        self._check(noise, text)
        noise, text = noise.float(), text.float()
        normed = self.text_norm(noise, text.flatten(1))
        golden = (noise if self.svd is None else self.svd(noise)) + (2 * self.alpha.sigmoid() - 1) * normed
        return golden if self.residual is None else golden + self.beta * self.residual(noise + normed)

    def _check(self, noise: Tensor, text: Tensor) -> None:
        config = self.config
        made_for = config.channels, config.height, config.width
        # Without singular values nothing depends on the size; noise is never resized, it would be Gaussian no more.
        fits = noise.shape[1:] == made_for if self.svd is not None else noise.shape[1] == config.channels
        if noise.ndim != 4 or not fits:
            raise ConfigError(
                f"This NPNet was made for latents of {_times(made_for)}, and these are {_times(noise.shape[1:])}.",
                "Choose the image size that it was trained with, or train another NPNet for this size.",
            )
        if text.shape != (len(noise), config.tokens, config.text_width):
            raise ConfigError(
                f"This NPNet reads {config.tokens} text states of {config.text_width} numbers for each of "
                f"{len(noise)} noises, and got {_times(text.shape)}.",
                "Use it with the text-to-image model that it was trained with, or one that has the same text encoders.",
            )


def latent_shape(model: TextToImage, height: int | None = None, width: int | None = None) -> tuple[int, int, int, int]:
    """(1, C, h, w): shape of the latents of an image of `height` x `width` pixels.

    Raises:
        ConfigError: a side is no multiple of the model's factor.
    """
    sides = height or model.image_side, width or model.image_side
    if any(side % model.factor or side <= 0 for side in sides):
        raise ConfigError(
            f"Images of {sides[1]} x {sides[0]} pixels cannot be made.",
            f"Choose sides that are multiples of {model.factor}.",
        )
    return 1, int(model.vae.config.latent_channels), sides[0] // model.factor, sides[1] // model.factor


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)
