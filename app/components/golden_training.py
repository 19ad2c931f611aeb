"""What the Golden noise page says of an NPNet's training."""

from __future__ import annotations

from typing import Any

from app.components.figures import BLUE, READY_MADE, Figure, figure
from app.components.html import Html, tag
from app.components.plot import saved_as
from app.components.words import counted
from engines.diffusion.golden.study import Curve

FEW = 12
"""Passes that are counted one by one on the axis."""


def training_sentence(curve: Curve | None) -> Html:
    """Whether the network predicts golden noise better than noise itself does."""
    if curve is None or curve.best is None:
        return Html("")
    least = curve.held_out[curve.best]
    share = 1 - least / curve.unchanged if curve.unchanged else 0.0
    passes = f"after pass {curve.best + 1} of {len(curve.held_out)}"
    if share > 0:
        said = f"NPNet comes {100 * share:.1f}% nearer to golden noise than changing nothing does, {passes}."
    else:
        said = f"NPNet comes no nearer to golden noise than changing nothing does ({passes})."
    more = (
        f"Error on {counted(curve.held_out_pairs, 'pair')} of prompts that it did not learn from: {least:.4f}; of"
        f" changing nothing: {curve.unchanged:.4f}. It learnt from {counted(curve.pairs, 'pair')}. Whether images"
        " become better is another question: judge them."
    )
    return tag("div", tag("p", said, class_="pl-sentence"), tag("p", more, class_="pl-quiet"), class_="pl-told")


def training_figure(curve: Curve | None) -> Figure | None:
    """Errors after every pass, on pairs it learns from and on held-out ones, and of changing nothing."""
    if curve is None or not curve.held_out:
        return None
    passes = list(range(1, len(curve.held_out) + 1))
    lines = [
        ("pairs it learns from", curve.train, READY_MADE, "dot"),
        ("held-out prompts", curve.held_out, BLUE, "solid"),
    ]
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines" if len(passes) > 1 else "markers",
            "name": name,
            "x": passes,
            "y": values,
            "line": {"color": colour, "dash": dash, "width": 2.5},
            "hovertemplate": f"{name}: %{{y:.4f}}<extra></extra>",
        }
        for name, values, colour, dash in lines
    ]
    level = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": curve.unchanged, "y1": curve.unchanged}
    label = {"xref": "paper", "x": 1, "xanchor": "right", "y": curve.unchanged, "yanchor": "bottom", "showarrow": False}
    values = [*curve.train, *curve.held_out, curve.unchanged]
    room = 0.15 * (max(values) - min(values)) or 0.1 * max(values) or 1.0
    ticks = {"dtick": 1} if curve.passes <= FEW else {}  # halves of a pass mean nothing
    drawn = figure(
        data,
        "Error of the predicted noise",
        xaxis={
            "title": {"text": "passes over the pairs"},
            "range": [0.5, max(2, curve.passes) + 0.5],
            **ticks,
        },
        yaxis={"range": [max(0.0, min(values) - room), max(values) + room]},
        shapes=[level | {"line": {"color": READY_MADE, "dash": "dash", "width": 2}}],
        annotations=[label | {"text": f"changing nothing {curve.unchanged:.4f}"}],
        hovermode="x unified",
        showlegend=True,
    )
    rows = list(zip(passes, curve.train, curve.held_out, strict=True))
    return saved_as(drawn, "npnet-training", ["pass", "train", "held-out"], rows)
