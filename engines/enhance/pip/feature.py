"""How a prompt acts on a host's feature (arXiv:2312.05038, section 3; the four modes that run in the released code)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from engines.enhance.pip.blocks import (
    ChannelNorm,
    CrossChannelAttention,
    GatedFeedForward,
    SparseCrossChannelAttention,
    TransformerBlock,
    conv3,
    pointwise,
)
from engines.enhance.pip.prompt import with_channels

Mode = Literal["pip_cross_topm", "pip_cross", "convgate", "promptir_gate"]


class _Cross(nn.Module):
    """The feature looks at the prompt, channel by channel.

    The residual carries the *normalised* feature, as released: the raw one does not reach the output.
    """

    def __init__(self, width: int, prompt_width: int, heads: int, sparse: bool) -> None:
        super().__init__()
        attention = SparseCrossChannelAttention if sparse else CrossChannelAttention
        self.norm11, self.norm12, self.norm2 = ChannelNorm(width), ChannelNorm(prompt_width), ChannelNorm(width)
        self.attn, self.ffn = attention(prompt_width, heads), GatedFeedForward(width, dual=True)
        if width < prompt_width:
            self.reduce_channel = pointwise(prompt_width, width)

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        x, prompt = self.norm11(x), self.norm12(prompt)
        width, prompt_width = x.shape[1], prompt.shape[1]
        touched, rest = with_channels(x, prompt_width), x[:, prompt_width:]
        touched = touched + self.attn(touched, prompt)
        x = self.reduce_channel(touched) if width < prompt_width else torch.cat([touched, rest], dim=1)
        return x + self.ffn(self.norm2(x))


class PromptToFeature(nn.Module):
    """Replaces a skip feature by one that the prompt has acted on.

    Args:
        width: C, channels of the feature; prompt_width: D.
        mode: "pip_cross_topm" is the paper's; the others are its comparisons.
    """

    def __init__(self, width: int, prompt_width: int, mode: Mode = "pip_cross_topm", heads: int = 4) -> None:
        super().__init__()
        self.mode = mode
        if mode == "convgate":
            self.conv1, self.conv2 = conv3(prompt_width, prompt_width), conv3(prompt_width, width)
            self.conv3 = conv3(prompt_width, width)
        elif mode == "promptir_gate":
            both = width + prompt_width
            self.prompt_transformer = TransformerBlock(both, heads)
            self.gate_reduce_channel, self.noise_channel_reduce = conv3(both, width), pointwise(both, width)
        else:
            self.prompt_transformer_cross = _Cross(width, prompt_width, heads, sparse=mode == "pip_cross_topm")

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        """[B, C, H, W] and [B, D, H, W] -> [B, C, H, W]."""
        if self.mode == "convgate":
            prompt = self.conv1(prompt)
            return x * self.conv2(prompt).sigmoid() + self.conv3(prompt)
        if self.mode == "promptir_gate":
            both = self.prompt_transformer(torch.cat([x, prompt], dim=1))
            return x * self.gate_reduce_channel(both).sigmoid() + self.noise_channel_reduce(both)
        return self.prompt_transformer_cross(x, prompt)
