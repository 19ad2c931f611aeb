"""Maps of where words look, over the picture: the place for them, and their values."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from app.components.gallery import picture_url
from app.components.html import Html, tag
from app.components.live import scripted_html
from engines.diffusion.leakage.repairs import Repair
from engines.diffusion.leakage.sentences import leak_sentence, overlap_sentence, pairs, rest_of
from engines.diffusion.leakage.studies import Maps, Study

_SCRIPT = Path(__file__).parents[1] / "static" / "leakage.js"
_FULL = 65535
"""Code of the largest attention on show."""


def _range(name: str, label: str, low: int, high: int, value: int) -> Html:
    return tag(
        "label",
        tag("span", label),
        tag("input", type="range", min=low, max=high, value=value, data_part=name, aria_label=label),
        tag("output", data_part=f"{name}-said"),
    )


def _check(name: str, label: str) -> Html:
    return tag("label", tag("input", type="checkbox", checked=True, data_part=name), tag("span", label))


_TEMPLATE = tag(
    "div",
    tag(
        "div",
        _range("step", "Step, from noise to picture", 1, 2, 1),
        _check("all-steps", "All steps together"),
        _range("opacity", "Strength of the colours", 0, 100, 80),
        tag(
            "label",
            tag("span", "Colours"),
            tag(
                "select",
                tag("option", "one scale for all maps (absolute)", value="one"),
                tag("option", "each map its own (relative)", value="own"),
                data_part="scale",
                aria_label="Scale of the colours",
            ),
        ),
        _check("outline", "Outline the object"),
        class_="pl-look-controls",
    ),
    tag("div", tag("span", "looks elsewhere"), tag("i"), tag("span", "looks here"), class_="pl-scale narrow"),
    tag("div", data_part="cells", class_="pl-look-cells"),
    tag("div", data_part="pairs", class_="pl-look-pairs"),
    data_part="all",
    class_="pl-looks",
    hidden=True,
)


def maps_html(**options: Any) -> gr.HTML:
    """The place of the maps; give it `maps_value(...)` as a new value."""
    return scripted_html(_SCRIPT, _TEMPLATE, **options)


def maps_value(study: Study | None, words: Sequence[int], repair: Repair | None) -> str:
    """Maps of the chosen words before, and where it is finished after, a repair; nothing before they are known."""
    before = study.maps() if study and study.looked and words else None
    if study is None or before is None:
        return ""
    after = repair.maps() if repair and repair.finished else None
    sides = [("before the repair", before, study.figures())]
    if repair is not None and after is not None:
        sides.append(("after the repair", after, repair.figures()))
    repaired = len(sides) > 1
    chosen = [maps[list(words)] for _, maps, _ in sides]
    most = max(float(each.max()) for each in chosen)
    mean = max(float(each.mean(axis=1).max()) for each in chosen)
    with Image.open(study.image) as image:
        picture = picture_url(image.convert("RGB"))
    value = {
        "id": f"{study.id}/{repair.id if after is not None and repair else ''}/{'-'.join(map(str, words))}",
        "image": picture,
        "side": before.shape[-1],
        "steps": before.shape[1],
        "most": [_FULL * mean / max(most, 1e-12), _FULL],
        "words": [
            {
                "mask": _mask(study, word),
                "sides": [
                    {
                        "title": f"“{study.words[word]}” {when}" if repaired else f"“{study.words[word]}”",
                        "maps": _coded(maps[word], most),
                        "sentences": _sentences(study, word, figures, rest_of(study, words)),
                    }
                    for when, maps, figures in sides
                ],
            }
            for word in words
        ],
        "pairs": [
            {"sentences": [f"{when.capitalize()}: {s}" if repaired else s for s in _overlaps(study, *pair, maps)]}
            for pair in pairs(words)
            for when, maps, _ in sides
        ],
    }
    return json.dumps(value)


def _coded(maps: Maps, most: float) -> str:
    """A word's mean map and those of all steps [1 + steps, s, s] as numbers of 16 bits (Base64)."""
    every = np.concatenate([maps.mean(axis=0, keepdims=True), maps])
    codes = np.rint(every / max(most, 1e-12) * _FULL).clip(0, _FULL).astype("<u2")
    return base64.b64encode(codes.tobytes()).decode()


def _sentences(study: Study, word: int, figures: Mapping[str, Any], rest: str) -> list[str]:
    rows = figures.get(str(word))
    return [leak_sentence(study.words, word, row, rest) for row in rows] if rows else []


def _overlaps(study: Study, one: int, other: int, maps: Maps) -> list[str]:
    every = [maps.mean(axis=1), *maps.swapaxes(0, 1)]
    return [overlap_sentence(study.words, one, other, each) for each in every]


def _mask(study: Study, word: int) -> str:
    file = study.mask_file(word)
    if file is None:
        return ""
    with Image.open(file) as image:
        return picture_url(image.convert("RGB"))
