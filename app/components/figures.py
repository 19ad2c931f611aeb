"""The figures of the workbench: one template, one colour a meaning, the same number formats everywhere.

A figure is a plain Plotly dictionary (`data`, `layout`), so that drawing one imports nothing. Backgrounds are
transparent and text takes the page's colours when the browser draws it (see `components.plot`): every figure is right
in light and dark. Names come from people's folders: they pass `plain` before Plotly reads them as markup.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.reports.colours import (
    AMBER,
    BLUE,
    GREEN,
    OKABE_ITO,
    OWN_COLOURS,
    PURPLE,
    READY_MADE,
    method_colour,
)
from engines.reports.colours import SKY as SKY
from engines.reports.colours import VERMILION as VERMILION
from engines.reports.svg import Bar

Figure = dict[str, Any]

HEIGHT = 340
"""Pixels; the same for all figures beside each other."""

DASHES = ("solid", "dash", "dot", "dashdot")
SPLIT_COLOURS = {"train": BLUE, "val": AMBER, "test": GREEN, "pool": READY_MADE}
SPLIT_WORDS = {"train": "for training", "val": "for choosing", "test": "for testing", "pool": "not labelled"}

_NO_LINE = {"zeroline": False, "ticks": "outside", "ticklen": 6, "tickcolor": "rgba(0,0,0,0)"}
_AXIS: dict[str, Any] = _NO_LINE | {"automargin": True, "title": {"standoff": 10}}
TEMPLATE: dict[str, Any] = {
    "layout": {
        "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif", "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(OKABE_ITO),
        "margin": {"l": 56, "r": 24, "t": 44, "b": 48},
        "title": {"x": 0, "y": 1, "xref": "container", "yref": "container", "xanchor": "left", "yanchor": "top"}
        | {"pad": {"l": 4, "t": 8}, "font": {"size": 15}},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"align": "left", "font": {"size": 13}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "separators": ".,",
        "bargap": 0.35,
    }
}


@dataclass(frozen=True)
class Curve:
    """One line of a figure over steps; lines of one `group` share its entry in the legend."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = BLUE
    dash: str = "solid"
    group: str = ""


def plain(name: str, longest: int = 0) -> str:
    """A name as Plotly shall show it: no markup, shortened to `longest` characters in the middle."""
    if longest and len(name) > longest:
        half = (longest - 1) // 2
        name = f"{name[: longest - 1 - half]}…{name[-half:]}"
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def learning_curve(curves: Sequence[Curve], title: str, share: bool = False, last_step: int = 0) -> Figure:
    """Lines over the passes of a training; with `share` the axis is a percentage from 0 to 100."""
    number = ":.1%" if share else ":.3f"
    groups = [curve.group or curve.name for curve in curves]
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(curve.points) == 1 else "lines",
            "name": plain(groups[place], 40),
            "legendgroup": groups[place],
            "showlegend": groups.index(groups[place]) == place,
            "x": [step for step, _ in curve.points],
            "y": [value for _, value in curve.points],
            "line": {"color": curve.colour, "dash": curve.dash, "width": 2.5},
            "hovertemplate": f"{plain(curve.name, 40)}: %{{y{number}}}<extra></extra>",
        }
        for place, curve in enumerate(curves)
    ]
    y = {"range": [0, 1.02], "tickformat": ".0%"} if share else {"rangemode": "tozero"}
    x: dict[str, Any] = {"title": {"text": "passes over the images"}, "rangemode": "tozero"}
    if last_step:
        x["range"] = [0, max(2, last_step)]
    return figure(data, title, xaxis=x, yaxis=y, hovermode="x unified", showlegend=len(set(groups)) > 1)


