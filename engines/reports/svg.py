"""Figures as SVG markup that stands inside a page: no script, no font, nothing to fetch.

Text and lines take the page's colours by their classes, so that a figure is right in light, in dark and on paper.
Lengths are pixels of a drawing 720 wide, which its page scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.reports.colours import BLUE
from engines.reports.markup import Html, join, tag
from engines.reports.words import percent

WIDTH = 720
LETTER = 6.9
"""Mean width of a letter at 13 pixels."""
VIRIDIS = ("#440154", "#472C7A", "#3B518B", "#2C718E", "#21908D", "#27AD81", "#5CC863", "#AADC32", "#FDE725")
NUMBERED_CELLS = 150
"""Heat maps with fewer cells carry a number in each."""


@dataclass(frozen=True)
class Bar:
    """A share with its interval; `hollow` marks classes that were never trained on."""

    name: str
    value: float
    low: float
    high: float
    colour: str = BLUE
    hollow: bool = False


@dataclass(frozen=True)
class Point:
    """A place on a curve with its interval, where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


def bars(rows: Sequence[Bar], title: str) -> Html:
    """Horizontal bars of shares from 0 to 1, each with its interval and its number."""
    left, right, height = _margin([row.name for row in rows], 230), WIDTH - 70, 40 * len(rows) + 34

    def x(share: float) -> float:
        return left + (right - left) * min(max(share, 0.0), 1.0)

    drawn = [_grid(x, height - 26)]
    for place, row in enumerate(rows):
        top = 40 * place + 8
        drawn += [
            _name(row.name, left - 10, top + 12, 230),
            _bar(x(0), top, x(row.value) - x(0), 24, row),
            _whisker(x(row.low), x(row.high), top + 12),
            _text(x(max(row.high, row.value)) + 8, top + 12, percent(row.value), class_="number"),
        ]
    return _svg(height, title, drawn)


