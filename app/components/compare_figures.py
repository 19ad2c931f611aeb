"""Figures of a comparison: learning curves, classes, one dot an image, who answers alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from app.components.class_figures import NUMBERED_CELLS
from app.components.compare import Compared, Seed
from app.components.figures import HEIGHT, READY_MADE, VERMILION, Figure, figure, plain, shots_curve
from app.components.methods import method_title
from engines.inspection.agreement import class_differences, matrix
from engines.inspection.answers import Answers, aligned
from engines.store import Workspace
from engines.store.run_queries import Experiment, experiments

PALE = "#A3ACB9"
"""No result's colour: where both are right there is nothing to see."""
MOST_DOTS = 5000
"""Dots of the scatter; of more images so many are drawn, evenly."""


def learning_curves(workspace: Workspace, found: Sequence[Compared], dataset: str) -> Figure | None:
    """Share right over labelled images per class of the chosen methods; None where no method has two numbers."""
    known = [e for e in experiments(workspace) if e.dataset == dataset and e.done and e.score is not None and e.shots]
    curves: dict[str, list[tuple[int, float, float]]] = {}
    colours: dict[str, str] = {}
    for each in found:
        own = next((e for e in known if e.key == each.key), None)
        if own is None or own.method in curves:
            continue
        points: dict[int, tuple[int, float, float]] = {}
        for other in known:  # newest first
            if _alike(own, other):
                points.setdefault(other.shots, (other.shots, float(other.score or 0.0), other.spread or 0.0))
        colours[own.method] = each.colour
        curves[own.method] = [points[shots] for shots in sorted(points)]
    curves = {method: points for method, points in curves.items() if len(points) > 1}
    if not curves:
        return None
    ready = next((each.bar().value for each in found if each.ready_made), None)
    return shots_curve(curves, {method: method_title(method) for method in curves}, ready, colours=colours)


def _alike(one: Experiment, other: Experiment) -> bool:
    """Whether two results differ by the number of labelled images (and what follows from it) alone."""
    parts = [(e.method, e.protocol, e.backbone, e.config.get("settings")) for e in (one, other)]
    return parts[0] == parts[1]


def class_map(found: Sequence[Compared]) -> Figure | None:
    """Share right in every class by every result, mean over seeds; classes never seen included."""
    shares = [_by_class(each) for each in found]
    names = list(dict.fromkeys(name for one in shares for name in one))
    if not names:
        return None
    z = [[one.get(name) for one in shares] for name in names]
    data = heat(z, [plain(each.name, 30) for each in found], [plain(name, 32) for name in names], 0)
    height = min(900, max(HEIGHT, 150 + 28 * len(names)))
    return figure(
        [data], "", yaxis={"autorange": "reversed", "showgrid": False}, xaxis={"showgrid": False}, height=height
    )


def alike_map(found: Sequence[Compared], rows: Sequence[Answers]) -> Figure | None:
    """Share of the test images that two results answer alike."""
    both = matrix(rows)
    if both is None:
        return None
    names = [f"{plain(each.name, 30)} · {place}" for place, each in enumerate(found, 1)]
    numbers = [str(place) for place in range(1, len(found) + 1)]  # whole names would not fit under the columns
    shares = both.alike
    data = heat(shares.tolist(), numbers, names, float(np.floor(10 * shares.min()) / 10))
    height = max(HEIGHT, 130 + 44 * len(names))
    axes = {"yaxis": {"autorange": "reversed", "showgrid": False}, "xaxis": {"type": "category", "showgrid": False}}
    return figure([data], "Images that two of them answer alike", **axes, height=height)


def heat(z: list[list[Any]], x: list[str], y: list[str], low: float, number: str = ".0%") -> dict[str, Any]:
    """A heat map from `low` to 1, with a number in each cell where they are few."""
    data: dict[str, Any] = {
        "type": "heatmap",
        "z": z,
        "zmin": low,
        "zmax": 1,
        "colorscale": "Viridis",
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": f"%{{y}}, %{{x}}: %{{z:{'.1%' if number == '.0%' else number}}}<extra></extra>",
        "x": x,
        "y": y,
        "colorbar": {"tickformat": number, "thickness": 12, "outlinewidth": 0, "len": 1},
    }
    if len(x) * len(y) < NUMBERED_CELLS:
        data["texttemplate"] = f"%{{z:{number}}}"
    return data


def _by_class(each: Compared) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for summary in each.summaries():
        new = summary.get("new", {}) if not each.ready_made else {}
        for row in [*summary.get("per_class", []), *new.get("per_class", [])]:
            values.setdefault(row["name"], []).append(row["accuracy"])
    if each.ready_made and (new := each.runs[0].summary.get("new")):
        for row in new.get("zero_shot", {}).get("per_class", []):
            values.setdefault(row["name"], []).append(row["accuracy"])
    return {name: fmean(found) for name, found in values.items()}


