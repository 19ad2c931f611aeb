"""Leakage before and after its repair, and what word swaps keep of the rest, on scenes that the model has not seen.

    python benchmarks/leakage_table.py [--model assets/models/mini-diffusion] [--scenes 60] [--steps 20] [--threads 1]

Every scene has two things, a caption and exact masks. Its two nouns are repaired (DPL, fast schedule); then the first
thing's shape is swapped for one that the scene lacks, by plain Prompt-to-Prompt, after null-text inversion, and after
the repair, once only where the changed word looks and once anywhere. What is kept is measured outside the true mask of
the swapped thing, grown by a pixel in eight, against the picture itself. A rule (`engines.miniworld.diffusion.check`)
says whether the other thing is still there, and whether the new one is.

Scenes that are done are kept line by line in `results/leakage_table.jsonl`: the same command goes on where it was
stopped. Intervals are 95%, percentiles of 2,000 bootstrap samples over scenes. The table is written to
`docs/leakage-table.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measuring import RESULTS, ROOT, processor

WAYS = {"p2p": "Prompt-to-Prompt", "null-text": "null-text inversion", "dpl": "DPL"}
PLACES = {"words": "only where the word looks", "everywhere": "anywhere"}
SAMPLES = 2000
SCENE_STEP = 5
"""Of the world's random numbers: other scenes than the gate's and the speed benchmark's."""


def main() -> int:
    arguments = _arguments()
    setting = {"model": arguments.model.name, "steps": arguments.steps, "guidance": arguments.guidance}
    done = _kept(arguments.kept, setting)
    if len(done) < arguments.scenes:
        arguments.kept.parent.mkdir(exist_ok=True)
        with arguments.kept.open("a", encoding="utf-8") as file:
            for number, row in measure(arguments, set(done)):
                done[number] = row
                file.write(json.dumps({"scene": number, "setting": setting, **row}) + "\n")
                file.flush()
                print(f"scene {number + 1} of {arguments.scenes}: {row['seconds']:.0f} s", flush=True)
    text = report([done[number] for number in sorted(done)][: arguments.scenes], setting)
    arguments.out.write_text(text, "utf-8")
    print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "models" / "mini-diffusion")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device")
    parser.add_argument("--kept", type=Path, default=RESULTS / "leakage_table.jsonl")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "leakage-table.md")
    return parser.parse_args()


