"""The model card of a mini-CLIP, written from what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from engines.miniworld import blood, fabric, scenes
from engines.miniworld.world import MIX

_CARD = """---
license: apache-2.0
library_name: open_clip
pipeline_tag: zero-shot-image-classification
language: en
tags:
- clip
- synthetic
- few-shot
---

# mini-CLIP

A very small CLIP, trained from scratch on **synthetic** pictures only, so that every page of Promptloupe can be tried
offline in seconds. {parameters:.1f} million parameters, {image_parameters:.1f} million of them in the image tower
(ViT, width 192, 6 layers, patches of 8 pixels, pictures of 64 pixels). Text tower: width 128, 4 layers, open_clip's own
tokenizer, 77 tokens; common space of 128 dimensions. Half-precision weights in open_clip's layout:

```python
model, preprocess = open_clip.create_model_from_pretrained("local-dir:assets/models/mini-clip")
tokenizer = open_clip.get_tokenizer("local-dir:assets/models/mini-clip")
```

## Intended use

Learning how prompt learning works, demonstrations, tests, benchmarks of speed. It has never seen a photograph: on real
images of any kind its answers are worthless. **Not for diagnosis**, nor for any statement about real blood or cloth.

## Training

{trained_on:,} renderings (seed {seed}) in {spent:.0f} minutes on {machine}, {rate:.0f} renderings per second over the
whole run, on a machine with other work; resumed after a stop: {resumed}. Pictures are drawn on the fly by
`engines/miniworld`, none is seen twice: blood smears ({blood:.0%}), textiles ({fabric:.0%}), scenes of coloured objects
({scenes:.0%}). The loss is CLIP's, except that equal captions share one text and are all positives; AdamW, step size
{step_size:g}, weight decay {weight_decay:g}, batches of {batch}; {patch_dropout:.0%} of the patches left out at first,
none at the end; bfloat16.

```
{command}
```

## Left out on purpose

Zero-shot naming should be far above chance and far below perfect on the sample data, so that a few labelled images have
something to add. Therefore no training caption ever contains these cell names (such cells are drawn, but described only
by what is seen: nucleus, lobes, granules, cytoplasm, size):

{unnamed}

No training picture shows these pairs of colour and shape: {scene_pairs};
nor these pairs of textile pattern and defect: {fabric_pairs}.

## Measured

Zero-shot accuracy on renderings that were not trained on, {each} pictures per kind:

| question | accuracy | chance |
| --- | ---: | ---: |
{table}

On the test split of the sample data set "Blood smear (synthetic)" (14 classes, 40 pictures each, chance 7.1%):

| method | accuracy |
| --- | ---: |
| ready-made prompt "a photo of a {{}}." | {sample_zero_shot:.1%} |
| the seven selected templates, averaged | {sample_ensemble:.1%} |
| linear probe on 16 labelled images per class (mean of 3 draws) | {sample_probe:.1%} |

Ready-made prompt by class: {by_class}.

Measured by `python -m engines.miniworld.evaluate DIR`; kept in `evaluation.json`, the run's data in `training.json`.

## Limits

The pictures are simple drawings: real stains, cells, lenses and cloths vary far more. Captions are made from a few
dozen English patterns; other wordings and other languages mean little to the text tower. Accuracies differ by a few
points between training runs, which depend on how far the machine comes in the time given.

Licence: Apache-2.0.
"""

_CHANCE = {"14": 14, "64": 64, "8": 8, "4": 4, "the 9": 9}


def _chance(title: str) -> float:
    """Chance of a question, by the number of its texts, which its title names."""
    subject = title.split(": ")[1]
    return 1 / next(count for start, count in _CHANCE.items() if subject.startswith(start + " "))


def _pairs(pairs: frozenset[tuple[str, str]]) -> str:
    return ", ".join(f"{first} {second}" for first, second in sorted(pairs))


def _parameters(path: Path) -> tuple[float, float]:
    """Millions of parameters: all, and those of the image tower."""
    total = image = 0
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 - not a dictionary
            count = 1
            for extent in file.get_slice(name).get_shape():
                count *= extent
            total += count
            image += count if name.startswith("visual.") else 0
    return total / 1e6, image / 1e6


def write_card(folder: Path) -> Path:
    """Writes ``README.md`` beside the weights, from ``training.json`` and ``evaluation.json``."""
    training: dict[str, Any] = json.loads((folder / "training.json").read_text())
    measured: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    sample = measured["blood_smear_sample"]
    parameters, image_parameters = _parameters(folder / "open_clip_model.safetensors")
    table = [f"| {title} | {value:.1%} | {_chance(title):.1%} |" for title, value in measured["zero_shot"].items()]
    text = _CARD.format(
        **{**training, **MIX},
        parameters=parameters,
        image_parameters=image_parameters,
        spent=training["seconds"] / 60,
        machine="two CPU threads" if training["device"] == "cpu" else "one GPU",
        each=measured["each"],
        rate=training["trained_on"] / training["seconds"],
        command=(
            f"python -m engines.miniworld.train --out DIR --renderings {training['renderings']} "
            f"--minutes {training['minutes']:g} --threads 2 --seed {training['seed']}"
        ),
        unnamed="\n".join(f"- {name}" for name in blood.UNNAMED),
        scene_pairs=_pairs(scenes.LEFT_OUT),
        fabric_pairs=_pairs(fabric.LEFT_OUT),
        table="\n".join(table),
        sample_zero_shot=sample["zero_shot"],
        sample_ensemble=sample["zero_shot_seven_templates"],
        sample_probe=sample["linear_probe_16"],
        by_class=", ".join(f"{name} {value:.0%}" for name, value in sample["zero_shot_by_class"].items()),
    )
    path = folder / "README.md"
    path.write_text(text, "utf-8")
    return path
