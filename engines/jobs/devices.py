"""Which GPUs there are, asked of the driver, so that nobody has to import torch for it."""

from __future__ import annotations

import os
import shutil
import subprocess


def gpu_ids() -> list[str]:
    """Ids of the NVIDIA GPUs that may be used: `CUDA_VISIBLE_DEVICES` where set, else all the driver knows."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        asked = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        listed = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()
