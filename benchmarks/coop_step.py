"""One CoOp training step, ours against the plain way, at ViT-B/16 sizes with random weights.

    python benchmarks/coop_step.py [--threads 1] [--classes 50] [--n-ctx 16] [--batch 32] [--repeats 5]

The plain way is what the papers' code does at every step: 32 images through the image tower, and all class prompts at
their full 77 tokens through the text tower, forward and backward. Ours reads the images' features from the cache and
computes the prompts' common prefix once, up to the last end token. Each way loads the same weight file in a process of
its own; times are the shortest of the repeats, memory is the highest resident set above that of the imported libraries,
so it counts weights, activations and gradients. Losses and gradients are compared.

Targets: text path at least 10 times as fast, whole step at least 25 times, peak memory at most a third.
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


def main() -> int:
    arguments = _arguments()
    if arguments.side:
        run_side(arguments)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        sides = {side: _run(arguments, side, Path(scratch)) for side in ("prepare", "plain", "ours")}
    result = compare(sides["plain"], sides["ours"])
    result["setting"] = {
        "classes": arguments.classes,
        "n_ctx": arguments.n_ctx,
        "batch": arguments.batch,
        "threads": arguments.threads,
        "prompt_tokens": sides["ours"]["prompt_tokens"],
        "processor": processor(),
    }
    report(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "coop_step.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0 if result["targets_met"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--n-ctx", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", choices=["prepare", "plain", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(arguments: argparse.Namespace, side: str, scratch: Path) -> dict[str, Any]:
    options = [f"--{name}={getattr(arguments, name)}" for name in ("threads", "classes", "batch", "repeats")]
    options += [f"--n-ctx={arguments.n_ctx}", f"--side={side}", f"--scratch={scratch}"]
    return in_own_process(__file__, options, scratch / f"{side}.json")


# -- one side, in its own process --------------------------------------------------------------------------------------


def run_side(arguments: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(arguments.threads)
    result = prepare(arguments) if arguments.side == "prepare" else measure(arguments)
    (arguments.scratch / f"{arguments.side}.json").write_text(json.dumps(result), "utf-8")


def prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write random weights and the feature cache, as an earlier job would have done."""
    from engines.backbones import FeatureCache, build_features

    write_weights(arguments.scratch)
    backbone = load(arguments.scratch)
    cache = FeatureCache(arguments.scratch, "random", backbone.fingerprint, "centre", backbone.embed_dim)
    build_features(cache, range(arguments.batch), made_up_pixels, backbone, batch_size=8)
    return {"fingerprint": backbone.fingerprint}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one side's text path and whole step, and say how much memory model and step need."""
    import torch
    import torch.nn.functional as F

    from engines.backbones import FeatureCache
    from engines.backbones.loading import load_backbone as _imported  # noqa: F401 - with all its libraries

    libraries = resident_memory()
    backbone = load(arguments.scratch)
    names = class_names(arguments.classes)
    context = 0.02 * torch.randn(arguments.n_ctx, 512, generator=torch.Generator().manual_seed(1))
    context.requires_grad_()
    labels = torch.arange(arguments.batch) % arguments.classes
    layout = backbone.text.layout(names, arguments.n_ctx)
    images: Callable[[], torch.Tensor]
    texts: Callable[[], torch.Tensor]
    if arguments.side == "ours":
        fingerprint = json.loads((arguments.scratch / "prepare.json").read_text("utf-8"))["fingerprint"]
        cache = FeatureCache(arguments.scratch, "random", fingerprint, "centre", 512)
        images = lambda: torch.from_numpy(cache.read(range(arguments.batch)))  # noqa: E731
        texts = lambda: backbone.text.encode_prompts(layout, context)  # noqa: E731
    else:
        pixels = torch.stack([made_up_pixels(i) for i in range(arguments.batch)])
        images = lambda: backbone.model.encode_image(pixels)  # noqa: E731
        texts = _plain_texts(backbone, layout, context)

    def text_path() -> None:
        F.normalize(texts(), dim=-1).square().mean().backward()

    def whole_step() -> torch.Tensor:
        context.grad = None
        with torch.no_grad():
            seen = F.normalize(images(), dim=-1)
        logits = backbone.logit_scale * seen @ F.normalize(texts(), dim=-1).T
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        return loss

    loss = whole_step()
    assert context.grad is not None
    return {
        "loss": loss.item(),
        "gradient": context.grad.tolist(),
        "memory": peak_memory() - libraries,
        "process_memory": peak_memory(),
        "text_seconds": shortest(text_path, arguments.repeats),
        "step_seconds": shortest(whole_step, arguments.repeats),
        "prompt_tokens": int(layout.ids.shape[1]),
    }


