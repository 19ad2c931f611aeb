"""A few steps of an optimiser through a frozen network, also where the network computes in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


class Descent:
    """Scales losses up where gradients would vanish in half precision; parameters are float32.

    Args:
        optimizer: of the few parameters that are learned.
        precision: of the network between them and the loss.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, precision: torch.dtype) -> None:
        self.optimizer = optimizer
        device = optimizer.param_groups[0]["params"][0].device
        self._scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10, enabled=precision == torch.float16)

    def step(self, loss: Tensor) -> None:
        """One update; none where gradients overflow, and then smaller ones are tried the next time."""
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.step(self.optimizer)
        self._scaler.update()
