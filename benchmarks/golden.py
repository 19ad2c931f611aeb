"""What NPNet costs: golden noise for an image beside the 50 steps of sampling that image.

    python benchmarks/golden.py [--model assets/models/mini-diffusion] [--steps 50] [--batches 1,8] [--threads 1]

Timed is everything that golden noise adds to a pipeline of diffusers: reading the prompt once more, drawing noise, and
the network (of random weights, which cost the same) with the residual branch that fits the latents. Without a GPU
seconds are those that the processor spent, so that a busy machine changes little; the quickest of several calls counts.

Target: at most 3% of the sampling, for one image and for several at once.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT, processor

TARGET = 0.03
REPEATS = 5
SAMPLINGS = 2
"""Fewer, as each is fifty steps long."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "models" / "mini-diffusion")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=5.5)
    parser.add_argument("--batches", default="1,8", help="images at once, separated by commas")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    result = measure(arguments)
    for batch, row in result["batches"].items():
        print(
            f"{batch} at once: NPNet {1000 * row['npnet']:.1f} ms, sampling {1000 * row['sampling']:.0f} ms an image: "
            f"{100 * row['overhead']:.2f}% more"
        )
    print("target met" if result["target_met"] else "TARGET MISSED")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "golden.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0 if result["target_met"] else 1


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds an image of both, for every batch size."""
    import torch
    from diffusers import DiffusionPipeline

    from engines.backbones.runtime import Runtime
    from engines.diffusion.golden.npnet import NPNet, NPNetConfig
    from engines.diffusion.golden.sample_prompts import scene_prompts
    from engines.diffusion.golden.use import golden_latents
    from engines.diffusion.model import TextToImage

    torch.set_num_threads(arguments.threads)
    device = Runtime.choose().device
    cuda = device.type == "cuda"
    dtype = torch.float16 if cuda else torch.float32
    pipe = DiffusionPipeline.from_pretrained(arguments.model, dtype=dtype, local_files_only=True).to(device)
    pipe.set_progress_bar_config(disable=True)
    model = TextToImage.from_pipeline(pipe)
    network = NPNet(NPNetConfig.fitting(model)).to(model.device).eval()

    clock = time.perf_counter if cuda else time.process_time

    def quickest(function: Any, repeats: int) -> float:
        function()
        seconds = []
        for _ in range(repeats):
            if cuda:
                torch.cuda.synchronize()
            start = clock()
            function()
            if cuda:
                torch.cuda.synchronize()
            seconds.append(clock() - start)
        return min(seconds)

    batches = {}
    for batch in map(int, arguments.batches.split(",")):
        prompts = scene_prompts(batch)
        latents = golden_latents(pipe, network, prompts)
        options = {"num_inference_steps": arguments.steps, "guidance_scale": arguments.guidance, "output_type": "np"}
        noise = quickest(lambda: golden_latents(pipe, network, prompts), REPEATS) / batch  # noqa: B023
        sampling = quickest(lambda: pipe(prompts, latents=latents, **options), SAMPLINGS) / batch  # noqa: B023
        batches[batch] = {"npnet": noise, "sampling": sampling, "overhead": noise / sampling}
    return {
        "batches": batches,
        "target_met": all(row["overhead"] <= TARGET for row in batches.values()),
        "setting": {
            "model": arguments.model.name,
            "steps": arguments.steps,
            "residual": network.config.residual,
            "latents": [network.config.channels, network.config.height, network.config.width],
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "threads": arguments.threads,
            "device": torch.cuda.get_device_name() if cuda else processor(),
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