def accuracy_bars(bars: Sequence[Bar], title: str) -> Figure:
    """Horizontal bars of shares with their intervals, each labelled with its number."""
    names = [plain(bar.name, 44) for bar in bars]
    data = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": [bar.value for bar in bars],
        "customdata": [[bar.low, bar.high] for bar in bars],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [bar.high - bar.value for bar in bars],
            "arrayminus": [bar.value - bar.low for bar in bars],
            "thickness": 1.5,
            "width": 5,
        },
        "marker": {
            "color": ["rgba(0,0,0,0)" if bar.hollow else bar.colour for bar in bars],
            "line": {"color": [bar.colour for bar in bars], "width": 2},
        },
        "hovertemplate": "%{y}: %{x:.1%} (%{customdata[0]:.1%} to %{customdata[1]:.1%})<extra></extra>",
    }
    labels = [
        _label(min(bar.high, 1.0), name, f"<b>{bar.value:.1%}</b>", xanchor="left", xshift=8)
        for bar, name in zip(bars, names, strict=True)
    ]
    return figure(
        [data],
        title,
        xaxis={"range": [0, 1.14], "tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]},
        yaxis={"autorange": "reversed", "showgrid": False},
        annotations=labels,
        showlegend=False,
        height=max(180, 84 + 52 * len(bars)),
    )


def class_balance(names: Sequence[str], counts: Mapping[str, Sequence[int]], title: str = "Images per class") -> Figure:
    """How many images every class has, by split (`train`, `val`, `test`, `pool`)."""
    y = [plain(name, 32) for name in names]
    places = list(range(len(names)))
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": SPLIT_WORDS.get(split, split),
            "y": places,
            "x": list(values),
            "marker": {"color": SPLIT_COLOURS.get(split, PURPLE)},
            "hovertemplate": f"%{{x:,}} {SPLIT_WORDS.get(split, split)}<extra></extra>",
        }
        for split, values in counts.items()
        if any(values)
    ]
    return figure(
        data,
        title,
        xaxis={"title": {"text": "images"}, "tickformat": ",d", "rangemode": "tozero"},
        yaxis={"autorange": "reversed", "showgrid": False, "tickvals": places, "ticktext": y},
        barmode="stack",
        height=max(HEIGHT, 120 + 24 * len(names)),
        showlegend=True,
    )


def shots_curve(
    curves: Mapping[str, Sequence[tuple[int, float, float]]],
    titles: Mapping[str, str] | None = None,
    zero_shot: float | None = None,
    title: str = "Right answers by number of labelled images",
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Share right against labelled images per class, one line a method with a band of one standard deviation.

    Args:
        curves: method -> (labelled images per class, mean, standard deviation), the number ascending.
        titles: method -> name for people.
        zero_shot: share right of the ready-made prompt, drawn as a level line.
        colours: method -> colour, where the page has given it another one than its own.
    """
    data: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for method, points in curves.items():
        colour = (colours or {}).get(method, method_colour(method))
        dash = DASHES[0] if method in OWN_COLOURS else _dash(method)
        shots = [n for n, _, _ in points]
        above = [min(1.0, mean + std) for _, mean, std in points]
        below = [max(0.0, mean - std) for _, mean, std in points]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": shots + shots[::-1],
                "y": above + below[::-1],
                "fill": "toself",
                "fillcolor": _faint(colour),
                "line": {"width": 0},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
        name = plain((titles or {}).get(method, method))
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": shots,
                "y": [mean for _, mean, _ in points],
                "customdata": [std for _, _, std in points],
                "line": {"color": colour, "dash": dash, "width": 2.5},
                "hovertemplate": f"{name}: %{{y:.1%}} ± %{{customdata:.1%}}<extra></extra>",
            }
        )
    if zero_shot is not None:
        all_above = all(points[-1][1] >= zero_shot for points in curves.values() if points)  # where no line ends
        side = "top" if all_above else "bottom"
        labels.append(
            {"xref": "paper", "x": 1, "xanchor": "right", "y": zero_shot, "yanchor": side, "showarrow": False}
            | {"text": f"ready-made prompt {zero_shot:.1%}"}
        )
    level = [] if zero_shot is None else [_level(zero_shot)]
    ticks = sorted({n for points in curves.values() for n, _, _ in points})
    return figure(
        data,
        title,
        xaxis={"type": "log", "tickvals": ticks, "ticktext": ticks, "title": {"text": "labelled images per class"}},
        yaxis={"tickformat": ".0%", "range": [0, 1.02]},
        shapes=level,
        annotations=labels,
        hovermode="x unified",
        showlegend=True,
    )


def figure(data: list[dict[str, Any]], title: str, **layout: Any) -> Figure:
    """A figure in the template, with room above for its title and legend."""
    above = 12 + 32 * bool(title) + 28 * bool(layout.get("showlegend"))
    basis = {"template": TEMPLATE, "height": HEIGHT, "margin": {"t": above}}
    return {"data": data, "layout": basis | ({"title": {"text": title}} if title else {}) | layout}


def _label(x: float, y: str, text: str, **options: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "text": text, "showarrow": False} | options


def _level(y: float) -> dict[str, Any]:
    line = {"color": READY_MADE, "dash": "dash", "width": 2}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}


def _dash(method: str) -> str:
    """Methods that share a colour differ by their dashes."""
    return DASHES[zlib.crc32(method.encode()) // len(OKABE_ITO) % len(DASHES)]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
