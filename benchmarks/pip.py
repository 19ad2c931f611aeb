"""What PIP's prompts do in one small network, for each kind of damage: the table of docs/enhancement.md.

    python benchmarks/pip.py --scratch FOLDER [--steps 3000] [--threads 2]

Trained on pictures that scikit-image ships, judged on two that it never saw, each damaged in its five ways with several
draws. Every picture is restored with the prompt of its own damage and with those of the other four, which shows what
the prompt adds. A training that was stopped goes on in the same folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT

SIDE, DRAWS, STEPS = 192, 4, 3000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True, help="keeps the training, so that it can go on")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(arguments.threads)
    from engines.enhance.pip import PipSettings, load_pip

    settings = PipSettings(steps=arguments.steps)
    train(arguments.scratch, settings)
    rows = judge(load_pip(arguments.scratch))
    result = {"side": SIDE, "draws": DRAWS, "training": settings.model_dump(), "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "pip.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(table(rows))
    return 0


def train(folder: Path, settings: Any) -> None:
    from engines.enhance.backlit import TRAINING_PICTURES, shipped_picture
    from engines.enhance.pip import train_pip
    from engines.enhance.training_photos import load_training_photos

    pictures, _ = load_training_photos([shipped_picture(name) for name in TRAINING_PICTURES], 256)
    for done in train_pip(pictures, folder, settings):
        if done.step % 50 == 0:
            print(f"{done.step} of {done.steps}: loss {done.loss:.5f}", flush=True)


def judge(network: Any) -> list[dict[str, Any]]:
    """Mean PSNR and SSIM to the clean picture: damaged, restored, and restored as if it were other damage."""
    import numpy as np
    import torch

    from engines.enhance.backlit import HELD_OUT_PICTURES, shipped_picture
    from engines.enhance.metrics import psnr, ssim
    from engines.enhance.pip import DAMAGES
    from engines.enhance.pip.degrade import degrade
    from engines.enhance.pip.prompt import class_weights
    from engines.enhance.training_photos import load_training_photos

    pictures, _ = load_training_photos([shipped_picture(name) for name in HELD_OUT_PICTURES], SIDE)
    clean = (pictures.float() / 255).repeat(DRAWS, 1, 1, 1)
    rows: list[dict[str, Any]] = []
    for kind, name in enumerate(DAMAGES):
        damaged = degrade(clean, torch.full((len(clean),), kind), torch.Generator().manual_seed(1_000 + kind))
        seen = {"damaged": damaged}
        with torch.no_grad():
            for prompt in range(len(DAMAGES)):
                weights = class_weights(torch.full((len(clean),), prompt), len(DAMAGES))
                seen[str(prompt)] = network(damaged, weights).clamp(0, 1)
        figures = {}
        for way, found in seen.items():
            pairs = [
                (a.permute(1, 2, 0).numpy(), b.permute(1, 2, 0).numpy()) for a, b in zip(found, clean, strict=True)
            ]
            figures[way] = [float(np.mean([measure(*pair) for pair in pairs])) for measure in (psnr, ssim)]
        others = [figures[str(prompt)] for prompt in range(len(DAMAGES)) if prompt != kind]
        mean_of_others = [float(value) for value in np.mean(others, axis=0)]
        rows.append(
            {"damage": name, "damaged": figures["damaged"], "own": figures[str(kind)], "others": mean_of_others}
        )
        print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown."""
    lines = ["| damage | damaged: PSNR | SSIM | restored: PSNR | SSIM | with other prompts: PSNR | SSIM |"]
    lines.append("| --- |" + " ---: |" * 6)
    for row in rows:
        cells = "".join(f" {row[way][0]:.1f} | {row[way][1]:.3f} |" for way in ("damaged", "own", "others"))
        lines.append(f"| {row['damage']} |{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
