"""A bench as a figure: one bar a method, averaged over the data sets."""

from __future__ import annotations

from app.components.figures import READY_MADE as GREY
from app.components.figures import Bar, Figure, accuracy_bars, method_colour
from engines.runs.bench_table import READY_MADE, BenchTable


def bench_bars(table: BenchTable, names: dict[str, str]) -> Figure:
    """Bars of the last column (the average, or the only data set); classes never seen hollow.

    Args:
        names: registry name of a method by its title, for its colour.
    """
    column = table.columns[-1]
    shown = [m for m in table.measures if m != "harmonic_mean"] if "harmonic_mean" in table.measures else []
    shown = shown or list(table.measures)[:1]
    bars = []
    for row in table.rows:
        colour = GREY if row == READY_MADE else method_colour(names.get(row.split(",")[0], row))
        for measure in shown:
            if cell := table.cell(row, column, measure):
                name = row if len(shown) == 1 else f"{row}: {table.measures[measure].lower()} classes"
                spread = cell.std or 0.0
                low, high = max(0.0, cell.mean - spread), min(1.0, cell.mean + spread)
                bars.append(Bar(name, cell.mean, low, high, colour, measure == "new_accuracy"))
    return accuracy_bars(
        bars, f"{table.measures[shown[0]] if len(shown) == 1 else 'Test images it got right'}, {column}"
    )
