"""NPNet's second branch: what the singular values cannot say, predicted by an image network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

SWIN = "swin_tiny_patch4_window7_224"
SWIN_SIDE = 224
SWIN_ROWS = 7
WIDTH = 32
DILATIONS = (1, 2, 4, 1)


class SwinBranch(nn.Module):
    """The official branch, for loading released weights (28 million parameters): any size of latents.

    The answer of the Swin transformer, [B, 7, 7, 768] with the channels last, is read as 7 channels of 7 x 768. That
    is how released weights were trained.

    Args:
        channels: of the latents.
        drop_path: share of blocks that are left out at random in training.
    """

    def __init__(self, channels: int, drop_path: float = 0.1) -> None:
        super().__init__()
        from timm import create_model

        self.downconv = nn.Conv2d(channels, 3, 1)
        # Starts from random weights: those of ImageNet would have to be downloaded.
        self.swin = create_model(SWIN, pretrained=False, drop_path_rate=drop_path)
        self.upconv = nn.Conv2d(SWIN_ROWS, channels, 1)

    def forward(self, latents: Tensor) -> Tensor:
        seen = self.swin.forward_features(self.downconv(F.interpolate(latents, (SWIN_SIDE, SWIN_SIDE))))
        answer: Tensor = self.upconv(F.interpolate(seen, latents.shape[-2:]))
        return answer

    def released_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of this branch under the names of the timm that is installed; older ones named some otherwise."""
        from timm.models.swin_transformer import checkpoint_filter_fn

        swin = {name.removeprefix("swin."): value for name, value in state.items() if name.startswith("swin.")}
        others = {name: value for name, value in state.items() if not name.startswith("swin.")}
        return others | {f"swin.{name}": value for name, value in checkpoint_filter_fn(swin, self.swin).items()}


class SmallBranch(nn.Module):
    """A small convolutional network instead, for small latents (32 and less): 80,000 parameters.

    Dilated convolutions let every place see latents of 16 x 16 whole.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(4, WIDTH),
                nn.SiLU(),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation),
                nn.SiLU(),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation),
            )
            for dilation in DILATIONS
        )
        self.last = nn.Conv2d(WIDTH, channels, 1)

    def forward(self, latents: Tensor) -> Tensor:
        seen = self.first(latents)
        for block in self.blocks:
            seen = seen + block(seen)
        answer: Tensor = self.last(seen)
        return answer