def _kept(file: Path, setting: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Scenes that are done with this setting; a torn last line does not count."""
    found = {}
    for line in file.read_text("utf-8").splitlines() if file.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["setting"] == setting:
            found[int(row["scene"])] = row
    return found


# -- one scene ---------------------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace, done: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, figures) of every scene that is not done."""
    import torch
    from PIL import Image

    from engines.diffusion.loading import load_text_to_image
    from engines.diffusion.pictures import square_pixels
    from engines.miniworld.diffusion.gate import HELD_OUT_SEED
    from engines.miniworld.diffusion.pictures import draw

    torch.set_num_threads(arguments.threads)
    model = load_text_to_image(arguments.model, arguments.device)
    scenes = draw(HELD_OUT_SEED, SCENE_STEP, arguments.scenes, 2)
    for number in range(arguments.scenes):
        if number in done:
            continue
        start = time.perf_counter()
        pixels = square_pixels(Image.fromarray(scenes.pixels[number]), model.image_side)
        masks = torch.from_numpy(scenes.masks[number, :2].copy())
        row = _scene(model, pixels, scenes.captions[number], scenes.specs[number].things, masks, arguments)
        yield number, row | {"seconds": time.perf_counter() - start}


def _scene(model: Any, pixels: Any, caption: str, things: Any, masks: Any, arguments: argparse.Namespace) -> Any:
    from engines.diffusion.edit_request import EditStart
    from engines.diffusion.repair import repair, start_repair
    from engines.diffusion.settings import RepairSettings

    nouns = [thing.shape for thing in things]
    settings = RepairSettings(steps=arguments.steps, guidance=arguments.guidance)
    states = {}
    for name, words, change in (("dpl", nouns, {}), ("null-text", [], {"attention_steps": 0})):
        state = start_repair(model, pixels, caption, words, settings.model_copy(update=change))
        for _ in repair(model, state):
            pass
        states[name] = state
    starts = {name: EditStart.from_repair(model, state) for name, state in states.items()}
    starts["p2p"] = EditStart.from_repair(model, states["dpl"], plain=True)
    words = [model.caption(caption).find(noun) for noun in nouns]
    return {
        "before": _leaks(states["dpl"].maps_before, words, masks),
        "after": _leaks(states["dpl"].maps_after, words, masks),
        "edits": {
            place: {way: _edit(model, starts[way], pixels, things, masks, place) for way in WAYS} for place in PLACES
        },
    }


def _leaks(maps: Any, words: Any, masks: Any) -> dict[str, float]:
    """Shares, IoU and pointing of the averaged maps, mean over both nouns."""
    import torch

    from engines.diffusion.leak_metrics import attention_iou, leak_shares, points_at
    from engines.diffusion.losses import word_heat

    mean = torch.stack(list(maps)).mean(dim=0).cpu()
    heat = word_heat(mean, words).unflatten(1, mean.shape[:2])
    rows = []
    for own, each in enumerate(heat):
        shares = leak_shares(each, list(masks), own)
        rows.append(
            {
                "own": shares.own,
                "other": sum(shares.others),
                "background": shares.background,
                "iou": attention_iou(each, masks[own]),
                "pointing": float(points_at(each, masks[own])),
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _edit(model: Any, start: Any, pixels: Any, things: Any, masks: Any, place: str) -> dict[str, float]:
    """The first thing's shape swapped for one that the scene lacks."""
    from torch.nn import functional as F

    from engines.diffusion.edit import edit
    from engines.diffusion.edit_request import BlendPlaces, Edit
    from engines.diffusion.image_metrics import background_kept
    from engines.miniworld import scenes
    from engines.miniworld.diffusion.check import look

    first, second = things
    new = next(shape for shape in scenes.SHAPES if shape not in (first.shape, second.shape))
    blend = BlendPlaces(source=[first.shape], edited=[new]) if place == "words" else None
    for progress in edit(model, start, Edit(start.prompt.replace(first.shape, new), blend=blend)):
        latents = progress.latents
    edited = model.decode(latents[1:])[0].cpu()
    reach = 2 * (pixels.shape[-1] // 16) + 1
    grown = F.max_pool2d(masks[:1].float()[None], reach, stride=1, padding=reach // 2)[0, 0] > 0
    kept = background_kept(pixels[0], edited, F.interpolate(grown.float()[None, None], pixels.shape[-2:])[0, 0] > 0)
    small = F.interpolate(edited[None], masks.shape[-2:], mode="area")[0]
    seen = {(one.colour, one.shape) for one in look((small * 255).round().byte().permute(1, 2, 0).numpy())}
    return {
        "psnr": kept.psnr,
        "ssim": kept.ssim if kept.ssim is not None else float("nan"),
        "other_kept": float((second.colour, second.shape) in seen),
        "new_shown": float((first.colour, new) in seen),
    }


# -- all scenes together -----------------------------------------------------------------------------------------------


def report(rows: list[dict[str, Any]], setting: dict[str, Any]) -> str:
    """The tables as Markdown."""

    def interval(values: Any, form: Callable[[float], str]) -> str:
        given = np.asarray(values, np.float64)
        given = given[np.isfinite(given)]
        if not len(given):
            return "–"
        drawn = given[np.random.default_rng(0).integers(len(given), size=(SAMPLES, len(given)))].mean(axis=1)
        low, high = np.percentile(drawn, (2.5, 97.5))
        return f"{form(given.mean())} ({form(low)} to {form(high)})"

    def share(value: float) -> str:
        return f"{100 * value:.1f}%"

    def number(value: float) -> str:
        return f"{value:.2f}"

    lines = [
        "# Leakage on held-out scenes",
        "",
        f"{len(rows)} scenes of two things that {setting['model']} has not seen, {setting['steps']} steps, guidance "
        f"{setting['guidance']:g}, on {processor()}. In brackets: 95% intervals over scenes. Made by "
        "`benchmarks/leakage_table.py`, where everything is defined.",
        "",
        "| attention of the two nouns | before | after DPL | change |",
        "|---|---|---|---|",
    ]
    for key, words, form in (
        ("own", "on its own thing", share),
        ("other", "on the other thing", share),
        ("background", "on the background", share),
        ("iou", "IoU with its thing", number),
        ("pointing", "strongest place on its thing", share),
    ):
        before, after = ([row[side][key] for row in rows] for side in ("before", "after"))
        change = interval(np.subtract(after, before), form)
        lines.append(f"| {words} | {interval(before, form)} | {interval(after, form)} | {change} |")
    for place, title in PLACES.items():
        lines += [
            "",
            f"Swapping the first thing’s shape, the picture may change {title}:",
            "",
            "| way | rest kept, PSNR in dB | SSIM | other thing still there | new thing shown |",
            "|---|---|---|---|---|",
        ]
        for way, name in WAYS.items():
            cells = [
                interval([row["edits"][place][way][key] for row in rows], form)
                for key, form in (("psnr", number), ("ssim", number), ("other_kept", share), ("new_shown", share))
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        for way in ("p2p", "null-text"):
            psnr = {each: [row["edits"][place][each]["psnr"] for row in rows] for each in ("dpl", way)}
            change = interval(np.subtract(psnr["dpl"], psnr[way]), number)
            lines.append(f"| DPL less {WAYS[way]}, scene by scene | {change} | | | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
