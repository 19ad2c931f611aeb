"""Brightening a large photo by its light map, beside the plain network at full size.

    python benchmarks/enhance.py [--megapixels 12] [--plain-megapixels 2] [--native-megapixels 12] [--threads 1]
                                 [--weights FILE] [--photo FILE]

Three sides, each in a process of its own that has brightened a small photo before the clock starts:

- ours: `ClipLitEnhancer.enhance` as it comes: the light map of a copy of 768 x 768 pixels' area, enlarged along edges;
- native: the same network at the photo's own size, strip by strip, which is exact; ours is judged by its PSNR to this
  (on a smaller photo, if asked so: at 12 megapixels the native side takes minutes);
- plain: the network on the whole photo at once, as the released script does. At 12 megapixels that needs some 20 GB, so
  it gets a smaller photo by default; its work grows with the pixels alone, so its seconds per megapixel are compared.

Without a photo a backlit scene is drawn, at half its side, and enlarged; grain is added. Seconds are those that the
processor spent, divided by the threads, so that a busy machine changes little; memory is the highest resident set above
that of the libraries, weights and photo.

Targets: at least 8 times as fast as the plain network, at least 33 dB to the native result, and 6 GiB at most for 24
megapixels, so a quarter of a gigabyte per megapixel.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT, in_own_process, peak_memory, processor, resident_memory

SIDES = ("plain", "ours", "native")
DRAW = "draw"
FASTER, NEAR, MEMORY = 8.0, 33.0, 0.25 * 2**30
SHIPPED = ROOT / "assets" / "models" / "mini-enhancer"


def main() -> int:
    arguments = _arguments()
    if arguments.side:
        sys.path.insert(0, str(ROOT))
        found = draw(arguments) if arguments.side == DRAW else measure(arguments)
        arguments.answer.write_text(json.dumps(found), "utf-8")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        arguments.answer = Path(scratch) / "answer.json"
        _run(arguments, DRAW)
        found = {side: _run(arguments, side) for side in SIDES}
        result = compare(found)
    result["targets_met"] = (
        result["speed_ratio"] >= FASTER
        and found["native"]["psnr"] >= NEAR
        and found["ours"]["memory_per_megapixel"] <= MEMORY
    )
    setting = {"weights": arguments.weights.name, "threads": arguments.threads, "processor": processor()}
    result["setting"] = setting | {"photo": arguments.photo.name if arguments.photo else "drawn scene"}
    report(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "enhance.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0 if result["targets_met"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--plain-megapixels", type=float, default=2)
    parser.add_argument("--native-megapixels", type=float, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--side", choices=(DRAW, *SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(arguments: argparse.Namespace, side: str) -> dict[str, Any]:
    given = {name: value for name, value in vars(arguments).items() if value is not None} | {"side": side}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    found = in_own_process(__file__, options, arguments.answer)
    print(side, found, flush=True)
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of one side; native tells how near ours comes."""
    import numpy as np
    import torch

    from engines.enhance import load_enhancer
    from engines.enhance.enhancer import enhance_with
    from engines.enhance.metrics import psnr

    torch.set_num_threads(arguments.threads)
    enhancer = load_enhancer(arguments.weights)
    kept = np.load(arguments.answer.with_name(f"{arguments.side}.npy"))
    pixels = np.divide(kept, np.float32(255), dtype=np.float32)

    def brighten(photo: Any) -> Any:
        if arguments.side != "plain":
            return enhancer.enhance(photo, side=None) if arguments.side == "native" else enhancer.enhance(photo)
        with torch.no_grad():
            light = enhancer.network(torch.from_numpy(photo).permute(2, 0, 1)[None])[0, 0].numpy()
        return enhance_with(photo, light)

    brighten(pixels[:64, :64])
    held, began = resident_memory(), time.process_time()
    result = brighten(pixels)
    seconds = (time.process_time() - began) / arguments.threads
    megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
    memory = max(0, peak_memory() - held)
    found = {
        "megapixels": megapixels,
        "seconds": seconds,
        "seconds_per_megapixel": seconds / megapixels,
        "memory": memory,
        "memory_per_megapixel": memory / megapixels,
    }
    return found | {"psnr": psnr(enhancer.enhance(pixels), result)} if arguments.side == "native" else found


def draw(arguments: argparse.Namespace) -> dict[str, Any]:
    """Leaves the photo beside the answer in the size of every side, [H, W, 3] uint8."""
    import numpy as np
    from PIL import Image

    from engines.data.images import load_image
    from engines.enhance.backlit import rendered_pairs

    wanted = {"plain": arguments.plain_megapixels, "ours": arguments.megapixels, "native": arguments.native_megapixels}
    if arguments.photo:
        image = load_image(arguments.photo)
    else:
        image = Image.fromarray(rendered_pairs(1, round((max(wanted.values()) * 1e6) ** 0.5 / 2), seed=11).backlit[0])
    for side, megapixels in wanted.items():
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        size = (round(image.width * scale), round(image.height * scale))
        pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
        grain = np.random.default_rng(0).integers(-2, 3, pixels.shape, dtype=np.int16)
        np.save(arguments.answer.with_name(f"{side}.npy"), np.clip(pixels + grain, 0, 255).astype(np.uint8))
    return {"width": image.width, "height": image.height}


def compare(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What was measured, and how many times less time and memory per megapixel ours takes."""
    plain, ours = found["plain"], found["ours"]
    return dict(found) | {
        "speed_ratio": plain["seconds_per_megapixel"] / ours["seconds_per_megapixel"],
        "memory_ratio": plain["memory_per_megapixel"] / max(1.0, ours["memory_per_megapixel"]),
    }


def report(result: dict[str, Any]) -> None:
    print(f"{'':24}{'megapixels':>12}{'seconds':>10}{'s per MP':>10}{'MB per MP':>11}")
    for side in SIDES:
        row = result[side]
        per = row["seconds_per_megapixel"], row["memory_per_megapixel"] / 1e6
        print(f"{side:24}{row['megapixels']:12.1f}{row['seconds']:10.1f}{per[0]:10.2f}{per[1]:11.0f}")
    print(f"{result['speed_ratio']:.1f} times as fast as plain, {result['native']['psnr']:.1f} dB to native")
    print("targets met" if result["targets_met"] else "TARGETS MISSED")


if __name__ == "__main__":
    sys.exit(main())
