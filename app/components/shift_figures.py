"""Figures of feature shift: how far words and images moved, when, in which block, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.components.figures import AMBER, HEIGHT, PURPLE, SKY, Figure, figure, method_colour, plain
from app.components.plot import saved_as
from engines.inspection.shift_answers import Average, ClassShift, ShiftAnswer
from engines.inspection.shift_relation import FEWEST_RUNS, Relation

IMAGES, WORDS, GAP = SKY, PURPLE, AMBER
MOST_CLASSES = 40
"""Classes that are drawn; those with the largest gap where there are more."""
SYMBOLS = ("circle", "square", "triangle-up", "cross", "pentagon", "hexagram")
CLEAR = "rgba(0,0,0,0)"
NUMBER = ".3f"
QUARTER = "0 = has not moved, 1 = a quarter turn"


def class_figure(answer: ShiftAnswer, method: str) -> Figure:
    """Words and images of every class as two dots, the gap as the line between them; new classes hollow."""
    rows = sorted(answer.classes, key=_gap, reverse=True)
    shown = rows[:MOST_CLASSES]
    names = [plain(row.name, 34) for row in shown]
    places = list(range(len(shown)))
    lines: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": "gap",
        "x": [x for row in shown for x in (row.words, row.images.mean if row.images else None, None)],
        "y": [y for place in places for y in (place, place, None)],
        "line": {"color": GAP, "width": 3},
        "hoverinfo": "skip",
    }
    words = _dots("words", [row.words for row in shown], shown, WORDS)
    images = _dots(
        "images (mean, 95% interval)", [row.images.mean if row.images else None for row in shown], shown, IMAGES
    )
    images["error_x"] = _whiskers([row.images for row in shown])
    for trace in (words, images):
        trace["y"] = places
    title = "How far words and images moved, class by class"
    if len(shown) < len(rows):
        title = f"The {len(shown)} of {len(rows)} classes with the largest gap"
    drawn = figure(
        [lines, words, images],
        title,
        xaxis={"rangemode": "tozero", "title": {"text": QUARTER}, "hoverformat": NUMBER},
        yaxis={"autorange": "reversed", "tickvals": places, "ticktext": names, "zeroline": False},
        hovermode="closest",
        showlegend=True,
        height=max(HEIGHT, 130 + 26 * len(shown)),
    )
    columns = ["class", "group", "words", "images", "images_low", "images_high", "gap", "direction"]
    table = [[r.name, r.group, r.words, *_numbers(r.images), _known_gap(r), r.direction] for r in rows]
    return saved_as(drawn, f"shift-by-class-{method}", columns, table)


def course_figure(answer: ShiftAnswer, method: str) -> Figure | None:
    """Images, words and their gap over the passes of the training; None without a course."""
    steps = answer.trajectory
    if len(steps) < 2:
        return None
    x = [step.epoch for step in steps]
    data = [
        _line("images", x, [step.images for step in steps], IMAGES),
        _line("words", x, [step.words for step in steps], WORDS),
        _line("gap", x, [step.gap for step in steps], GAP, "dash"),
    ]
    drawn = figure(
        data,
        "How far they had moved, pass by pass",
        xaxis={"title": {"text": "passes over the images"}, "rangemode": "tozero"},
        yaxis={"rangemode": "tozero", "title": {"text": "moved by"}},
        hovermode="x unified",
        showlegend=True,
    )
    rows = [[step.epoch, step.images, step.words, step.gap] for step in steps]
    return saved_as(drawn, f"shift-over-training-{method}", ["passes", "images", "words", "gap"], rows)


def depth_figure(answer: ShiftAnswer, method: str) -> Figure | None:
    """Behind every block: mean and spread of both towers, below it their gap; None where no tower can be walked."""
    towers = [("images", answer.image_blocks, IMAGES), ("words", answer.text_blocks, WORDS)]
    data: list[dict[str, Any]] = []
    for name, blocks, colour in towers:
        if blocks:
            x = list(range(1, len(blocks) + 1))
            data += [_band(x, blocks, colour), _line(name, x, [block.mean for block in blocks], colour)]
    if not data:
        return None
    depth = max(len(blocks) for _, blocks, _ in towers if blocks)
    axis = {"title": {"text": "block of the tower"}, "range": [0.5, depth + 0.5], "dtick": max(1, depth // 12)}
    layout: dict[str, Any] = {
        "xaxis": axis,
        "yaxis": {"rangemode": "tozero", "title": {"text": "moved by, relative"}},
        "hovermode": "closest",
        "showlegend": True,
        "height": HEIGHT,
    }
    if answer.block_gaps:
        data.append(_gap_bars(answer.block_gaps))
        layout["xaxis"] = axis | {"anchor": "y", "title": {"text": ""}, "showticklabels": False}
        layout["yaxis"] |= {"domain": [0.42, 1]}
        layout["xaxis2"] = axis | {"anchor": "y2", "matches": "x", "showgrid": False}
        layout["yaxis2"] = {"domain": [0, 0.3], "rangemode": "tozero", "title": {"text": "gap"}}
        layout["height"] = HEIGHT + 100
    drawn = figure(data, "How far they moved, block by block", **layout)
    return saved_as(drawn, f"shift-by-block-{method}", _DEPTH_COLUMNS, _depth_rows(answer, depth))


def relation_figure(relation: Relation, methods: Mapping[str, str]) -> Figure | None:
    """One dot a run: gap of the towers against accuracy; None where no run has both.

    Args:
        methods: registry name of the method by run id; each has its colour.
    """
    points = [point for point in relation.points if point.gap is not None]
    if not points:
        return None
    data: list[dict[str, Any]] = []
    used: list[str] = []
    for method in dict.fromkeys(point.method for point in points):
        own = [point for point in points if point.method == method]
        colour = method_colour(methods.get(own[0].run_id, method))
        symbol = SYMBOLS[used.count(colour) % len(SYMBOLS)]  # methods that share a colour differ by it
        used.append(colour)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plain(method),
                "x": [point.gap for point in own],
                "y": [point.accuracy for point in own],
                "text": [f"{plain(point.name, 44)}, seed {point.seed}" for point in own],
                "marker": {"color": colour, "symbol": symbol, "size": 12, "line": {"width": 1, "color": "#FFFFFF"}},
                "cliponaxis": False,
                "hovertemplate": "%{text}<br>gap %{x:.3f}, %{y:.1%} right<extra></extra>",
            }
        )
    drawn = figure(
        data,
        f"Gap against accuracy on {relation.measure}",
        xaxis={"rangemode": "tozero", "title": {"text": "gap between words and images"}},
        yaxis={"tickformat": ".0%", "title": {"text": f"right on {relation.measure}"}, "range": _around(points)},
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top"},
        height=max(HEIGHT + 120, 140 + 20 * len(data)),
        annotations=[_correlation(relation)] if relation.rho is not None and relation.count >= FEWEST_RUNS else [],
    )
    columns = ["run", "method", "seed", "images", "words", "gap", "block_gap", "accuracy", "base_minus_new"]
    rows = [
        [p.name, p.method, p.seed, p.images, p.words, p.gap, p.block_gap, p.accuracy, p.base_minus_new] for p in points
    ]
    return saved_as(drawn, "gap-against-accuracy", columns, rows)


def _around(points: Sequence[Any]) -> list[float]:
    """A range of shares that holds the points with some air, and never leaves 0 to 100%."""
    shares = [point.accuracy for point in points]
    return [max(0.0, min(shares) - 0.1) - 0.01, min(1.0, max(shares) + 0.1) + 0.01]


# --- parts ---

_DEPTH_COLUMNS = ["block", "images", "images_std", "words", "words_std", "gap", "gap_low", "gap_high"]


def _depth_rows(answer: ShiftAnswer, depth: int) -> list[list[Any]]:
    def at(blocks: Sequence[Average] | None, place: int) -> Average | None:
        return blocks[place] if blocks and place < len(blocks) else None

    rows = []
    for place in range(depth):
        image, text = at(answer.image_blocks, place), at(answer.text_blocks, place)
        spreads = [value for each in (image, text) for value in ((each.mean, each.std) if each else (None, None))]
        rows.append([place + 1, *spreads, *_numbers(at(answer.block_gaps, place))])
    return rows


def _correlation(relation: Relation) -> dict[str, Any]:
    text = f"Spearman ρ = {relation.rho:.2f} over {relation.count} runs"
    return {"xref": "paper", "yref": "paper", "x": 1, "y": 1, "text": text, "showarrow": False, "xanchor": "right"} | {
        "yanchor": "bottom"
    }


def _dots(name: str, values: Sequence[float | None], rows: Sequence[ClassShift], colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "cliponaxis": False,
        "x": list(values),
        "text": [plain(row.name) + (", never seen in training" if row.group == "new" else "") for row in rows],
        "marker": {
            "size": 12,
            "color": [CLEAR if row.group == "new" else colour for row in rows],
            "line": {"color": colour, "width": 2.5},
        },
        "hovertemplate": f"%{{text}}<br>{name.partition(' ')[0]} moved by %{{x:{NUMBER}}}<extra></extra>",
    }


def _whiskers(values: Sequence[Average | None]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [value.high - value.mean if value else 0 for value in values],
        "arrayminus": [value.mean - value.low if value else 0 for value in values],
        "thickness": 1.5,
        "width": 4,
    }


def _line(name: str, x: Sequence[int], y: Sequence[float | None], colour: str, dash: str = "solid") -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "width": 2.5, "dash": dash},
        "marker": {"size": 7},
        "hovertemplate": f"{name}: %{{y:{NUMBER}}}<extra></extra>",
    }


def _band(x: Sequence[int], blocks: Sequence[Average], colour: str) -> dict[str, Any]:
    """One standard deviation of the single images or classes around their mean."""
    above, below = [b.mean + b.std for b in blocks], [max(0.0, b.mean - b.std) for b in blocks]
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *reversed(x)],
        "y": [*above, *reversed(below)],
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},0.18)",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _gap_bars(gaps: Sequence[Average]) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": "gap",
        "x": list(range(1, len(gaps) + 1)),
        "y": [gap.mean for gap in gaps],
        "xaxis": "x2",
        "yaxis": "y2",
        "marker": {"color": GAP},
        "error_y": _whiskers(gaps),
        "hovertemplate": f"block %{{x}}: gap %{{y:{NUMBER}}}<extra></extra>",
    }


def _numbers(value: Average | None) -> list[float | None]:
    return [value.mean, value.low, value.high] if value else [None, None, None]


def _known_gap(row: ClassShift) -> float | None:
    return None if row.words is None or row.images is None else abs(row.words - row.images.mean)


def _gap(row: ClassShift) -> float:
    found = _known_gap(row)
    return -1.0 if found is None else found
