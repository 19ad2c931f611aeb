"""Methods that CLIP-LIT is compared with; one file each.

Each takes [H, W, 3] float32, RGB in 0..1, and gives the same. Zero-DCE has to be trained first: see `zero_dce`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engines.enhance.baselines.auto_gamma import auto_gamma
from engines.enhance.baselines.clahe import clahe
from engines.enhance.baselines.exposure_fusion import exposure_fusion
from engines.enhance.baselines.msrcr import msrcr

Method = Callable[[np.ndarray], np.ndarray]

BASELINES: dict[str, Method] = {
    "auto-gamma": auto_gamma,
    "clahe": clahe,
    "msrcr": msrcr,
    "exposure-fusion": exposure_fusion,
}

__all__ = ["BASELINES", "Method", "auto_gamma", "clahe", "exposure_fusion", "msrcr"]
