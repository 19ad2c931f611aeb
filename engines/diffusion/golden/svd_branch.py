"""NPNet's first branch: the noise keeps its singular vectors and gets new singular values."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 64
HIDDEN_OUT = 1024
MOST_HEADS = 8


class SelfAttention(nn.Module):
    """Attention among tokens [B, N, W]; queries, keys and values without bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(heads for heads in range(1, MOST_HEADS + 1) if width % heads == 0)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*parts.unbind())
        attended: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return attended


class SvdBranch(nn.Module):
    """Noise [B, C, h, w] to noise of the same shape.

    The channels are laid out as a x b blocks of one matrix (2 x 2 for four channels), whose k singular directions are
    the tokens of a small network that says how the singular values change. Its layers are as wide as the matrix, so it
    serves one size of latents.

    Args:
        channels, height, width: of the latents.
        attention: whether the tokens look at each other. The official code has attention at use and none in training
            (same names of weights); here both are the same network.
    """

    def __init__(self, channels: int, height: int, width: int, attention: bool = True) -> None:
        super().__init__()
        self.blocks = _blocks(channels)
        rows, columns = self.blocks[0] * height, self.blocks[1] * width
        rank = min(rows, columns)
        self.mlp1 = nn.Sequential(nn.Linear(rows, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, rank))
        self.mlp2 = nn.Sequential(nn.Linear(columns, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, rank))
        self.mlp3 = nn.Sequential(nn.Linear(rank, rank))
        self.attention = SelfAttention(rank) if attention else None
        self.mlp4 = nn.Sequential(nn.Linear(rank, HIDDEN_OUT), nn.ReLU(), nn.Linear(HIDDEN_OUT, rank))

    def forward(self, noise: Tensor) -> Tensor:
        return self.rebuild(*self.decompose(noise))

    def decompose(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Left vectors [B, a h, k], singular values [B, k] and right vectors [B, k, b w] of noise [B, C, h, w]."""
        a, b = self.blocks
        matrix = noise.unflatten(1, (a, b)).permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return left, values, right

    def rebuild(self, left: Tensor, values: Tensor, right: Tensor) -> Tensor:
        """Noise [B, C, h, w] with the singular values that the network predicts."""
        tokens = self.mlp1(left.mT) + self.mlp2(right) + self.mlp3(values)[:, None]
        if self.attention is None:
            moved = self.mlp4(tokens).mean(dim=1)
        else:
            moved = self.mlp4(self.attention(tokens).mean(dim=1))
        matrix = (left * (moved + values)[:, None]) @ right
        a, b = self.blocks
        return matrix.unflatten(2, (b, -1)).unflatten(1, (a, -1)).permute(0, 1, 3, 2, 4).flatten(1, 2)


def _blocks(channels: int) -> tuple[int, int]:
    """Rows and columns of blocks that channels are laid out in, as square as possible."""
    rows = max(count for count in range(1, math.isqrt(channels) + 1) if channels % count == 0)
    return rows, channels // rows
