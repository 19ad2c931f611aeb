"""Figures of one result, class by class: what was taken for what, how many were right, how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.components.figures import BLUE, HEIGHT, READY_MADE, Bar, Figure, figure, plain

NUMBERED_CELLS = 150
"""Heat maps with fewer cells carry a number in each."""


def confusion_matrix(counts: Sequence[Sequence[int]], names: Sequence[str], title: str = "") -> Figure:
    """Which class was taken for which: rows are true classes, cells the share of the row, hover tells the counts.

    A cell's `customdata` is [true position, predicted position, images, images of the true class].
    """
    totals = [sum(row) for row in counts]
    shares = [[n / total if total else 0.0 for n in row] for row, total in zip(counts, totals, strict=True)]
    ticks = [plain(name, 26) for name in names]
    full = [plain(name) for name in names]
    data: dict[str, Any] = {
        "type": "heatmap",
        "z": shares,
        "zmin": 0,
        "zmax": 1,
        "colorscale": "Viridis",
        "xgap": 1,
        "ygap": 1,
        "customdata": [[[t, p, n, totals[t]] for p, n in enumerate(row)] for t, row in enumerate(counts)],
        "text": [
            [f"{n} of {totals[t]} images of “{full[t]}”<br>were taken for “{full[p]}”" for p, n in enumerate(row)]
            for t, row in enumerate(counts)
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "colorbar": {"tickformat": ".0%", "thickness": 12, "outlinewidth": 0, "title": {"text": ""}, "len": 1},
    }
    if sum(len(row) for row in counts) < NUMBERED_CELLS:
        data["texttemplate"] = "%{z:.0%}"
    every = list(range(len(names)))
    step = max(1, len(names) // 50)
    axis = {"tickvals": every[::step], "ticktext": ticks[::step], "showgrid": False}
    return figure(
        [data],
        title,
        xaxis=axis | {"title": {"text": "the prompt’s answer"}, "tickangle": -40, "constrain": "domain"},
        yaxis=axis | {"title": {"text": "true class"}, "autorange": "reversed"},
        height=min(760, max(HEIGHT + 40, 190 + 30 * len(names))),
    )


def per_class_bars(
    names: Sequence[str],
    learned: Sequence[Bar],
    ready_made: Sequence[float | None] | None,
    label: str,
    title: str = "",
) -> Figure:
    """Share right in every class with its interval; the ready-made prompt (if any) beside it in grey."""
    y = [plain(name, 32) for name in names]
    whiskers = {
        "type": "data",
        "symmetric": False,
        "array": [bar.high - bar.value for bar in learned],
        "arrayminus": [bar.value - bar.low for bar in learned],
        "thickness": 1.5,
        "width": 4,
    }
    places = list(range(len(names)))
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": plain(label),
            "y": places,
            "x": [bar.value for bar in learned],
            "error_x": whiskers,
            "marker": {"color": learned[0].colour if learned else BLUE},
            "customdata": [[bar.low, bar.high] for bar in learned],
            "hovertemplate": "%{x:.1%} right (%{customdata[0]:.1%} to %{customdata[1]:.1%})<extra></extra>",
        }
    ]
    if ready_made is not None:
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": "ready-made prompt",
                "y": places,
                "x": list(ready_made),
                "marker": {"color": READY_MADE},
                "hovertemplate": "ready-made prompt: %{x:.1%} right<extra></extra>",
            }
        )
    return figure(
        data,
        title,
        xaxis={"range": [0, 1.02], "tickformat": ".0%"},
        yaxis={"autorange": "reversed", "showgrid": False, "tickvals": places, "ticktext": y},
        barmode="group",
        bargap=0.3,
        showlegend=ready_made is not None,
        height=max(HEIGHT, 110 + 40 * len(names)),
    )


def reliability_diagram(bins: Sequence[Mapping[str, float]], colour: str = BLUE, title: str = "") -> Figure:
    """How often the prompt is right against how sure it says it is; dots grow with the share of images.

    Args:
        bins: `confidence`, `accuracy` and `share` of images of each filled bin, fractions of 1.
    """
    perfect = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": READY_MADE, "dash": "dash", "width": 1.5},
        "hoverinfo": "skip",
    }
    dots = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [b["confidence"] for b in bins],
        "y": [b["accuracy"] for b in bins],
        "customdata": [b["share"] for b in bins],
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": [8 + 28 * b["share"] ** 0.5 for b in bins], "opacity": 0.85},
        "hovertemplate": "says %{x:.2f}, is right %{y:.1%}<br>%{customdata:.1%} of the images<extra></extra>",
    }
    note = {"x": 0.16, "y": 0.16, "text": "as sure as it should be", "showarrow": False, "xanchor": "left"}
    return figure(
        [perfect, dots],
        title,
        xaxis={"range": [0, 1.03], "title": {"text": "how sure it says it is"}, "tickformat": ".1f"},
        yaxis={"range": [0, 1.05], "title": {"text": "how often it is right"}, "tickformat": ".0%"},
        annotations=[note | {"font": {"size": 12}, "xshift": 12, "yshift": -4}],
        showlegend=False,
    )