def grouped_bars(groups: Sequence[tuple[str, Sequence[Bar]]], title: str) -> Html:
    """Bars by group (a class), one for each result, in the order and colours of a legend above."""
    names = list(dict.fromkeys((bar.name, bar.colour) for _, members in groups for bar in members))
    left, right = _margin([name for name, _ in groups], 230), WIDTH - 20
    rows = sum(15 * len(members) + 14 for _, members in groups)
    above = 26 * -(-len(names) // 2)
    height = above + rows + 34

    def x(share: float) -> float:
        return left + (right - left) * min(max(share, 0.0), 1.0)

    drawn = [_legend(names), tag("g", _grid(x, height - 26 - above), transform=f"translate(0 {above})")]
    top = above + 6.0
    for name, members in groups:
        drawn.append(_name(name, left - 10, top + 7.5 * len(members), 230))
        for bar in members:
            drawn += [_bar(x(0), top, x(bar.value) - x(0), 12, bar), _whisker(x(bar.low), x(bar.high), top + 6, 3)]
            top += 15
        top += 14
    return _svg(height, title, drawn)


def heat_map(counts: Sequence[Sequence[int]], names: Sequence[str], title: str) -> Html:
    """Rows are true classes, columns answers; a cell's colour and number is its share of the row."""
    left, size = _margin(names, 170), len(names)
    cell = min(52.0, (WIDTH - left - 10) / max(1, size))
    above = min(140.0, 24 + LETTER * 0.75 * max((min(len(n), 20) for n in names), default=0))
    numbered, every = size * size < NUMBERED_CELLS and cell > 24, max(1, round(13 / cell))
    drawn = []
    for row, line in enumerate(counts):
        y, total = above + cell * row, sum(line)
        if row % every == 0:
            drawn.append(_name(names[row], left - 8, y + cell / 2, 170))
            at = f"translate({left + cell * (row + 0.5):.1f} {above - 8}) rotate(-45)"
            drawn.append(tag("g", _text(0, 0, _short(names[row], 20), class_="start"), transform=at))
        for column, count in enumerate(line):
            share = count / total if total else 0.0
            x = left + cell * column
            told = f"{count} of {total} images of “{names[row]}” were taken for “{names[column]}”"
            gap = cell - 1 if cell > 6 else cell
            square = tag("rect", tag("title", told), x=_n(x), y=_n(y), width=_n(gap), height=_n(gap), fill=_hue(share))
            drawn.append(square)
            if numbered:
                ink = "#12171A" if share > 0.55 else "#FFFFFF"
                label = _text(x + cell / 2, y + cell / 2, f"{100 * share:.0f}", class_="cell", style=f"fill:{ink}")
                drawn.append(label)
    return _svg(above + cell * size + 8, title, drawn)


def curve(
    lines: Mapping[str, tuple[str, Sequence[Point]]], title: str, below: str, level: tuple[str, float] | None = None
) -> Html:
    """Lines of shares over a number, each named with its colour; `below` names the axis, `level` a share to compare."""
    height, left, right, foot = 300, 60, WIDTH - 24, 252
    above = 26 * -(-len(lines) // 2) + 8
    xs = [point.x for _, points in lines.values() for point in points]
    first, last = min(xs, default=0.0), max(xs, default=1.0)

    def at(point_x: float, share: float) -> tuple[float, float]:
        across = (point_x - first) / (last - first) if last > first else 0.5
        return left + (right - left) * across, foot - (foot - above) * min(max(share, 0.0), 1.0)

    drawn = [_legend([(name, colour) for name, (colour, _) in lines.items()])]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = at(first, share)[1]
        drawn += [_line(left, y, right, y, "grid"), _text(left - 8, y, f"{100 * share:.0f}%", class_="end")]
    if level is not None:
        y = at(first, level[1])[1]
        drawn += [
            _line(left, y, right, y, "level"),
            _text(right, y + 11, f"{level[0]} {percent(level[1])}", class_="end"),
        ]
    for colour, points in lines.values():
        path = " ".join(f"{_n(px)},{_n(py)}" for px, py in (at(p.x, p.y) for p in points))
        drawn.append(tag("polyline", points=path, fill="none", stroke=colour, stroke_width=2.5))
        for point in points:
            px, py = at(point.x, point.y)
            if point.low is not None and point.high is not None:
                drawn.append(_line(px, at(point.x, point.low)[1], px, at(point.x, point.high)[1], "whisker"))
            drawn.append(tag("circle", cx=_n(px), cy=_n(py), r=3.5, fill=colour))
    for value in sorted({first, last, *(xs if len(set(xs)) <= 12 else [])}):
        drawn.append(_text(at(value, 0)[0], foot + 16, f"{value:,.0f}", class_="cell"))
    drawn.append(_text((left + right) / 2, foot + 38, below, class_="cell"))
    return _svg(height, title, drawn)


def reliability(bins: Sequence[Mapping[str, float]], colour: str, title: str) -> Html:
    """How often a prompt is right (upwards) against how sure it says it is; dots grow with the share of images."""
    size, left, above = 300.0, 60.0, 12.0

    def at(sure: float, right: float) -> tuple[float, float]:
        return left + size * sure, above + size * (1 - right)

    drawn = [_line(*at(0, 0), *at(1, 1), "level")]
    for share in (0.0, 0.5, 1.0):
        drawn += [
            _line(*at(0, share), *at(1, share), "grid"),
            _text(left - 8, at(0, share)[1], f"{100 * share:.0f}%", class_="end"),
        ]
        drawn.append(_text(at(share, 0)[0], above + size + 16, f"{share:.1f}", class_="cell"))
    for each in bins:
        px, py = at(each["confidence"], each["accuracy"])
        told = f"says {each['confidence']:.2f}, is right {percent(each['accuracy'])}"
        drawn.append(
            tag("circle", tag("title", told), cx=_n(px), cy=_n(py), r=_n(3 + 12 * each["share"] ** 0.5), fill=colour)
        )
    drawn.append(_text(left + size / 2, above + size + 38, "how sure it says it is", class_="cell"))
    drawn.append(_text(left + size + 20, above + 14, "upwards: how often it is right", class_="start"))
    drawn.append(_text(left + size + 20, above + 36, "dashed: as sure as it should be", class_="start"))
    return _svg(above + size + 54, title, drawn)


# --- pieces -------------------------------------------------------------------


def _svg(height: float, title: str, drawn: Sequence[Html]) -> Html:
    return tag(
        "svg",
        *drawn,
        viewBox=f"0 0 {WIDTH} {height:.0f}",
        role="img",
        aria_label=title,
        class_="figure",
        style=f"aspect-ratio:{WIDTH}/{height:.0f}",
    )


def _grid(x: Any, bottom: float) -> Html:
    lines = [
        join(
            [
                _line(x(share), 2, x(share), bottom, "grid"),
                _text(x(share), bottom + 14, f"{100 * share:.0f}%", class_="cell"),
            ]
        )
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    return join(lines)


def _bar(x: float, y: float, width: float, height: float, bar: Bar) -> Html:
    fill = "none" if bar.hollow else bar.colour
    return tag(
        "rect",
        tag("title", f"{bar.name}: {percent(bar.value)} ({percent(bar.low)} to {percent(bar.high)})"),
        x=_n(x),
        y=_n(y),
        width=_n(max(width, 0.5)),
        height=height,
        fill=fill,
        stroke=bar.colour,
        stroke_width=2 if bar.hollow else 0,
    )


def _whisker(low: float, high: float, y: float, half: float = 5) -> Html:
    ends = [_line(at, y - half, at, y + half, "whisker") for at in (low, high)]
    return join([_line(low, y, high, y, "whisker"), *ends])


def _legend(names: Sequence[tuple[str, str]]) -> Html:
    """Two names a line, each beside its colour."""
    found = []
    for place, (name, colour) in enumerate(names):
        x, y = 4 + (WIDTH / 2) * (place % 2), 26 * (place // 2) + 12
        found.append(tag("rect", x=_n(x), y=_n(y - 6), width=12, height=12, rx=3, fill=colour))
        found.append(_text(x + 20, y, _short(name, 46), class_="start"))
    return join(found)


def _name(name: str, x: float, y: float, room: int) -> Html:
    return _text(x, y, _short(name, int(room / LETTER)), class_="end", title=name)


def _text(x: float, y: float, words: str, title: str = "", **attributes: Any) -> Html:
    told = tag("title", title) if title and title != words else ""
    return tag("text", told, words, x=_n(x), y=_n(y), dominant_baseline="central", **attributes)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    return tag("line", x1=_n(x1), y1=_n(y1), x2=_n(x2), y2=_n(y2), class_=kind)


def _margin(names: Sequence[str], most: int) -> float:
    return 24 + min(most, LETTER * max((len(name) for name in names), default=0))


def _short(name: str, longest: int) -> str:
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[: longest - 1 - half]}…{name[-half:]}"


def _hue(share: float) -> str:
    """A colour of the viridis scale, between two of its steps."""
    place = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    low = min(int(place), len(VIRIDIS) - 2)
    mixed = [
        round(
            int(VIRIDIS[low][i : i + 2], 16) * (1 - place + low) + int(VIRIDIS[low + 1][i : i + 2], 16) * (place - low)
        )
        for i in (1, 3, 5)
    ]
    return "#{:02X}{:02X}{:02X}".format(*mixed)


def _n(value: float) -> str:
    return f"{value:.1f}"
