"""Figures are markup in their own right: right places, escaped names, nothing to fetch."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.reports import svg
from engines.reports.svg import Bar, Point

EVIL = "<script>alert('1')</script>"


def parsed(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)


def rects(root: ElementTree.Element) -> list[dict[str, float]]:
    return [{k: float(r.get(k, "nan")) for k in ("x", "y", "width", "height")} for r in root.iter("rect")]


def test_bars_are_as_long_as_their_shares() -> None:
    root = parsed(svg.bars([Bar("a", 1.0, 0.9, 1.0), Bar("b", 0.5, 0.4, 0.6), Bar("c", 0.0, 0.0, 0.1)], "title"))
    full, half, none = (rect["width"] for rect in rects(root))
    assert half == pytest.approx(full / 2, abs=0.1)
    assert none == 0.5
    whiskers = [line for line in root.iter("line") if line.get("class") == "whisker"]
    left = rects(root)[0]["x"]
    low, high = (float(whiskers[3].get(k, "nan")) for k in ("x1", "x2"))
    assert (low - left) / full == pytest.approx(0.4, abs=0.002)
    assert (high - left) / full == pytest.approx(0.6, abs=0.002)
    assert [text.text for text in root.iter("text") if text.get("class") == "number"] == ["100.0%", "50.0%", "0.0%"]


def test_new_classes_are_hollow() -> None:
    root = parsed(svg.bars([Bar("a", 0.5, 0.4, 0.6, "#0072B2", hollow=True)], "title"))
    assert [rect.get("fill") for rect in root.iter("rect")] == ["none"]


def test_a_heat_map_has_a_cell_for_each_pair_and_the_share_of_its_row() -> None:
    root = parsed(svg.heat_map([[3, 1], [0, 0]], ["a", "b"], "title"))
    assert len(rects(root)) == 4
    numbers = [text.text for text in root.iter("text") if text.get("class") == "cell"]
    assert numbers == ["75", "25", "0", "0"]
    assert [rect.get("fill") for rect in root.iter("rect")][2:] == ["#440154", "#440154"]


def test_a_curve_goes_up_where_shares_do() -> None:
    root = parsed(svg.curve({"right": ("#0072B2", [Point(10, 0.2, 0.1, 0.3), Point(20, 0.8)])}, "t", "labels"))
    (line,) = root.iter("polyline")
    (x1, y1), (x2, y2) = ([float(n) for n in place.split(",")] for place in line.get("points", "").split())
    assert x1 < x2
    assert y1 > y2
    assert sum(each.get("class") == "whisker" for each in root.iter("line")) == 1


def test_one_point_or_none_makes_a_figure_too() -> None:
    for points in ([], [Point(5, 0.5)]):
        assert parsed(svg.curve({"right": ("#0072B2", points)}, "t", "labels")).tag == "svg"


@given(st.text(max_size=80), st.floats(0, 1))
def test_any_name_is_text_and_nothing_else(name: str, share: float) -> None:
    for figure in (
        svg.bars([Bar(name, share, share, share)], name),
        svg.grouped_bars([(name, [Bar(name, share, share, share)])], name),
        svg.heat_map([[1]], [name], name),
    ):
        assert set(re.findall(r"<(\w+)", figure)) <= {"svg", "g", "rect", "line", "text", "title"}
        assert figure.count("<svg") == 1


def test_markup_in_names_stays_text() -> None:
    root = parsed(svg.grouped_bars([(EVIL, [Bar(EVIL, 0.5, 0.4, 0.6)])], EVIL))
    assert {element.tag for element in root.iter()} <= {"svg", "g", "rect", "line", "text", "title"}
    assert any(EVIL in (title.text or "") for title in root.iter("title"))
