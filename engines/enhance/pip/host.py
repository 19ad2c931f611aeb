"""A U-Net of Restormer blocks whose skip connections carry PIP's prompts (names as in the released code)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.enhance.pip.blocks import TransformerBlock, conv3, pointwise
from engines.enhance.pip.feature import Mode, PromptToFeature
from engines.enhance.pip.prompt import PromptInPrompt, Regulariser
from engines.errors import ConfigError


class PipUNet(nn.Module):
    """Damaged picture and kind of damage -> restored picture.

    The defaults are a small host with two levels; `released` builds the paper's Restormer by the same code.
    Level i has dim * 2^(i-1) channels and half the side of the one before.

    Args:
        blocks: of each level and, last, of the bottom.
        refinement: blocks behind the decoder.
        prompt_widths, prompt_sides: D and S of each level's prompts.
    """

    def __init__(
        self,
        dim: int = 16,
        blocks: Sequence[int] = (1, 1, 2),
        refinement: int = 1,
        prompt_widths: Sequence[int] = (16, 32),
        prompt_sides: Sequence[int] = (32, 16),
        mode: Mode = "pip_cross_topm",
        kinds: int = 5,
    ) -> None:
        super().__init__()
        self.levels, self.kinds = len(blocks) - 1, kinds
        if self.levels < 1 or len(prompt_widths) != self.levels or len(prompt_sides) != self.levels:
            raise ConfigError("Each level of a host needs a prompt.", "Give as many widths and sides as levels.")
        if any(width % 4 for width in prompt_widths):
            raise ConfigError("Prompts are split into four heads.", "Choose widths that can be divided by 4.")
        widths = [dim * 2**level for level in range(self.levels + 1)]
        self.patch_embed = nn.ModuleDict({"proj": conv3(3, dim)})
        for i, width in enumerate(widths[:-1], 1):
            self.add_module(f"prompt{i}", PromptInPrompt(prompt_widths[i - 1], prompt_sides[i - 1], kinds))
            self.add_module(f"low_prompt_interaction_level{i}", PromptToFeature(width, prompt_widths[i - 1], mode))
            self.add_module(f"encoder_level{i}", _stack(width, 2 ** (i - 1), blocks[i - 1]))
            self.add_module(f"down{i}_{i + 1}", _Resize(conv3(width, width // 2), nn.PixelUnshuffle(2)))
        self.latent = _stack(widths[-1], 2**self.levels, blocks[-1])
        self.add_module(f"chnl_reduce{self.levels}", pointwise(widths[-1], widths[-2]))
        above = widths[-2]
        for i in range(self.levels, 0, -1):
            width, joined = widths[i - 1], above // 2 + widths[i - 1]
            self.add_module(f"up{i + 1}_{i}", _Resize(conv3(above, 2 * above), nn.PixelShuffle(2)))
            above = joined if i == 1 else width
            if i > 1:
                self.add_module(f"reduce_chan_level{i}", pointwise(joined, width))
            self.add_module(f"decoder_level{i}", _stack(above, 2 ** (i - 1), blocks[i - 1]))
        self.refinement = _stack(above, 1, refinement)
        self.output = conv3(above, 3)

    @classmethod
    def released(cls, blocks: Sequence[int] = (4, 6, 6, 8), refinement: int = 4) -> PipUNet:
        """PIP-Restormer as it was trained in the paper: 27 million weights."""
        return cls(48, blocks, refinement, (64, 128, 256), (64, 32, 16))

    def forward(self, pixels: Tensor, weights: Tensor) -> Tensor:
        """
        Args:
            pixels: [B, 3, H, W] RGB in 0..1, any size; sides that do not halve evenly are padded by reflection.
            weights: [B, K], how much of each kind of damage.
        Returns:
            [B, 3, H, W], not clamped.
        """
        height, width = pixels.shape[-2:]
        step = 2**self.levels
        padded = F.pad(pixels, (0, -width % step, 0, -height % step), "reflect")
        return (self._restore(padded, weights) + padded)[..., :height, :width]

    def _restore(self, pixels: Tensor, weights: Tensor) -> Tensor:
        x, skips = self.patch_embed["proj"](pixels), []
        for i in range(1, self.levels + 1):
            x = self._part(f"encoder_level{i}")(x)
            skips.append(x)
            x = self._part(f"down{i}_{i + 1}")(x)
        x = self._part(f"chnl_reduce{self.levels}")(self.latent(x))
        for i in range(self.levels, 0, -1):
            skip = skips[i - 1]
            prompt = self._part(f"prompt{i}")(skip, weights)
            skip = self._part(f"low_prompt_interaction_level{i}")(skip, prompt)
            x = torch.cat([self._part(f"up{i + 1}_{i}")(x), skip], dim=1)
            if i > 1:
                x = self._part(f"reduce_chan_level{i}")(x)
            x = self._part(f"decoder_level{i}")(x)
        return self.output(self.refinement(x))

    def regulariser(self, kind: Regulariser = "angle") -> Tensor:
        """Summed over the levels; see `PromptInPrompt.regulariser`."""
        prompts = (module for module in self.modules() if isinstance(module, PromptInPrompt))
        return torch.stack([prompt.regulariser(kind) for prompt in prompts]).sum()

    def _part(self, name: str) -> nn.Module:
        return self.get_submodule(name)


def _stack(width: int, heads: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(TransformerBlock(width, heads) for _ in range(count)))


class _Resize(nn.Module):
    """Half the side and twice the channels, or the other way round."""

    def __init__(self, conv: nn.Conv2d, shuffle: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(conv, shuffle)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)
