"""Where the autoencoder's training begins: latents that are the mean colours of 4 x 4 pixels, and their enlargement.

From random weights it draws shapes within minutes, but all of them in one hue, and colours cost hours. So the first
channels of every layer carry the three colours and their negatives (whose SiLUs differ by the value itself), and
everything else may learn what is missing.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

COLOURS = 3
CARRIED = 2 * COLOURS
DEVIATION = 0.35
"""Of the colours; the norms before the last layer made it 1."""
LOG_VARIANCE = -5.0
"""Little noise on the latents: at the usual deviation of 1 the first minutes would be lost in it."""


@torch.no_grad()
def begin_with_colours(autoencoder: AutoencoderKL) -> None:
    """Sets the weights of an autoencoder with two halvings, one group in its norms and no attention."""
    for name, module in autoencoder.named_modules():
        kind = name.rsplit(".", 1)[-1]
        if kind == "conv2":
            module.weight.mul_(0.1)
            _clear(module)
        elif kind == "conv_shortcut" or name.endswith(("upsamplers.0.conv", "downsamplers.0.conv")):
            _carry(module, torch.eye(CARRIED), spread=1 if "downsamplers" in name else 0)
    signs = torch.eye(COLOURS)
    encoder, decoder, latents = autoencoder.encoder, autoencoder.decoder, autoencoder.config.latent_channels
    _carry(encoder.conv_in, torch.cat([signs, -signs]))
    _carry(encoder.conv_out, torch.cat([signs, -signs], dim=1))
    _carry(decoder.conv_in, torch.cat([signs, -signs]))
    _carry(decoder.conv_out, DEVIATION * torch.cat([signs, -signs], dim=1))
    for straight in (autoencoder.quant_conv, autoencoder.post_quant_conv):
        _carry(straight, torch.eye(latents))
    autoencoder.quant_conv.weight[latents:] *= 0.1
    autoencoder.quant_conv.bias[latents:] = LOG_VARIANCE


def _clear(module: nn.Module) -> None:
    """The residual leaves the carried channels as they are."""
    assert isinstance(module, nn.Conv2d)
    assert module.bias is not None
    module.weight[:CARRIED] = 0
    module.bias[:CARRIED] = 0


def _carry(module: nn.Module, mix: Tensor, spread: int = 0) -> None:
    """Makes the first outputs `mix` [outputs, inputs] of the first inputs, averaged over 2 x 2 pixels where asked."""
    assert isinstance(module, nn.Conv2d)
    assert module.bias is not None
    outputs, inputs = mix.shape
    middle = module.kernel_size[0] // 2
    module.weight[:outputs] = 0
    module.bias[:outputs] = 0
    taps = [(0, 0), (0, 1), (1, 0), (1, 1)] if spread else [(middle, middle)]
    for row, column in taps:
        module.weight[:outputs, :inputs, row, column] = mix / len(taps)
