"""HPS v2.1: CLIP ViT-H/14 fine-tuned on which images people preferred (Wu et al., arXiv:2306.09341)."""

from __future__ import annotations

from pathlib import Path

from engines.backbones import Backbone, load_backbone
from engines.diffusion.golden.scorers.clip_score import ClipScore

ARCHITECTURE = "ViT-H-14"


def load(backbone: Backbone | None, device: str | None, files: list[Path]) -> ClipScore:
    """From the released file.

    Raises:
        BackboneError: it is damaged.
    """
    model = load_backbone(ARCHITECTURE, pretrained=str(files[0]), device=device)
    return ClipScore(model, "HPS v2.1", weight=1.0, floor=False)
