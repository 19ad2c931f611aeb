"""The curves of a repair: how its losses fall, step by step, and what was enough at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.components.figures import BLUE, GREEN, VERMILION, Figure, figure
from app.components.plot import saved_as
from engines.diffusion.leakage.repairs import Repair
from engines.diffusion.settings import RepairSettings, TermSettings

NAMES = {
    "balancing": ("weakest word (attention balancing)", BLUE),
    "disjoint": ("words on each other (disjoint attention)", VERMILION),
    "background": ("words on the background", GREEN),
    "similarity": ("words unlike their masks", BLUE),
    "overlap": ("words outside their masks", VERMILION),
    "binding": ("adjectives apart from their nouns", GREEN),
}


def loss_curves(repair: Repair | None) -> Figure | None:
    """Every update's losses over the steps, with the values that are enough as dotted lines; None before the first."""
    updates: Sequence[tuple[int, Mapping[str, float]]] = repair.live()["updates"] if repair else []
    if repair is None or not updates:
        return None
    settings = repair.request.settings
    x = _places([step for step, _ in updates])
    data: list[dict[str, Any]] = []
    for name in updates[0][1]:
        words, colour = NAMES.get(name, (name, BLUE))
        data.append(_line(words, x, [losses.get(name) for _, losses in updates], colour))
        enough = [_term(settings, name).threshold(settings.pace(step)) for step in range(settings.steps)]
        data.append(_enough(words, enough, colour))
    drawn = figure(
        data,
        "What the repair makes smaller",
        xaxis={"title": {"text": "step, from noise to picture"}, "range": [0.5, settings.steps + 1]},
        yaxis={"rangemode": "tozero"},
        showlegend=True,
    )
    rows = [[place, *losses.values()] for place, (_, losses) in zip(x, updates, strict=True)]
    return saved_as(drawn, "repair", ["step", *updates[0][1]], rows)


def _places(steps: Sequence[int]) -> list[float]:
    """Updates of a step stand side by side between it and the next."""
    counts = {step: steps.count(step) for step in dict.fromkeys(steps)}
    seen: dict[int, int] = {}
    places = []
    for step in steps:
        seen[step] = seen.get(step, -1) + 1
        places.append(1 + step + seen[step] / counts[step])
    return places


def _term(settings: RepairSettings, name: str) -> TermSettings:
    for group in (settings.leakage, settings.masks):
        if isinstance(found := getattr(group, name, None), TermSettings):
            return found
    raise KeyError(name)


def _line(name: str, x: Sequence[float], y: Sequence[float | None], colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "width": 2.5},
        "hovertemplate": f"{name}: %{{y:.3f}}<extra></extra>",
    }


def _enough(name: str, y: Sequence[float], colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [1 + step for step in range(len(y))],
        "y": list(y),
        "line": {"color": colour, "width": 1.5, "dash": "dot"},
        "showlegend": False,
        "hovertemplate": f"{name}: %{{y:.3f}} is enough<extra></extra>",
    }
