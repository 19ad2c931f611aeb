"""Backlit enhancement: CLIP-LIT, its training, and the methods people compare it with.

Importing this package costs no torch: names are looked up on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engines.enhance.enhancer import ClipLitEnhancer as ClipLitEnhancer
    from engines.enhance.enhancer import load_enhancer as load_enhancer
    from engines.enhance.photo import Photo as Photo
    from engines.enhance.photo import read_photo as read_photo
    from engines.enhance.photo import save_photo as save_photo
    from engines.enhance.settings import TrainSettings as TrainSettings
    from engines.enhance.training import train_enhancer as train_enhancer
    from engines.enhance.training_photos import load_training_photos as load_training_photos

_HOME = {
    "ClipLitEnhancer": "enhancer",
    "load_enhancer": "enhancer",
    "Photo": "photo",
    "read_photo": "photo",
    "save_photo": "photo",
    "TrainSettings": "settings",
    "train_enhancer": "training",
    "load_training_photos": "training_photos",
}

__all__ = [
    "ClipLitEnhancer",
    "Photo",
    "TrainSettings",
    "load_enhancer",
    "load_training_photos",
    "read_photo",
    "save_photo",
    "train_enhancer",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"engines.enhance.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
