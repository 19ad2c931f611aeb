"""Where and in which precision a backbone computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from engines.errors import BackboneError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """Weights are always float32; `precision` "bf16" or "fp16" adds autocast on CUDA."""

    device: torch.device
    precision: str = "fp32"

    @classmethod
    def choose(cls, device: str | torch.device | None = None, precision: str | None = None) -> Runtime:
        """The device asked for, or the best one at hand: cuda, mps, cpu."""
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        try:
            device = torch.device(device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise BackboneError(
                f"The device '{device}' cannot be used on this machine.", "Choose 'cpu'.", str(error)
            ) from error
        precision = precision or "fp32"
        if precision not in ("fp32", *AUTOCAST):
            raise BackboneError(f"'{precision}' is no precision known here.", "Choose fp32, bf16 or fp16.")
        if precision != "fp32" and device.type != "cuda":
            raise BackboneError(
                f"Precision {precision} needs an NVIDIA or AMD GPU; this backbone runs on '{device.type}'.",
                "Choose fp32.",
            )
        return cls(device, precision)

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which the frozen towers compute."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, AUTOCAST[self.precision])

    @property
    def activation_budget(self) -> int:
        """Bytes of activations a text tower may keep for the backward pass before it recomputes them instead."""
        return (4 if self.device.type == "cuda" else 1) * 2**30