def class_bars(first: Compared, second: Compared, seeds: Sequence[Seed], names: Sequence[str]) -> Figure | None:
    """By how many points the first result is better in every class, with 95% intervals over the images."""
    gains = class_differences([(seed.second, seed.first) for seed in seeds])
    if not gains:
        return None
    order = sorted(gains, key=lambda c: gains[c].value)
    ticks = [plain(f"{name_at(names, c)} ({gains[c].images:,})", 34) for c in order]
    found = [gains[c] for c in order]
    data = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(order))),
        "x": [100 * each.value for each in found],
        "customdata": [[100 * each.low, 100 * each.high] for each in found],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [100 * (each.high - each.value) for each in found],
            "arrayminus": [100 * (each.value - each.low) for each in found],
            "thickness": 1.5,
            "width": 4,
        },
        "marker": {"color": [first.colour if each.value >= 0 else second.colour for each in found]},
        "hovertemplate": "%{x:+.1f} points (%{customdata[0]:+.1f} to %{customdata[1]:+.1f})<extra></extra>",
    }
    furthest = max([1.0, *(abs(v) * 100 for each in found for v in (each.low, each.high))]) * 1.05
    sides = f"→ {plain(first.name, 24)} is better<br>← {plain(second.name, 24)} is better"
    return figure(
        [data],
        "Class by class: difference in points",
        xaxis={
            "range": [-furthest, furthest],
            "tickformat": "+.0f",
            "title": {"text": sides, "font": {"size": 12}},
            "zeroline": True,
        },
        yaxis={"showgrid": False, "tickvals": list(range(len(order))), "ticktext": ticks},
        showlegend=False,
        height=max(480, 150 + 26 * len(order)),
    )


def name_at(names: Sequence[str], place: int) -> str:
    return names[place] if 0 <= place < len(names) else "?"


def scatter(
    first: Compared, second: Compared, seed: Seed, names: Sequence[str], pictures: Mapping[int, str], base: str
) -> Figure | None:
    """Probability of the true class, one dot an image; a dot's `customdata` is its sample id.

    None where one of the runs is too old to have kept these probabilities.
    """
    pair = aligned([seed.first, seed.second])
    if not pair or pair[0].true_share is None or pair[1].true_share is None:
        return None
    one, other = pair
    if len(one.true) > MOST_DOTS:
        places = np.linspace(0, len(one.true) - 1, MOST_DOTS).astype(int)
        one, other = one.at(places), other.at(places)
    second_colour = second.colour if second.colour != first.colour else VERMILION
    groups = [
        ("both right", one.right & other.right, PALE, "circle", 0.6),
        ("both wrong", ~one.right & ~other.right, READY_MADE, "x", 0.7),
        (f"only {plain(first.name, 30)} right", one.right & ~other.right, first.colour, "triangle-up", 0.9),
        (f"only {plain(second.name, 30)} right", ~one.right & other.right, second_colour, "diamond", 0.9),
    ]
    data: list[dict[str, Any]] = []
    for name, own, colour, symbol, opacity in groups:
        places = np.flatnonzero(own)
        if not len(places):
            continue
        assert one.true_share is not None
        assert other.true_share is not None
        data.append(
            {
                "type": "scattergl" if len(one.true) > 1500 else "scatter",
                "mode": "markers",
                "name": f"{name} ({len(places):,})",
                "x": np.round(other.true_share[places], 4).tolist(),
                "y": np.round(one.true_share[places], 4).tolist(),
                "customdata": one.sample_ids[places].tolist(),
                "text": [plain(name_at(names, c), 32) for c in one.true[places].tolist()],
                "marker": {"color": colour, "symbol": symbol, "size": 8, "opacity": opacity},
                "hovertemplate": "%{text}: %{y:.2f} against %{x:.2f}<extra></extra>",
            }
        )
    level = {"type": "line", "x0": 0, "x1": 1, "y0": 0, "y1": 1, "line": {"color": READY_MADE, "dash": "dash"}}
    drawn = figure(
        data,
        "How sure of the right class, one dot an image",
        xaxis={"range": [-0.03, 1.03], "title": {"text": plain(second.name, 40)}, "tickformat": ".1f"},
        yaxis={"range": [-0.03, 1.03], "title": {"text": plain(first.name, 40)}, "tickformat": ".1f"},
        shapes=[level],
        showlegend=True,
        legend={"y": -0.2, "yanchor": "top"},
        hovermode="closest",
        margin={"t": 44, "b": 140},
        height=480,
    )
    shown = {str(k): v for k, v in pictures.items()}
    return drawn | {"tools": {"pictures": {"base": base, "files": shown}}}
