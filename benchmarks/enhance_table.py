"""Every way of brightening on backlit pictures whose truth is known: the table of docs/enhancement.md.

    python benchmarks/enhance_table.py --scratch FOLDER [--threads 2]

Pictures are put into shadow by `engines.enhance.backlit`, so PSNR and SSIM against the truth can be told. CLIP-LIT is
trained here three times, with each guidance, without pairs, mini-CLIP judging: far shorter and on far smaller pictures
than published, so the figures say how this program behaves on a processor, not how good the method is. Zero-DCE
learns from the same backlit pictures. Nothing that is judged was trained on. A run that was stopped goes on in the same
folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT

SIZE, JUDGED_SIZE = 64, 96
SHORT: dict[str, Any] = {
    "rounds": 2,
    "warm_up_steps": 10,
    "enhance_steps": 60,
    "refine_steps": 50,
    "extensions": 0,
    "network_rate": 1e-4,
    "batch": 4,
    "size": SIZE,
    "start": "unit",
    "checkpoint_every": 20,
}
GUIDANCE: dict[str, dict[str, Any]] = {
    "prompt": {"prompt_steps": 600},
    "latent": {"prompt_steps": 600, "prompt_rate": 5e-3},
    "rave": {},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True, help="keeps the trainings, so that they can go on")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(arguments.threads)
    methods = train(arguments.scratch)
    rows = judge(methods)
    result = {"size": JUDGED_SIZE, "training": SHORT | {"guidance": GUIDANCE}, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "enhance_table.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(table(rows))
    return 0


def train(scratch: Path) -> dict[str, Callable[[Any], Any]]:
    """Every method by its name in the table, those that learn after learning."""
    from engines.backbones import load_backbone
    from engines.enhance import TrainSettings, load_enhancer, train_enhancer
    from engines.enhance.backlit import TRAINING_PICTURES, joined, photo_pairs, rendered_pairs
    from engines.enhance.baselines import BASELINES

    dark, bright = (
        joined(rendered_pairs(48, SIZE, seed), photo_pairs(TRAINING_PICTURES, 4, SIZE, seed)) for seed in (1, 2)
    )
    backlit, well_lit = (_tensor(pictures) for pictures in (dark.backlit, bright.truth))
    methods: dict[str, Callable[[Any], Any]] = {"the backlit picture itself": lambda pixels: pixels, **BASELINES}
    methods["Zero-DCE, trained on them"] = _zero_dce(backlit, scratch / "zero-dce.safetensors")
    backbone = load_backbone("mini-clip", device="cpu")
    for guidance, changes in GUIDANCE.items():
        folder = scratch / guidance
        settings = TrainSettings(guidance=guidance, **SHORT | changes)
        for done in train_enhancer(backbone, backlit, well_lit, folder, settings):
            if done.snapshot or done.total % 20 == 0:
                print(
                    f"{guidance}: {done.stage.value} {done.round}, step {done.step}, loss {done.loss:.1f}", flush=True
                )
        for snapshot in sorted(folder.glob("round-*.safetensors")):
            number = snapshot.stem.removeprefix("round-")
            name = "RAVE" if guidance == "rave" else f"CLIP-LIT, {guidance}, round {number}"
            methods[name] = load_enhancer(snapshot).enhance
    methods["mini-enhancer (shipped)"] = load_enhancer(ROOT / "assets" / "models" / "mini-enhancer").enhance
    return methods


def _zero_dce(backlit: Any, file: Path) -> Callable[[Any], Any]:
    import torch

    from engines.enhance.baselines.zero_dce import ZeroDCE, load_zero_dce, save_zero_dce, train_zero_dce

    if not file.exists():
        torch.manual_seed(0)
        network = ZeroDCE()
        for _ in train_zero_dce(network, backlit, steps=150, batch=4, learning_rate=5e-4):
            pass
        save_zero_dce(network, file)
    return load_zero_dce(file).enhance


def _tensor(pictures: Any) -> Any:
    """[N, S, S, 3] -> [N, 3, S, S]."""
    import torch

    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def judge(methods: dict[str, Callable[[Any], Any]]) -> list[dict[str, Any]]:
    """Mean PSNR and SSIM to the truth of each method, on scenes and photos that nothing was trained on."""
    import numpy as np

    from engines.enhance.metrics import appearance, lightness_order_error, psnr, ssim
    from engines.enhance.recipe import held_out

    rows: list[dict[str, Any]] = []
    groups = held_out(JUDGED_SIZE)
    for name, method in methods.items():
        row: dict[str, Any] = {"method": name}
        for group, pairs in groups.items():
            found = []
            for dark, truth in zip(pairs.backlit / np.float32(255), pairs.truth / np.float32(255), strict=True):
                after = method(dark)
                found.append(
                    [
                        psnr(after, truth),
                        ssim(after, truth),
                        appearance(after).dark,
                        lightness_order_error(dark, after),
                    ]
                )
            measures = ("psnr", "ssim", "dark", "loe")
            row[group] = dict(zip(measures, (float(v) for v in np.mean(found, axis=0)), strict=True))
        rows.append(row)
        print(row, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown."""
    groups = [key for key in rows[0] if key != "method"]
    head = "".join(f" {group}: PSNR | SSIM | dark |" for group in groups)
    lines = [f"| method |{head}", "| --- |" + " ---: |" * 3 * len(groups)]
    for row in rows:
        cells = "".join(f" {row[g]['psnr']:.1f} | {row[g]['ssim']:.3f} | {row[g]['dark']:.1%} |" for g in groups)
        lines.append(f"| {row['method']} |{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
