"""The game that SPG plays: a network that makes up prompts, one that tells them from learned ones, and its rules.

B images, D joint dimension, n context vectors of width d.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

NOISE = 100
"""Z, length of the noise that a prompt is made from."""
EPSILON, MOMENTUM = 0.8, 0.1
"""Of the batch norms. The released code means 0.8 as the momentum but sets epsilon by it, and so it does here."""


class Generator(nn.Module):
    """Noise z and an image to a prompt: G(z, c) in (-1, 1)."""

    def __init__(self, images: int, n_ctx: int, width: int) -> None:
        super().__init__()
        sizes = (128, 256, 512, 1024)
        layers: list[nn.Module] = [nn.Linear(NOISE + images, sizes[0]), nn.LeakyReLU(0.2)]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after, EPSILON, momentum=0.0), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Linear(sizes[-1], n_ctx * width), nn.Tanh())
        self.norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm1d)]
        self.n_ctx = n_ctx
        _begin(self)

    def _floats(self) -> list[Tensor]:
        return [tensor for tensor in self.state_dict().values() if tensor.is_floating_point()]

    def flat(self) -> Tensor:
        """A copy of all values and running statistics, in one row."""
        return torch.cat([tensor.flatten() for tensor in self._floats()])

    def restore(self, row: Tensor) -> None:
        """Take back what `flat` gave."""
        state = self._floats()
        with torch.no_grad():
            for tensor, part in zip(state, row.split([tensor.numel() for tensor in state]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def forward(self, noise: Tensor, images: Tensor, moving: float | None = None) -> Tensor:
        """[B, Z] and unit features [B, D] -> prompts [B, n, d].

        With `moving` the norms use the batch's own statistics and move the running ones by that much; a single image
        has none.
        """
        for norm in self.norms:
            norm.train(moving is not None and len(images) > 1)
            norm.momentum = moving or 0.0
        return self.model(torch.cat([noise, images], dim=1)).unflatten(1, (self.n_ctx, -1))


class Drawn(NamedTuple):
    """What a step plays with beside its own B images."""

    real: Tensor
    """[B, n, d]: the words of these images' domains."""
    others: Tensor
    """[B, D]: unit features of other training images, for which prompts are made up."""
    noise: Tensor
    """[B, Z]"""


class Discriminator(nn.Module):
    """Whether a prompt is a domain's own and fits the image: D(p, c), about 1 for yes and 0 for no."""

    def __init__(self, images: int, n_ctx: int, width: int) -> None:
        super().__init__()
        inner = [nn.Linear(512, 512), nn.Dropout(0.4), nn.LeakyReLU(0.2), nn.Linear(512, 512), nn.Dropout(0.4)]
        first = nn.Linear(n_ctx * width + images, 512)
        self.model = nn.Sequential(first, nn.LeakyReLU(0.2), *inner, nn.LeakyReLU(0.2), nn.Linear(512, 1))
        _begin(self)

    def forward(self, prompts: Tensor, images: Tensor) -> Tensor:
        """Prompts [B, n, d] and unit features [B, D] -> [B, 1]."""
        judged: Tensor = self.model(torch.cat([prompts.flatten(1), images], dim=1))
        return judged

    def loss(self, images: Tensor, fake: Tensor, drawn: Drawn) -> Tensor:
        """L_D for unit features [B, D] and made-up prompts [B, n, d], a scalar."""
        real, made_up = self(drawn.real, images), self(fake.detach(), drawn.others)
        loss: Tensor = ((real - 1) ** 2).mean() + (made_up**2).mean()
        return loss

    def generator_loss(self, fake: Tensor, drawn: Drawn) -> Tensor:
        """L_G, a scalar."""
        loss: Tensor = ((self(fake, drawn.others) - 1) ** 2).mean()
        return loss


def _begin(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="leaky_relu")


class Limits(NamedTuple):
    """Largest norm of a tensor's gradient, by its role."""

    d_weight: float
    d_bias: float
    d_ends: float
    g_weight: float
    g_bias: float
    g_last_biases: float

    def of(self, name: str) -> float:
        """The limit for a parameter of either network, such as `generator.model.9.bias`."""
        player, _, layer, kind = name.split(".")
        if player == "discriminator":
            return self.d_ends if layer in ("0", "8") else self.d_weight if kind == "weight" else self.d_bias
        if kind == "weight":
            return self.g_weight
        return self.g_last_biases if layer in ("9", "11") else self.g_bias


LIMITS = {
    "default": Limits(0.05, 0.5, 5, 0.005, 5e-8, 1),
    "pacs": Limits(0.5, 0.5, 5, 0.05, 5e-7, 5),
    "off": None,
}


def shorten(player: str, network: nn.Module, limits: Limits | None) -> None:
    """Shorten every gradient of the network called `player` that is longer than its limit."""
    if limits is None:
        return
    for name, parameter in network.named_parameters(player):
        assert parameter.grad is not None
        limit, norm = limits.of(name), parameter.grad.norm()
        parameter.grad *= torch.where(norm > limit, limit / (norm + 1e-6), 1.0)
