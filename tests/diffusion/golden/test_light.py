"""What pages read of golden noise costs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIGHT = ["settings", "statistics", "scorers", "study", "judged", "votes", "export", "sample_prompts"]


def test_lists_forms_and_verdicts_need_no_torch() -> None:
    script = f"""
import sys
from importlib import import_module
for name in {LIGHT}:
    import_module(f"engines.diffusion.golden.{{name}}")
from engines.diffusion.golden.scorers import SCORERS, missing
from engines.diffusion.golden.statistics import compare
print(compare([0] * 4, [1] * 4).verdict(), [bool(missing(name)) for name in SCORERS])
assert not {{"torch", "open_clip", "diffusers", "transformers"}} & set(sys.modules)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "golden won 4 of 4 pairs" in done.stdout
