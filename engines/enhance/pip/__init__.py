"""PIP: prompts that tell one restoration network which damage to undo (Li et al., arXiv:2312.05038).

A research module: it needs pairs of damaged and clean pictures, and no weights are published. What it shows on a small
network is the dial: the weights of the five kinds of damage may be mixed.

Importing this package costs no torch: names are looked up on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engines.enhance.pip.settings import DAMAGES as DAMAGES
from engines.enhance.pip.settings import PipSettings as PipSettings

if TYPE_CHECKING:
    from engines.enhance.pip.feature import PromptToFeature as PromptToFeature
    from engines.enhance.pip.host import PipUNet as PipUNet
    from engines.enhance.pip.prompt import PromptInPrompt as PromptInPrompt
    from engines.enhance.pip.train import load_pip as load_pip
    from engines.enhance.pip.train import train_pip as train_pip

_HOME = {
    "PipUNet": "host",
    "PromptInPrompt": "prompt",
    "PromptToFeature": "feature",
    "load_pip": "train",
    "train_pip": "train",
}

__all__ = ["DAMAGES", "PipSettings", "PipUNet", "PromptInPrompt", "PromptToFeature", "load_pip", "train_pip"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"engines.enhance.pip.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
