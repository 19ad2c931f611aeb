"""What the benchmarks share: random weights of full size, processes of their own, time and memory."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
WORDS = "red blue small large smooth rough oak cell leaf stone school golden night river engine".split()  # noqa: SIM905


def class_names(count: int) -> list[str]:
    """So many different names of two short words."""
    return [f"{WORDS[i % 15]} {WORDS[(i // 15 + 7 * i) % 15]}{'' if i < 225 else f' {i}'}" for i in range(count)]


def write_weights(scratch: Path) -> Path:
    """Random weights of ViT-B/16's sizes in a file."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.model.CLIP(**open_clip.get_model_config("ViT-B-16"))
    file = scratch / "weights.safetensors"
    save_file(model.state_dict(), file)
    return file


def load(scratch: Path) -> Any:
    """The backbone of `write_weights`, on the processor."""
    from engines.backbones import load_backbone

    return load_backbone("ViT-B-16", pretrained=str(scratch / "weights.safetensors"), device="cpu")


def made_up_pixels(sample: int) -> Any:
    """One image [3, 224, 224] of noise, the same for the same number."""
    import torch

    return torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(sample))


def in_own_process(script: str, options: list[str], result: Path) -> dict[str, Any]:
    """Run `script` with `options`; returns what it wrote to `result`."""
    subprocess.run([sys.executable, script, *options], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return dict(json.loads(result.read_text("utf-8")))


def shortest(function: Callable[[], Any], repeats: int) -> float:
    """Seconds of the quickest of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_memory() -> int:
    """Highest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident_memory() -> int:
    """Resident memory of this process now, in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def processor() -> str:
    """What the figures were measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
