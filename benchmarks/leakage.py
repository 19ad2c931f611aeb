"""Repairing leakage (DPL): the fast schedule against the official one, on any text-to-image model.

    python benchmarks/leakage.py [--model assets/models/mini-diffusion] [--images 4] [--steps 20] [--threads 1]
    python benchmarks/leakage.py --model FOLDER --image cat_and_dog.png --caption "a cat and a dog" --nouns cat,dog

Without an image, two-object scenes are drawn that the mini model has not seen. Both schedules repair the same images,
each in a process of its own; seconds are the mean over images of the whole repair, inversion included (without a GPU
those that the processor spent on it, so that a busy machine changes little). Memory is the
GPU's highest allocation, or without a GPU the highest resident set above that of the imported libraries. Reconstruction
is judged by PSNR against the image, and against the image as the autoencoder alone gives it back, which no repair can
beat. The official schedule is that of DPL's released code: 51 updates of the empty prompt on both branches, the whole
UNet at every update of the words, and, as the UNet's weights are not frozen there, gradients of them that nobody uses.
A third run makes the same updates with a frozen UNet, so that it is seen what comes from where.

Targets: at least 3 times as fast, reconstruction not worse.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT, in_own_process, peak_memory, processor, resident_memory

SCHEDULES = ("official", "frozen", "fast")
"""As DPL's code runs; the same with a frozen UNet; ours."""
TOLERATED = 0.05
"""dB by which PSNR may differ from run to run of equal quality."""


def main() -> int:
    arguments = _arguments()
    if arguments.schedule:
        arguments.out.write_text(json.dumps(measure(arguments)), "utf-8")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        sides = {schedule: _run(arguments, schedule, Path(scratch)) for schedule in SCHEDULES}
    result = compare(sides)
    result["setting"] = {
        "model": arguments.model.name,
        "images": len(sides["fast"]["seconds"]),
        "steps": arguments.steps,
        "threads": arguments.threads,
        "device": sides["fast"]["device"],
    }
    report(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "leakage.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0 if result["targets_met"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "models" / "mini-diffusion")
    parser.add_argument("--images", type=int, default=4, help="how many scenes, where no image is given")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--caption", default="")
    parser.add_argument("--nouns", default="", help="words of the caption, separated by commas")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device")
    parser.add_argument("--schedule", choices=SCHEDULES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(arguments: argparse.Namespace, schedule: str, scratch: Path) -> dict[str, Any]:
    out = scratch / f"{schedule}.json"
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    given |= {"schedule": schedule, "out": out, "model": arguments.model.resolve()}
    return in_own_process(__file__, [f"--{name}={value}" for name, value in given.items()], out)


# -- one schedule, in its own process ----------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds and PSNR of every image, and the memory of all."""
    import torch

    from engines.diffusion.loading import load_text_to_image
    from engines.diffusion.repair import repair, start_repair
    from engines.diffusion.state import RepairSettings

    torch.set_num_threads(arguments.threads)
    libraries = resident_memory()
    model = load_text_to_image(arguments.model, arguments.device)
    cuda = model.device.type == "cuda"
    clock = time.perf_counter if cuda else lambda: time.process_time() / arguments.threads
    settings = RepairSettings(schedule="fast" if arguments.schedule == "fast" else "official", steps=arguments.steps)
    model.unet.requires_grad_(arguments.schedule == "official")
    found: dict[str, Any] = {"seconds": [], "psnr": [], "psnr_to_autoencoder": [], "updates": [], "null_updates": []}
    for pixels, caption, nouns in _images(arguments, model.image_side):
        start = clock()
        state = start_repair(model, pixels, caption, nouns, settings)
        stages = [progress.stage for progress in repair(model, state)]
        assert state.latents is not None
        image = model.decode(state.latents).cpu()
        found["seconds"].append(clock() - start)
        found["psnr"].append(_psnr(image, pixels))
        found["psnr_to_autoencoder"].append(_psnr(image, model.decode(model.encode_image(pixels)).cpu()))
        found["updates"].append(stages.count("attention"))
        found["null_updates"].append(stages.count("reconstruct"))
    found["memory"] = torch.cuda.max_memory_allocated() if cuda else peak_memory() - libraries
    found["device"] = torch.cuda.get_device_name() if cuda else processor()
    return found


def _images(arguments: argparse.Namespace, side: int) -> list[tuple[Any, str, list[str]]]:
    """Pixels [1, 3, side, side], caption and nouns of each."""
    from PIL import Image

    from engines.data.images import load_image
    from engines.diffusion.pictures import square_pixels
    from engines.miniworld.diffusion.gate import HELD_OUT_SEED
    from engines.miniworld.diffusion.pictures import draw

    if arguments.image:
        nouns = [noun for noun in arguments.nouns.split(",") if noun]
        return [(square_pixels(load_image(arguments.image), side), arguments.caption, nouns)]
    scenes = draw(HELD_OUT_SEED, 4, arguments.images, 2)
    return [
        (square_pixels(Image.fromarray(pixels), side), caption, [thing.shape for thing in spec.things])
        for pixels, caption, spec in zip(scenes.pixels, scenes.captions, scenes.specs, strict=True)
    ]


def _psnr(image: Any, reference: Any) -> float:
    return float(-10 * (image - reference).square().mean().log10())


# -- both schedules together -------------------------------------------------------------------------------------------


def compare(sides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over images, the ratios of seconds, and whether the targets are met."""
    result: dict[str, Any] = {}
    for name, side in sides.items():
        means = {key: sum(values) / len(values) for key, values in side.items() if isinstance(values, list)}
        result[name] = means | {"memory": side["memory"]}
    result["speed_ratio"] = result["official"]["seconds"] / result["fast"]["seconds"]
    result["speed_ratio_frozen"] = result["frozen"]["seconds"] / result["fast"]["seconds"]
    result["psnr_difference"] = result["fast"]["psnr"] - result["official"]["psnr"]
    result["targets_met"] = result["speed_ratio"] >= 3 and result["psnr_difference"] >= -TOLERATED
    return result


def report(result: dict[str, Any]) -> None:
    print(f"{'':38}" + "".join(f"{name:>12}" for name in SCHEDULES))
    for key, words, unit in (
        ("seconds", "seconds per image", 1),
        ("memory", "peak memory, MB", 1e6),
        ("psnr", "PSNR to the image, dB", 1),
        ("psnr_to_autoencoder", "PSNR to the autoencoder's image, dB", 1),
        ("updates", "updates of the words", 1),
        ("null_updates", "updates of the empty prompt", 1),
    ):
        print(f"{words:38}" + "".join(f"{result[name][key] / unit:12.2f}" for name in SCHEDULES))
    print(
        f"{result['speed_ratio']:.1f} times as fast, {result['speed_ratio_frozen']:.1f} where both freeze the UNet; "
        f"PSNR {result['psnr_difference']:+.2f} dB"
    )
    print("targets met" if result["targets_met"] else "TARGETS MISSED")


if __name__ == "__main__":
    raise SystemExit(main())
