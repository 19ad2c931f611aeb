"""The two prompts of a level and how one is worked into the other (arXiv:2312.05038, section 3; released code)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.enhance.pip.blocks import ChannelNorm, CrossChannelAttention, GatedFeedForward, conv3
from engines.errors import ConfigError

Regulariser = Literal["angle", "cosine", "gram"]


class PromptCross(nn.Module):
    """The basic prompt looks at the gated one: b + A(LN(b), LN(s)), then the feed-forward part."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.norm11, self.norm12, self.norm2 = ChannelNorm(width), ChannelNorm(width), ChannelNorm(width)
        self.attn, self.ffn = CrossChannelAttention(width, heads), GatedFeedForward(width)

    def forward(self, basic: Tensor, semantic: Tensor) -> Tensor:
        basic = basic + self.attn(self.norm11(basic), self.norm12(semantic))
        return basic + self.ffn(self.norm2(basic))


class PromptInPrompt(nn.Module):
    """Makes the universal restoration prompt of one level.

    Args:
        width: D, channels of both prompts.
        side: S of the basic prompt's map.
        kinds: K, how many kinds of damage there are.
    Attributes:
        detask_prompt_param: [1, K, D, 1, 1], one vector for each kind of damage.
        low_prompt_param: [1, D, S, S], a map that all kinds share.
    """

    def __init__(self, width: int, side: int, kinds: int = 5) -> None:
        super().__init__()
        self.detask_prompt_param = nn.Parameter(torch.randn(1, kinds, width, 1, 1))
        self.low_prompt_param = nn.Parameter(torch.randn(1, width, side, side))
        self.LGM = PromptCross(width)
        self.outconv = conv3(width, width)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """
        Args:
            x: feature [B, C, H, W].
            weights: [B, K], how much of each kind of damage; see `class_weights`.
        Returns:
            [B, D, H, W]
        """
        basic = self.low_prompt_param.expand(len(x), -1, -1, -1)
        # a mean over the kinds, as released: the chosen vector is divided by K, which the norm behind takes back
        chosen = (weights[:, :, None, None, None] * self.detask_prompt_param).mean(dim=1)
        small = F.interpolate(x, basic.shape[-2:], mode="bilinear", align_corners=False)
        universal = self.LGM(basic, chosen * with_channels(small, basic.shape[1]))
        return self.outconv(F.interpolate(universal, x.shape[-2:], mode="bilinear", align_corners=False))

    def regulariser(self, kind: Regulariser = "angle") -> Tensor:
        """Keeps the vectors of different kinds apart.

        "angle" is 0 once all pairs stand at 90 degrees or more; "cosine" and "gram" ask for exactly 90 (and length 1).
        """
        vectors = self.detask_prompt_param.flatten(2)[0]
        one = torch.eye(len(vectors), device=vectors.device)
        if kind == "gram":
            return 0.01 * F.mse_loss(vectors @ vectors.T, one)
        unit = F.normalize(vectors, dim=-1)
        cosines = unit @ unit.T
        if kind == "cosine":
            return 0.01 * (cosines - one).abs().sum()
        return 0.01 * cosines.triu(1).relu().sum()


def with_channels(x: Tensor, width: int) -> Tensor:
    """The first `width` channels of [B, C, H, W]; zeros stand for those that are missing."""
    return x[:, :width] if x.shape[1] >= width else F.pad(x, (0, 0, 0, 0, 0, width - x.shape[1]))


def class_weights(kinds: Tensor, count: int) -> Tensor:
    """[B] numbers of kinds -> [B, K] with a single 1 each; [B, m] -> the average of m (mixed damage).

    Raises:
        ConfigError: there is no such kind.
    """
    if kinds.numel() and not 0 <= int(kinds.min()) <= int(kinds.max()) < count:
        raise ConfigError(f"There are {count} kinds of damage, numbered from 0.", "Choose one of them.")
    single = F.one_hot(kinds, count).float()
    return single if kinds.ndim == 1 else single.mean(dim=1)
