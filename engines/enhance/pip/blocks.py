"""What PIP and its host are built from: attention between channels, as in Restormer (names as in the released code)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EXPANSION = 2.66
"""Of the feed-forward parts."""
SHARES = ((1, 2), (2, 3), (3, 4), (4, 5))
"""How many of a row's attention values the four sparse versions keep."""


def pointwise(inside: int, outside: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 1, bias=False)


def depthwise(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)


def conv3(inside: int, outside: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, padding=1, bias=False)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of every pixel, [B, C, H, W] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.movedim(1, -1)).movedim(-1, 1)


class GatedFeedForward(nn.Module):
    """GELU(a) b, or with `dual` GELU(b) a + GELU(a) b, between two pointwise convolutions."""

    def __init__(self, width: int, dual: bool = False) -> None:
        super().__init__()
        hidden = int(width * EXPANSION)
        self.dual = dual
        self.project_in, self.dwconv = pointwise(width, 2 * hidden), depthwise(2 * hidden)
        self.project_out = pointwise(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        gated = F.gelu(a) * b
        return self.project_out(gated + F.gelu(b) * a if self.dual else gated)


def channel_attention(query: Tensor, key: Tensor, temperature: Tensor) -> Tensor:
    """[B, C, H, W] twice -> [B, heads, c, c] before softmax: cosines of channels, times temperature."""
    q, k = (F.normalize(heads_of(x, len(temperature)), dim=-1) for x in (query, key))
    return q @ k.transpose(-2, -1) * temperature


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[B, C, H, W] -> [B, heads, C / heads, H W]."""
    return x.flatten(2).unflatten(1, (heads, -1))


def keep_largest(attention: Tensor, count: int) -> Tensor:
    """All but the `count` largest of each row become minus infinity."""
    places = attention.topk(count, dim=-1).indices
    kept = torch.zeros_like(attention, dtype=torch.bool).scatter_(-1, places, True)
    return attention.masked_fill(~kept, -torch.inf)


class ChannelAttention(nn.Module):
    """Of a feature to itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv, self.qkv_dwconv = pointwise(width, 3 * width), depthwise(3 * width)
        self.project_out = pointwise(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        attention = channel_attention(query, key, self.temperature).softmax(dim=-1)
        mixed = attention @ heads_of(value, len(self.temperature))
        return self.project_out(mixed.reshape_as(x))


class CrossChannelAttention(nn.Module):
    """Of a feature (query) to another one of the same shape (key and value)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q, self.q_dwconv = pointwise(width, width), depthwise(width)
        self.kv, self.kv_dwconv = pointwise(width, 2 * width), depthwise(2 * width)
        self.project_out = pointwise(width, width)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        key, value = self.kv_dwconv(self.kv(other)).chunk(2, dim=1)
        attention = self.weights(channel_attention(self.q_dwconv(self.q(x)), key, self.temperature))
        return self.project_out((attention @ heads_of(value, len(self.temperature))).reshape_as(x))

    def weights(self, attention: Tensor) -> Tensor:
        return attention.softmax(dim=-1)


class SparseCrossChannelAttention(CrossChannelAttention):
    """The learned sum of four versions that keep 1/2, 2/3, 3/4 and 4/5 of each row."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        for number in range(1, len(SHARES) + 1):
            self.register_parameter(f"attn{number}", nn.Parameter(torch.full((1,), 0.2)))

    def weights(self, attention: Tensor) -> Tensor:
        channels = attention.shape[-1]
        versions = [keep_largest(attention, channels * part // of).softmax(dim=-1) for part, of in SHARES]
        shares: Sequence[Tensor] = [self.get_parameter(f"attn{number}") for number in range(1, len(SHARES) + 1)]
        return sum((share * version for share, version in zip(shares, versions, strict=True)), torch.zeros(()))


class TransformerBlock(nn.Module):
    """Restormer's: attention between channels, then the gated feed-forward part, each behind its norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = ChannelNorm(width), ChannelAttention(width, heads)
        self.norm2, self.ffn = ChannelNorm(width), GatedFeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))
