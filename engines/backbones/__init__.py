"""open_clip models behind one façade: prompted text and vision towers, loading, feature cache.

Importing this package costs no torch: names are looked up on first use (PEP 562), so light processes can list
backbones and read cached features.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engines.backbones.backbone import Backbone as Backbone
    from engines.backbones.backbone import Capabilities as Capabilities
    from engines.backbones.catalog import BackboneInfo as BackboneInfo
    from engines.backbones.catalog import list_backbones as list_backbones
    from engines.backbones.feature_job import build_features as build_features
    from engines.backbones.features import FeatureCache as FeatureCache
    from engines.backbones.layout import PromptLayout as PromptLayout
    from engines.backbones.loading import forget_backbones as forget_backbones
    from engines.backbones.loading import load_backbone as load_backbone

_HOME = {
    "Backbone": "backbone",
    "Capabilities": "backbone",
    "BackboneInfo": "catalog",
    "list_backbones": "catalog",
    "FeatureCache": "features",
    "build_features": "feature_job",
    "PromptLayout": "layout",
    "forget_backbones": "loading",
    "load_backbone": "loading",
}

__all__ = [
    "Backbone",
    "BackboneInfo",
    "Capabilities",
    "FeatureCache",
    "PromptLayout",
    "build_features",
    "forget_backbones",
    "list_backbones",
    "load_backbone",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"engines.backbones.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
