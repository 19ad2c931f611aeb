"""Photos that an enhancer learns from: read, picked and turned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engines.data.images import load_image
from engines.errors import DataError


def load_training_photos(paths: Sequence[str | Path], size: int = 512) -> tuple[Tensor, list[str]]:
    """Photos as [N, 3, size, size] uint8 (aspect not kept, as in the release), and why others could not be read.

    Raises:
        DataError: none can be read.
    """
    found, problems = [], []
    for path in paths:
        try:
            image = load_image(path).resize((size, size), Image.Resampling.LANCZOS)
        except DataError as error:
            problems.append(error.what)
            continue
        found.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    if not found:
        reason = f" The first: {problems[0]}" if problems else ""
        raise DataError(f"None of {len(paths)} files is a photo that can be read.{reason}", "Choose another folder.")
    return torch.stack(found), problems


def turned(photos: Tensor, draw: torch.Generator) -> Tensor:
    """Each of [B, 3, S, S] flipped left to right, upside down and along the diagonal, each with probability 1/2."""
    parts = []
    for photo, (across, down, swap) in zip(photos, torch.rand(len(photos), 3, generator=draw) < 0.5, strict=True):
        dims = [dim for dim, flip in ((-1, across), (-2, down)) if flip]
        photo = photo.flip(dims) if dims else photo
        parts.append(photo.transpose(-1, -2) if swap else photo)
    return torch.stack(parts)


def pick(group: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Indices of `count` members, none twice where there are enough."""
    if len(group) >= count:
        return torch.randperm(len(group), generator=draw)[:count]
    return torch.randint(len(group), (count,), generator=draw)


def luma(pixels: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, H, W]."""
    return 0.299 * pixels[:, 0] + 0.587 * pixels[:, 1] + 0.114 * pixels[:, 2]


def digest(values: Tensor) -> str:
    """A short name of a tensor's values."""
    array: Any = values.detach().cpu().contiguous().numpy()
    return hashlib.sha256(memoryview(array).cast("B")).hexdigest()[:16]
