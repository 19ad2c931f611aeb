"""The table that papers print: method by data set, mean ± standard deviation over seeds, and averages. Torch-free."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from engines.prompts.metrics import harmonic_mean
from engines.store import Run

AVERAGE = "Average"
SOURCE = " (source)"
MEASURES: dict[str, dict[str, str]] = {
    "base-to-new": {"base_accuracy": "Base", "new_accuracy": "New", "harmonic_mean": "HM"},
    "zero-shot-anomaly": {
        "image_auroc": "Image AUROC",
        "image_ap": "Image AP",
        "pixel_auroc": "Pixel AUROC",
        "pro": "PRO",
    },
}
"""By protocol: keys of a run's summary, and how papers call them. Accuracy alone where nothing is said here."""
HARMONIC = "harmonic_mean"
READY_MADE = "Ready-made prompt"
"""The row of the untrained prompt, which every run carries with it."""


@dataclass(frozen=True)
class Cell:
    """Mean and standard deviation over seeds (by their number, as Dassl computes it), fractions of 1."""

    mean: float
    std: float | None
    """None where there is one seed alone."""

    def text(self, plus_minus: str = " ± ") -> str:
        """In percent, as papers print it."""
        spread = "" if self.std is None else f"{plus_minus}{100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{spread}"


@dataclass(frozen=True)
class BenchTable:
    """Rows by method, columns by (data set, measure)."""

    measures: dict[str, str]
    columns: list[str]
    """Data sets (or domains), the average last where there are several."""
    rows: list[str]
    cells: dict[tuple[str, str, str], Cell]
    """(row, column, measure) -> cell; missing where a run failed."""

    def cell(self, row: str, column: str, measure: str) -> Cell | None:
        return self.cells.get((row, column, measure))

    def header(self) -> list[str]:
        return [f"{c} {m}" if len(self.measures) > 1 else c for c in self.columns for m in self.measures.values()]

    def lines(self, missing: str = "–", plus_minus: str = " ± ") -> list[list[str]]:
        """Rows as text, the method first."""

        def text(row: str, column: str, measure: str) -> str:
            cell = self.cell(row, column, measure)
            return cell.text(plus_minus) if cell else missing

        return [[row, *(text(row, c, m) for c in self.columns for m in self.measures)] for row in self.rows]

    def to_csv(self) -> str:
        """One line a cell: method, data set, measure, mean, std (fractions of 1)."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["method", "data", "measure", "mean", "std"])
        for (row, column, measure), cell in self.cells.items():
            spread = "" if cell.std is None else f"{cell.std:.6f}"
            writer.writerow([row, column, measure, f"{cell.mean:.6f}", spread])
        return out.getvalue()

    def to_markdown(self) -> str:
        head = ["Method", *(text.replace("|", "\\|") for text in self.header())]
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *self.lines()]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def to_latex(self) -> str:
        """A booktabs table; the best mean of every column is bold."""
        best = {
            (c, m): max((cell.mean for r in self.rows if (cell := self.cell(r, c, m))), default=None)
            for c in self.columns
            for m in self.measures
        }

        def text(row: str, column: str, measure: str) -> str:
            cell = self.cell(row, column, measure)
            if cell is None:
                return "--"
            words = cell.text(r"$\pm$")
            return rf"\textbf{{{words}}}" if cell.mean == best[column, measure] else words

        body = [
            " & ".join([_latex(row), *(text(row, c, m) for c in self.columns for m in self.measures)]) + r" \\"
            for row in self.rows
        ]
        head = " & ".join(["Method", *map(_latex, self.header())]) + r" \\"
        columns = "l" + "c" * (len(self.columns) * len(self.measures))
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*lines, r"\end{tabular}", ""])

    def as_data(self) -> list[dict[str, Any]]:
        """For machines: one entry a cell."""
        return [
            {"method": row, "data": column, "measure": measure, "mean": cell.mean, "std": cell.std}
            for (row, column, measure), cell in self.cells.items()
        ]


def make_table(
    runs: Sequence[Run], protocol: str, titles: Mapping[str, str], datasets: Mapping[int, str]
) -> BenchTable:
    """The table of finished runs.

    Args:
        titles: a method's name for people, by registry name.
        datasets: names of data sets by number.
    """
    measures = MEASURES.get(protocol, {"accuracy": "Accuracy"})
    several = len({run.shots for run in runs if run.shots}) > 1
    values: dict[tuple[str, str, str], list[float]] = {}
    columns: dict[str, None] = {}
    rows: dict[str, None] = {}
    for run in runs:
        if run.state != "done":
            continue
        title = titles.get(run.method, run.method)
        row = f"{title}, {run.shots} per class" if several and run.shots else title
        for column, numbers in _columns(run, protocol, datasets).items():
            columns[column] = None
            for name, key in ((row, numbers), (READY_MADE, numbers.get("zero_shot") or {})):
                if run.method == "zero-shot" and name == READY_MADE:
                    continue
                for measure in measures:
                    if isinstance(key.get(measure), int | float):
                        rows[name] = None
                        values.setdefault((name, column, measure), []).append(float(key[measure]))
    if "zero-shot" in {run.method for run in runs}:  # then it has a row of its own
        rows.pop(READY_MADE, None)
    cells = {key: _cell(found, key[0] == READY_MADE) for key, found in values.items() if key[0] in rows}
    _use_harmonic_means(cells)
    table = BenchTable(measures, list(columns), sorted(rows, key=lambda row: row != READY_MADE), cells)
    return _averaged(table) if len(columns) > 1 else table


def _columns(run: Run, protocol: str, datasets: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    """Numbers of a run by column: its data set, or what it was tested on."""
    name = datasets.get(run.dataset_id or 0, "")
    targets: dict[str, dict[str, Any]] = run.summary.get("targets") or {}
    if protocol == "domain-generalisation":
        alone = len(datasets) < 2
        return {(domain if alone else f"{name}: {domain}"): numbers for domain, numbers in targets.items()}
    if protocol == "cross-dataset":
        return {f"{name}{SOURCE}": run.summary} | targets
    return targets if targets and protocol == "zero-shot-anomaly" else {name: run.summary}


def _cell(values: Sequence[float], same: bool) -> Cell:
    """The ready-made prompt is the same for every seed, so it has no spread."""
    return Cell(fmean(values), pstdev(values) if len(values) > 1 and not same else None)


def _averaged(table: BenchTable) -> BenchTable:
    """With a last column: the mean over data sets of every row that has all of them (sources of transfer left out)."""
    averaged = [column for column in table.columns if not column.endswith(SOURCE)]
    cells = dict(table.cells)
    for row in table.rows:
        for measure in table.measures:
            found = [cell for column in averaged if (cell := table.cell(row, column, measure))]
            if len(found) == len(averaged):
                cells[row, AVERAGE, measure] = Cell(fmean(cell.mean for cell in found), None)
    _use_harmonic_means(cells)
    return BenchTable(table.measures, [*table.columns, AVERAGE], table.rows, cells)


def _use_harmonic_means(cells: dict[tuple[str, str, str], Cell]) -> None:
    """Harmonic means of the averaged accuracies, as papers print them (CoCoOp, table 1); spreads stay."""
    for (row, column, measure), cell in list(cells.items()):
        if measure == HARMONIC:
            base, new = (cells[row, column, key].mean for key in ("base_accuracy", "new_accuracy"))
            cells[row, column, measure] = Cell(harmonic_mean(base, new), cell.std)


def _latex(text: str) -> str:
    special = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "±": r"$\pm$"}
    return "".join(special.get(letter, letter) for letter in text)
