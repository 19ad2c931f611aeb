"""A simulated labelling as a figure: right answers and evenness of the labels, by number of labels."""

from __future__ import annotations

from typing import Any

from app.components.figures import OKABE_ITO, READY_MADE, Figure, figure, plain
from engines.runs.simulate_table import MEASURES, SimulationTable


def simulation_figure(table: SimulationTable, title: str) -> Figure:
    """Two panels over the number of labels; one colour a strategy, full with balancing and dashed without."""
    data = []
    for place, strategy in enumerate(table.strategies):
        colour = OKABE_ITO[place % len(OKABE_ITO)]
        for balanced in table.balanced:
            for panel, measure in enumerate(("accuracy", "evenness")):
                if (strategy, balanced) in table.names:
                    data.append(_curve(table, strategy, balanced, measure, panel, colour))
    shapes, notes = [], []
    if zero := table.zero_shot.get("accuracy"):
        line = {"color": READY_MADE, "dash": "dot", "width": 2}
        shapes = [
            {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": zero.mean, "y1": zero.mean, "line": line}
        ]
        notes = [
            {"xref": "x domain", "x": 1, "xanchor": "right", "y": zero.mean, "yanchor": "bottom", "showarrow": False}
            | {"text": f"ready-made prompt {zero.mean:.1%}"}
        ]
    labels = {"title": {"text": "labelled images"}, "tickvals": table.labelled}
    return figure(
        data,
        plain(title),
        xaxis=labels | {"domain": [0, 0.46]},
        xaxis2=labels | {"domain": [0.54, 1], "anchor": "y2"},
        yaxis={"tickformat": ".0%", "title": {"text": MEASURES["accuracy"]}},
        yaxis2={"anchor": "x2", "title": {"text": MEASURES["evenness"]}},
        shapes=shapes,
        annotations=notes,
        showlegend=True,
        height=540,
        margin={"t": 110},  # a legend of two rows
    )


def _curve(
    table: SimulationTable, strategy: str, balanced: bool, measure: str, panel: int, colour: str
) -> dict[str, Any]:
    points = [
        (labelled, spread)
        for number, labelled in enumerate(table.labelled)
        if (spread := table.cells.get((strategy, balanced, number, measure)))
    ]
    name = plain(table.names[strategy, balanced])
    number = ".1%" if measure == "accuracy" else ".2f"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "legendgroup": name,
        "showlegend": panel == 0,
        "x": [labelled for labelled, _ in points],
        "y": [spread.mean for _, spread in points],
        "customdata": [spread.std or 0.0 for _, spread in points],
        "error_y": {"type": "data", "array": [spread.std or 0.0 for _, spread in points], "thickness": 1, "width": 2},
        "line": {"color": colour, "dash": "solid" if balanced else "dash", "width": 2},
        "hovertemplate": f"{name}, %{{x}} labels: %{{y:{number}}} ± %{{customdata:{number}}}<extra></extra>",
    } | ({"xaxis": "x2", "yaxis": "y2"} if panel else {})
