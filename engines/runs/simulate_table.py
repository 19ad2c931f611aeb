"""What a simulation found, as tables: mean ± standard deviation over seeds, round by round. Torch-free."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from engines.data.names import spreadsheet_safe

ZERO_SHOT = "Ready-made prompt"
MEASURES = {
    "accuracy": "Right answers",
    "class_accuracy": "Right answers, mean of classes",
    "evenness": "Evenness of labels",
    "ratio": "Most frequent class over rarest",
    "missing": "Classes without a label",
}
"""Numbers of a round and how they are called. Evenness: entropy of class counts over that of equal counts."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds (by their number)."""

    mean: float
    std: float | None
    seeds: int

    def percent(self) -> str:
        return f"{100 * self.mean:.1f}" + ("" if self.std is None else f" ± {100 * self.std:.1f}")

    def plain(self) -> str:
        return f"{self.mean:.2f}" + ("" if self.std is None else f" ± {self.std:.2f}")


@dataclass(frozen=True)
class SimulationTable:
    """Rows by (strategy, balanced), columns by round."""

    strategies: list[str]
    balanced: list[bool]
    names: dict[tuple[str, bool], str]
    labelled: list[int]
    """Labels after each round."""
    zero_shot: dict[str, Spread]
    cells: dict[tuple[str, bool, int, str], Spread]
    """(strategy, balanced, round from 0, measure); missing where no seed has it."""
    gains: dict[tuple[str, str], Spread]
    """(strategy, measure) -> last round with balancing minus without, paired by seed."""

    def rows(self) -> list[tuple[str, bool]]:
        """Every strategy without, then with balancing."""
        return [(s, b) for s in self.strategies for b in self.balanced if (s, b) in self.names]

    def lines(self, measure: str) -> list[list[str]]:
        """One line a row, its name first; the ready-made prompt above, where it has the measure."""
        said = _text(measure)
        head = []
        if measure in self.zero_shot:
            head = [[ZERO_SHOT, *[said(self.zero_shot[measure])] * len(self.labelled)]]
        return head + [
            [self.names[row], *(said(self.cells.get((*row, number, measure))) for number in range(len(self.labelled)))]
            for row in self.rows()
        ]

    def side_by_side(self) -> tuple[list[str], list[list[str]]]:
        """(header, lines): the last round of every strategy without and with balancing, beside each other."""
        header, lines = ["Strategy"], []
        measures = ("accuracy", "evenness")
        for measure in measures:
            header += [f"{MEASURES[measure]}{', + PCB' if b else ''}" for b in self.balanced]
            header += ["Difference"] if len(self.balanced) > 1 else []
        last = len(self.labelled) - 1
        for strategy in self.strategies:
            line = [next((self.names[strategy, b] for b in self.balanced if (strategy, b) in self.names), strategy)]
            for measure in measures:
                said = _text(measure)
                line += [said(self.cells.get((strategy, b, last, measure))) for b in self.balanced]
                line += [_signed(self.gains.get((strategy, measure)), measure)] if len(self.balanced) > 1 else []
            lines.append(line)
        return header, lines

    def to_csv(self) -> str:
        """One line for every strategy, round and measure; fractions of 1."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["strategy", "balanced", "round", "labelled", "measure", "mean", "std", "seeds"])
        for measure, spread in self.zero_shot.items():
            writer.writerow(["zero-shot", "", "", 0, measure, f"{spread.mean:.6f}", _digits(spread.std), spread.seeds])
        for (strategy, balanced, number, measure), spread in self.cells.items():
            where = [spreadsheet_safe(strategy), int(balanced), number + 1, self.labelled[number], measure]
            writer.writerow([*where, f"{spread.mean:.6f}", _digits(spread.std), spread.seeds])
        return out.getvalue()

    def to_markdown(self) -> str:
        """Right answers and evenness, round by round, then the last round side by side."""
        parts = []
        for measure in ("accuracy", "evenness"):
            unit = ", %" if measure == "accuracy" else ""
            head = [f"{MEASURES[measure]}{unit}, after labels:", *map(str, self.labelled)]
            parts.append(_markdown(head, self.lines(measure)))
        header, lines = self.side_by_side()
        return "\n".join([*parts, _markdown(header, lines)])

    def as_data(self) -> dict[str, Any]:
        """For machines."""
        return {
            "labelled": self.labelled,
            "zero_shot": {measure: vars(spread) for measure, spread in self.zero_shot.items()},
            "rows": [
                {
                    "strategy": s,
                    "balanced": b,
                    "round": n + 1,
                    "labelled": self.labelled[n],
                    "measure": m,
                    **vars(spread),
                }
                for (s, b, n, m), spread in self.cells.items()
            ],
            "gains": [{"strategy": s, "measure": m, **vars(spread)} for (s, m), spread in self.gains.items()],
        }


def make_table(results: Sequence[dict[str, Any]], name: Callable[[str, bool], str]) -> SimulationTable:
    """The table of finished cells, in the order in which their strategies come.

    Args:
        name: what to call a strategy, with or without balancing.
    """
    found: dict[tuple[str, bool, int, str], dict[int, float]] = {}
    labelled: list[int] = []
    for result in results:
        labelled = max(labelled, [row["labelled"] for row in result["rows"]], key=len)
        for number, row in enumerate(result["rows"]):
            for measure in MEASURES:
                if row.get(measure) is not None:
                    key = (result["strategy"], result["balanced"], number, measure)
                    found.setdefault(key, {})[result["seed"]] = float(row[measure])
    kinds = list(dict.fromkeys((result["strategy"], result["balanced"]) for result in results))
    strategies = list(dict.fromkeys(strategy for strategy, _ in kinds))
    last, gains = len(labelled) - 1, {}
    for strategy in strategies:
        for measure in MEASURES:
            plain, even = (found.get((strategy, b, last, measure), {}) for b in (False, True))
            if pairs := [even[seed] - plain[seed] for seed in plain if seed in even]:
                gains[strategy, measure] = _spread(pairs)
    zero_shot: dict[str, dict[int, float]] = {}
    for result in results:
        for measure, value in result["zero_shot"].items():
            zero_shot.setdefault(measure, {})[result["seed"]] = value
    return SimulationTable(
        strategies=strategies,
        balanced=sorted({balanced for _, balanced in kinds}),
        names={kind: name(*kind) for kind in kinds},
        labelled=labelled,
        # The test images are the same for every seed, so it has no spread.
        zero_shot={m: Spread(fmean(v.values()), None, len(v)) for m, v in zero_shot.items()},
        cells={key: _spread(list(values.values())) for key, values in found.items()},
        gains=gains,
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(fmean(values), pstdev(values) if len(values) > 1 else None, len(values))


def _text(measure: str) -> Callable[[Spread | None], str]:
    """How a measure is written."""

    def text(spread: Spread | None) -> str:
        if spread is None:
            return "–"
        return spread.percent() if measure.endswith("accuracy") else spread.plain()

    return text


def _signed(spread: Spread | None, measure: str) -> str:
    text = _text(measure)(spread)
    return f"+{text}" if spread is not None and spread.mean > 0 else text.replace("-", "−")


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)
