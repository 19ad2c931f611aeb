"""One training step of every method, ours against the plain way, at ViT-B/16 sizes with random weights.

    python benchmarks/methods.py [--methods coop,maple] [--classes 50] [--threads 1] [--repeats 3]

The plain way does at every step what the official loops do: every image through the image tower, every prompt at its
full 77 tokens through the text tower, all at once, and for single methods what `OFFICIAL` tells. Ours reads image
features from the cache where the method leaves the image tower alone, cuts prompts at their last end token, and
computes their common prefix once. Each way loads the same weights in a process of its own; batches are the papers'.
Loss and gradients of both are compared; memory is the highest resident set above that of the imported libraries.

Without `--methods`, every method that learns by gradient steps is measured, new ones too. `TARGETS` holds what we want.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import (
    RESULTS,
    class_names,
    in_own_process,
    load,
    made_up_pixels,
    peak_memory,
    processor,
    resident_memory,
    shortest,
    write_weights,
)

TARGETS = dict.fromkeys(("coop", "kgcoop", "prograd", "pre"), 25.0) | {"cocoop": 8.0}
TARGETS |= dict.fromkeys(("maple", "ivlp", "promptsrc", "coprompt", "restore"), 2.0)
OFFICIAL = {
    "cocoop": "image by image, as the official loop does",
    "prograd": "the image also goes through the teacher's own tower",
}
FILE = RESULTS / "methods.json"
LIMIT_1000 = 4 * 2**30


def main() -> int:
    arguments = _arguments()
    if arguments.side:
        return run_side(arguments)
    results = json.loads(FILE.read_text("utf-8"))["methods"] if arguments.methods and FILE.is_file() else {}
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        write_weights(scratch)
        print(
            f"{'method':16}{'plain, s':>10}{'ours, s':>10}{'ratio':>9}{'memory':>9}{'loss':>10}{'gradient':>10}  target"
        )
        for name in arguments.methods or trained_methods():
            sides = {side: _run(arguments, side, name, scratch) for side in ("plain", "ours")}
            results[name] = compare(name, sides["plain"], sides["ours"])
            _print(name, results[name])
        many = _run(arguments, "ours", "coop", scratch, classes=1000)
    print(f"CoOp with 1,000 classes: {many['process_memory'] / 2**30:.2f} GiB in all, {many['seconds']:.1f} s a step")
    met = all(result["target_met"] for result in results.values()) and many["process_memory"] <= LIMIT_1000
    setting = {"classes": arguments.classes, "threads": arguments.threads, "processor": processor()}
    thousand = {"process_memory": many["process_memory"], "seconds": many["seconds"]}
    RESULTS.mkdir(exist_ok=True)
    whole = {"setting": setting, "coop_1000_classes": thousand, "targets_met": met, "methods": results}
    FILE.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
    print("All targets met." if met else "NOT all targets met.")
    return 0 if met else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", type=lambda text: text.split(","))
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=["plain", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def trained_methods() -> list[str]:
    from engines.prompts.catalog import method_catalog

    return [entry.name for entry in method_catalog() if entry.fitting == "gradient"]


def _run(arguments: argparse.Namespace, side: str, method: str, scratch: Path, classes: int = 0) -> dict[str, Any]:
    options = [f"--classes={classes or arguments.classes}", f"--threads={arguments.threads}"]
    options += [f"--repeats={arguments.repeats}", f"--methods={method}", f"--side={side}", f"--scratch={scratch}"]
    return in_own_process(__file__, options, scratch / f"{side}.json")


# -- one side, in its own process --------------------------------------------------------------------------------------


def run_side(arguments: argparse.Namespace) -> int:
    import torch

    from engines.backbones.loading import load_backbone as _imported  # noqa: F401 - with all its libraries
    from engines.prompts import create_method

    torch.set_num_threads(arguments.threads)
    (name,), plain = arguments.methods, arguments.side == "plain"
    libraries = resident_memory()
    backbone = load(arguments.scratch)
    if plain:
        backbone.text = plain_tower(backbone.text)
    torch.manual_seed(1)
    method = create_method(name, backbone, class_names(arguments.classes))
    method.train()
    step = make_step(method, plain and name in OFFICIAL, plain)
    loss = step()
    gradients = {n: p.grad.flatten()[:64].tolist() for n, p in method.named_parameters() if p.grad is not None}
    seconds = shortest(step, arguments.repeats)
    result = {"loss": float(loss), "gradients": gradients, "seconds": seconds, "memory": peak_memory() - libraries}
    result["process_memory"] = peak_memory()
    (arguments.scratch / f"{arguments.side}.json").write_text(json.dumps(result), "utf-8")
    return 0


def plain_tower(text: Any) -> Any:
    """The same text tower without any saving: 77 tokens, nothing shared, all prompts at once."""
    from engines.backbones.open_clip_text import OpenClipTextTower

    class PlainTextTower(OpenClipTextTower):
        @property
        def padded_length(self) -> int:
            return int(self.tokenizer.context_length)

        def _in_parts(self, encode: Any, jobs: Any, bytes_per_job: int) -> list[Any]:
            return [encode(jobs).float()]

    return PlainTextTower(text._module, text.tokenizer, text.runtime)


def make_step(method: Any, official: bool, plain: bool) -> Callable[[], Any]:
    """Forward and backward of one batch of the paper's size; returns the loss."""
    import torch

    size = method.training_defaults("few-shot").batch_size
    labels = torch.arange(size) % len(method.class_names)
    if method.learns_from == "unlabelled":
        labels = torch.full((size,), -1)
    views = torch.stack(
        [torch.stack([made_up_pixels(i + 1000 * v) for i in range(size)]) for v in range(method.image_views)]
    )
    pixels = views if method.image_views > 1 else views[0]
    cached = method.frozen_images and not plain
    features = torch.cat([method.backbone.encode_image(part) for part in pixels.split(4)]) if cached else None
    indices = torch.arange(size)

    def once(phase: int) -> Any:
        method.zero_grad(set_to_none=True)
        method.begin_step(indices, 0, phase)
        torch.manual_seed(2)
        if cached:
            return method.backward(None, labels, features=features)
        if official and method.info.name == "prograd":
            method.backbone.encode_image(pixels)
        if official and method.info.name == "cocoop":
            parts = zip(pixels.split(1), labels.split(1), strict=True)
            return sum(method.backward(one, label, weight=1 / size) for one, label in parts)
        return method.backward(pixels, labels)

    return lambda: [once(phase) for phase in range(method.phases)][-1]


