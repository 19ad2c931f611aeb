"""What a method had learned at some moments of its training, kept in one small file beside the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from engines.files import write_whole
from engines.prompts.base import PromptMethod

FILE = "snapshots.safetensors"
MOST = 11
"""Moments in the file: the start and up to ten passes. The end is the learned prompt itself."""
LIMIT = 20 * 2**20
"""Bytes of all moments together; larger methods are kept at fewer moments, or at none."""


class Snapshots:
    """Keeps moments of a training in `folder`; a training that was killed goes on with those in the file.

    A moment holds the learned tensors and the buffers that a method fills on its way (such as running means).
    """

    def __init__(self, folder: Path, method: PromptMethod, epochs: int) -> None:
        self.file, self.method = folder / FILE, method
        self.moments = moments(epochs, size(learned(method))) if method.fitting == "gradient" else []
        self.taken = read(self.file) if self.moments else {}

    def take(self, epoch: int) -> None:
        """Keep what is learned after pass number `epoch` (0 is the start), if it is one of the chosen moments."""
        if epoch not in self.moments:
            return
        now = {name: tensor.cpu().clone() for name, tensor in learned(self.method).items()}
        others = sum(size(own) for number, own in self.taken.items() if number != epoch)
        if others + size(now) > LIMIT:  # some methods grow when they begin
            return
        self.taken[epoch] = now
        tensors = {f"{number}/{name}": tensor for number, own in self.taken.items() for name, tensor in own.items()}
        write_whole(self.file, save(tensors, metadata={"epochs": json.dumps(sorted(self.taken))}))


def moments(epochs: int, each: int) -> list[int]:
    """The passes that are kept of so many, for `each` bytes a moment: evenly spread, the start first, no end."""
    count = min(MOST, epochs, LIMIT // max(1, each))
    return sorted({round(n) for n in np.linspace(0, epochs, count + 1)[:-1].tolist()})


def learned(method: PromptMethod) -> dict[str, Tensor]:
    """What changes while `method` learns. Buffers that are still empty are left out: it fills them before it begins."""
    buffers = {name: b for name, b in method.named_buffers() if b.is_floating_point() and bool(b.any())}
    own = method.state_dict().keys()
    tensors = {name: b for name, b in buffers.items() if name in own} | method.trainable_parameters()
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def size(tensors: Mapping[str, Tensor]) -> int:
    """Bytes."""
    return sum(tensor.nbytes for tensor in tensors.values())


def read(file: Path) -> dict[int, dict[str, Tensor]]:
    """Moments by pass; none where there is no file, or where it is damaged."""
    found: dict[int, dict[str, Tensor]] = {}
    try:
        with safe_open(file, "pt") as stored:
            for key in stored.keys():  # noqa: SIM118 - no mapping
                number, _, name = key.partition("/")
                found.setdefault(int(number), {})[name] = stored.get_tensor(key)
    except Exception:  # a damaged file costs the course of the training, never the run
        return {}
    return dict(sorted(found.items()))


def restored(method: PromptMethod, moment: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The state of `method`, as it is at the end, with what was learned by a moment put in.

    None where it had not all of its tensors then, or others: some methods are completed by their first step.
    """
    state: dict[str, Tensor] = method.state_dict()
    if any(name not in moment for name in method.trainable_parameters()):
        return None
    if any(name not in state or state[name].shape != tensor.shape for name, tensor in moment.items()):
        return None
    return {name: tensor.clone() for name, tensor in {**state, **moment}.items()}