def _plain_texts(backbone: Any, layout: Any, context: Any) -> Callable[[], Any]:
    """Every class at 77 tokens through the model's own transformer, as CoOp's released code does it."""
    import torch

    model, n_ctx = backbone.model, layout.n_ctx
    ids = torch.zeros(len(layout.class_names), 77, dtype=torch.long)
    ids[:, : layout.ids.shape[1]] = layout.ids
    with torch.no_grad():
        embeddings = model.token_embedding(ids)
    prefix, suffix = embeddings[:, :1], embeddings[:, 1 + n_ctx :]

    def texts() -> Any:
        prompts = torch.cat([prefix, context.expand(len(ids), -1, -1), suffix], dim=1)
        x = model.transformer(prompts + model.positional_embedding, attn_mask=model.attn_mask)
        return model.ln_final(x)[torch.arange(len(ids)), ids.argmax(1)] @ model.text_projection

    return texts


# -- both sides together -----------------------------------------------------------------------------------------------


def compare(plain: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Ratios, differences, and whether the targets are met."""
    rows = zip(plain["gradient"], ours["gradient"], strict=True)
    gradient = max(abs(p - o) for row_p, row_o in rows for p, o in zip(row_p, row_o, strict=True))
    result: dict[str, Any] = {
        "text_path_ratio": plain["text_seconds"] / ours["text_seconds"],
        "whole_step_ratio": plain["step_seconds"] / ours["step_seconds"],
        "memory_ratio": ours["memory"] / plain["memory"],
        "loss_difference": abs(plain["loss"] - ours["loss"]),
        "gradient_difference": gradient,
        "largest_gradient": max(abs(value) for row in plain["gradient"] for value in row),
    }
    for name, side in (("plain", plain), ("ours", ours)):
        result[name] = {key: side[key] for key in ("text_seconds", "step_seconds", "memory", "process_memory")}
    result["targets_met"] = (
        result["text_path_ratio"] >= 10
        and result["whole_step_ratio"] >= 25
        and result["memory_ratio"] <= 1 / 3
        and result["loss_difference"] <= 1e-4
        and gradient <= 1e-5
    )
    return result


def report(result: dict[str, Any]) -> None:
    plain, ours = result["plain"], result["ours"]
    print(f"{'':24}{'plain':>12}{'ours':>12}{'ratio':>10}  target")
    for name, key, ratio, target in (
        ("text path, s", "text_seconds", "text_path_ratio", ">= 10"),
        ("whole step, s", "step_seconds", "whole_step_ratio", ">= 25"),
    ):
        print(f"{name:24}{plain[key]:12.3f}{ours[key]:12.3f}{result[ratio]:9.1f}x  {target}")
    memory = [side["memory"] / 2**20 for side in (plain, ours)]
    print(f"{'peak memory, MiB':24}{memory[0]:12.0f}{memory[1]:12.0f}{result['memory_ratio']:10.3f}  <= 0.333")
    process = [side["process_memory"] / 2**20 for side in (plain, ours)]
    print(f"{'  with the libraries':24}{process[0]:12.0f}{process[1]:12.0f}{process[1] / process[0]:10.3f}")
    print(f"loss differs by {result['loss_difference']:.1e}, ", end="")
    print(f"gradient by {result['gradient_difference']:.1e} of {result['largest_gradient']:.1e}")
    print("All targets met." if result["targets_met"] else "NOT all targets met.")


if __name__ == "__main__":
    sys.exit(main())