# -- both sides together -----------------------------------------------------------------------------------------------


def compare(name: str, plain: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Ratios and differences, and whether the method's target is met."""
    pairs = [
        (p, o)
        for key, values in plain["gradients"].items()
        for p, o in zip(values, ours["gradients"][key], strict=True)
    ]
    largest = max((abs(p) for p, _ in pairs), default=1.0)
    result: dict[str, Any] = {
        "ratio": plain["seconds"] / ours["seconds"],
        "memory_ratio": ours["memory"] / plain["memory"],
        "loss_difference": abs(plain["loss"] - ours["loss"]) / max(1e-9, abs(plain["loss"])),
        "gradient_difference": max((abs(p - o) for p, o in pairs), default=0.0) / max(largest, 1e-12),
        "target": TARGETS.get(name),
    }
    result |= {side: {k: found[k] for k in ("seconds", "memory")} for side, found in (("plain", plain), ("ours", ours))}
    equal = result["loss_difference"] <= 1e-3 and result["gradient_difference"] <= 1e-3
    result["target_met"] = result["ratio"] >= (TARGETS.get(name) or 0) and result["memory_ratio"] <= 1 and equal
    return result


def _print(name: str, result: dict[str, Any]) -> None:
    times = f"{result['plain']['seconds']:10.2f}{result['ours']['seconds']:10.3f}{result['ratio']:8.1f}x"
    equal = f"{result['loss_difference']:10.0e}{result['gradient_difference']:10.0e}"
    target = f"  >= {result['target']:g}" if result["target"] else ""
    print(f"{name:16}{times}{result['memory_ratio']:9.2f}{equal}{target}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
