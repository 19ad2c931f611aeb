"""Figures: Plotly accepts them, they show the numbers they were given, and meanings keep their colours."""

from __future__ import annotations

import json

import plotly.graph_objects as go
import pytest

from app.components import class_figures, figures
from app.components.figures import Bar, Curve, Figure
from app.components.plot import drawn, plotly_file

NAMES = ["basophil", "eosinophil", "<b>mono</b> & co"]
BARS = [Bar("CoOp", 0.9, 0.85, 0.93, figures.BLUE), Bar("ready-made prompt", 0.7, 0.6, 0.78, figures.READY_MADE)]
COUNTS = [[8, 2, 0], [1, 9, 0], [0, 0, 0]]


def all_figures() -> dict[str, Figure]:
    curve = Curve("seed 1", [(1, 1.5), (2, 0.7)])
    return {
        "loss": figures.learning_curve([curve], "Loss", last_step=20),
        "accuracy": figures.learning_curve([curve, curve], "Accuracy", share=True),
        "bars": figures.accuracy_bars(BARS, "Right answers"),
        "confusion": class_figures.confusion_matrix(COUNTS, NAMES, "Taken for"),
        "classes": class_figures.per_class_bars(NAMES, [BARS[0]] * 3, [0.5, None, 0.2], "CoOp"),
        "balance": figures.class_balance(NAMES, {"train": [5, 6, 7], "val": [0, 0, 0], "test": [1, 2, 3]}),
        "reliability": class_figures.reliability_diagram([{"confidence": 0.9, "accuracy": 0.8, "share": 1.0}]),
        "shots": figures.shots_curve({"coop": [(1, 0.5, 0.1), (16, 0.99, 0.05)]}, {"coop": "CoOp"}, 0.4),
    }


@pytest.mark.parametrize("name", all_figures())
def test_plotly_accepts_the_figure(name: str) -> None:
    figure = json.loads(drawn(all_figures()[name]))
    checked = go.Figure(figure)  # raises for properties that Plotly does not know
    assert len(checked.data) == len(figure["data"])
    assert checked.layout.paper_bgcolor is None
    assert checked.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"


def test_small_confusion_matrices_carry_numbers_and_large_ones_do_not() -> None:
    def numbered(classes: int) -> bool:
        counts = [[int(t == p) for p in range(classes)] for t in range(classes)]
        figure = class_figures.confusion_matrix(counts, [f"c{n}" for n in range(classes)])
        return "texttemplate" in figure["data"][0]

    assert numbered(12)  # 144 cells
    assert not numbered(13)  # 169


def test_confusion_matrix_shows_shares_of_the_true_class_and_hovers_counts() -> None:
    data = class_figures.confusion_matrix(COUNTS, NAMES)["data"][0]
    assert data["z"] == [[0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 0.0]]
    assert data["text"][0][1] == "2 of 10 images of “basophil”<br>were taken for “eosinophil”"
    assert data["customdata"][0][1] == [0, 1, 2, 10]


def test_names_are_never_markup() -> None:
    text = json.dumps(all_figures(), ensure_ascii=False)
    assert "<b>mono" not in text
    assert "&lt;b&gt;mono&lt;/b&gt; &amp; co" in text
    assert figures.plain("x" * 50 + "<", 11) == "xxxxx…xxxx&lt;"


def test_bars_carry_their_intervals() -> None:
    bars = figures.accuracy_bars(BARS, "")["data"][0]
    assert bars["error_x"]["array"] == pytest.approx([0.03, 0.08])
    assert bars["error_x"]["arrayminus"] == pytest.approx([0.05, 0.1])


def test_classes_never_seen_are_hollow() -> None:
    bars = figures.accuracy_bars([BARS[0], Bar("new", 0.5, 0.4, 0.6, figures.BLUE, hollow=True)], "")["data"][0]
    assert bars["marker"]["color"] == [figures.BLUE, "rgba(0,0,0,0)"]
    assert bars["marker"]["line"]["color"] == [figures.BLUE, figures.BLUE]


def test_a_method_keeps_its_colour_and_grey_means_ready_made() -> None:
    assert figures.method_colour("zero-shot") == figures.READY_MADE == "#6B7280"
    others = [figures.method_colour(name) for name in ("coop", "linear-probe", "one-of-tomorrow")]
    assert set(others) <= set(figures.OKABE_ITO)
    assert others == [figures.method_colour(name) for name in ("coop", "linear-probe", "one-of-tomorrow")]
    assert len(set(others[:2])) == 2


def test_splits_without_images_are_left_out() -> None:
    shown = {trace["name"] for trace in all_figures()["balance"]["data"]}
    assert shown == {"for training", "for testing"}


def test_bands_stay_between_nothing_and_everything() -> None:
    band = all_figures()["shots"]["data"][0]
    assert band["y"] == pytest.approx([0.6, 1.0, 0.94, 0.4])


def test_plotly_comes_from_the_installed_package() -> None:
    assert plotly_file().stat().st_size > 1_000_000
