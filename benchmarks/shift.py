"""Which methods move images and words how far, and does the gap between both go with accuracy on new classes?

    python benchmarks/shift.py WORKSPACE

Looks into every finished base-to-new run of the workspace (answers are kept there, so that it can be stopped and begun
again), writes `results/shift.json` and the figure `docs/images/shift.svg`, and prints the tables of `docs/shift.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from math import cos, pi, sin
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAIRS = (("gap", "new"), ("gap_new", "new"), ("images", "new"), ("words", "new"), ("depth_gap", "new"))
"""What is ranked against what; the same with the change of the lead on new classes in place of `new`."""


def look(folder: Path) -> list[dict[str, Any]]:
    """One row a run, the newest of each method and seed; numbers are means, accuracies fractions of 1."""
    from sqlalchemy import select

    from engines.errors import PromptloupeError
    from engines.inspection.shift import feature_shift
    from engines.prompts.catalog import method_entry
    from engines.store import Run, Workspace

    workspace, rows = Workspace.open(folder), []
    with workspace.session() as session:
        asked = select(Run).where(Run.state == "done", Run.protocol == "base-to-new").order_by(Run.created_at)
        newest = {(run.method, run.seed): run for run in session.scalars(asked)}
    runs = [newest[which] for which in sorted(newest)]
    for run in runs:
        try:
            answer = feature_shift(workspace, run.id)
        except PromptloupeError as error:
            print(f"{run.name}, seed {run.seed}: {error}", file=sys.stderr)
            continue
        whole, new = answer.groups["all"], answer.groups["new"]
        directions = [row.direction for row in answer.classes if row.direction is not None]
        rows.append(
            {
                "method": method_entry(run.method).title,
                "seed": run.seed,
                "labels": method_entry(run.method).learns_from == "labels",
                "images": whole.images.mean,
                "words": whole.words.mean,
                "gap": whole.gap.mean,
                "gap_base": answer.groups["base"].gap.mean,
                "gap_new": new.gap.mean,
                "depth_gap": answer.block_gap.mean if answer.block_gap else None,
                "direction": mean(directions) if directions else None,
                "lead_change": new.margin_after.mean - new.margin_before.mean,
                "base": run.summary["base_accuracy"],
                "new": run.summary["new_accuracy"],
                "new_ready_made": run.summary["zero_shot"]["new_accuracy"],
            }
        )
    return rows


def averaged(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a method: means over seeds, and the spread of some."""
    methods: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        methods[row["method"]].append(row)
    found = []
    for name, own in methods.items():
        told = {"method": name, "seeds": len(own), "labels": own[0]["labels"]}
        for key in (k for k, v in own[0].items() if k not in (*told, "seed") and not isinstance(v, str)):
            values = [row[key] for row in own if row[key] is not None]
            told[key] = mean(values) if values else None
            told[f"{key}_std"] = pstdev(values) if values else None
        found.append(told)
    return sorted(found, key=lambda row: row["gap"])


def ranked(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Spearman's rank correlations, with the number of rows and the permutation p."""
    from engines.inspection.shift_relation import spearman, surprise

    found = {}
    for x, y in [*PAIRS, *((x, "lead_change") for x, _ in PAIRS)]:
        pairs = [(row[x], row[y]) for row in rows if row[x] is not None]
        sides = list(zip(*pairs, strict=True))
        found[f"{x} / {y}"] = {"rho": spearman(*sides), "p": surprise(*sides), "count": len(pairs)}
    return found


def tables(methods: Sequence[dict[str, Any]], correlations: dict[str, dict[str, dict[str, Any]]]) -> str:
    lines = [
        "| | Method | Images moved | Words moved | Gap | Gap, base / new | Gap in blocks | Same way | Base | New |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for number, row in enumerate(methods, start=1):
        cells = [_spread(row, key) for key in ("images", "words", "gap")]
        cells += [
            f"{row['gap_base']:.3f} / {row['gap_new']:.3f}",
            _told(row["depth_gap"], 2),
            _told(row["direction"], 2),
        ]
        cells += [f"{100 * row[key]:.1f} ± {100 * row[f'{key}_std']:.1f}" for key in ("base", "new")]
        lines.append(f"| {number} | {row['method']} | {' | '.join(cells)} |")
    for name, each in correlations.items():
        lines += ["", name, "", "| Ranked | ρ | p | n |", "| --- | ---: | ---: | ---: |"]
        lines += [f"| {pair} | {_told(r['rho'], 2)} | {_chance(r['p'])} | {r['count']} |" for pair, r in each.items()]
    return "\n".join(lines)


def _spread(row: dict[str, Any], key: str) -> str:
    return "0" if row[key] == 0 else f"{row[key]:.3f} ± {row[f'{key}_std']:.3f}"


def _told(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _chance(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


# --- the figure -----------------------------------------------------------------

SIDE, LEFT, TOP, FARTHEST = 360, 64, 50, 0.5
LOWEST = 0.4
TURNS = [pi * turn / 6 for turn in (-2, -4, -1, -3, 2, 4, 0, 3, 6)]
SHIFTS = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


def figure(methods: Sequence[dict[str, Any]]) -> str:
    """Two panels of one dot a method: words against images, and accuracy on new classes against the gap."""
    ready_made = methods[0]["new_ready_made"]
    first = _panel(LEFT, "How far images and words moved", "images (1 − cos)", "words (1 − cos)")
    second = _panel(2 * LEFT + SIDE + 30, "The gap and new classes", "gap |images − words|", "right on new classes")
    first += [_line(LEFT, TOP + SIDE, LEFT + SIDE, TOP, "4 4"), _note(LEFT + SIDE - 8, TOP + 26, "no gap", "end")]
    start, level = 2 * LEFT + SIDE + 30, _up(ready_made)
    second += [
        _line(start, level, start + SIDE, level, "4 4"),
        _note(start + _along(0.22), level - 6, "ready-made", "middle"),
    ]
    for share in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        second.append(_note(start - 8, _up(share) + 4, f"{share:.0%}", "end"))
    for shift in SHIFTS:
        at = _along(shift)
        first.append(_note(LEFT - 8, TOP + SIDE - at + 4, f"{shift:g}", "end"))
        first.append(_note(LEFT + at, TOP + SIDE + 18, f"{shift:g}", "middle"))
        second.append(_note(start + at, TOP + SIDE + 18, f"{shift:g}", "middle"))
    names, sides = [], ([], [])
    for number, row in enumerate(methods, start=1):
        colour = "#0f766e" if row["labels"] else "#b45309"
        sides[0].append((LEFT + _along(row["images"]), TOP + SIDE - _along(row["words"]), number, colour))
        sides[1].append((start + _along(row["gap"]), _up(row["new"]), number, colour))
        names.append(_note(start + SIDE + 24, TOP + 6 + 17 * number, f"{number}  {row['method']}", "start", colour))
    first += _dots(sides[0])
    second += _dots(sides[1])
    width, height = start + SIDE + 250, max(TOP + SIDE + 56, TOP + 17 * len(methods) + 34)
    legend = _note(start + SIDE + 24, TOP, "brown: learned without labels", "start", "#b45309")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="12" role="img">\n<title>Feature shift of'
        f" {len(methods)} methods on the blood-smear sample</title>\n"
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join([*first, *second, legend, *names])
        + "\n</svg>\n"
    )


def _along(shift: float) -> float:
    """Small shifts are spread out: the axes go by the square root."""
    return SIDE * float(shift / FARTHEST) ** 0.5


def _up(share: float) -> float:
    return TOP + SIDE * (1 - share) / (1 - LOWEST)


def _panel(x: float, title: str, across: str, upwards: str) -> list[str]:
    return [
        f'<rect x="{x}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#94a3b8"/>',
        f'<text x="{x}" y="{TOP - 18}" font-size="15" fill="#0f172a">{escape(title)}</text>',
        _note(x + SIDE / 2, TOP + SIDE + 40, across, "middle"),
        f'<g transform="translate({x - 46} {TOP + SIDE / 2}) rotate(-90)">{_note(0, 0, upwards, "middle")}</g>',
    ]


def _note(x: float, y: float, words: str, anchor: str, colour: str = "#334155") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, dashes: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#94a3b8" stroke-dasharray="{dashes}"/>'


def _dots(dots: Sequence[tuple[float, float, int, str]]) -> list[str]:
    """Dots, and beside each its number, where no other number or dot stands."""
    drawn, taken = [], [(x, y) for x, y, *_ in dots]
    for x, y, number, colour in dots:
        places = [(x + r * cos(turn), y + r * sin(turn)) for r in range(13, 80, 6) for turn in TURNS]
        free = [(u, v) for u, v in places if all(abs(u - a) > 13 or abs(v - b) > 10 for a, b in taken)]
        u, v = (free or places)[0]
        taken.append((u, v))
        drawn += [
            f'<path d="M{x:.1f} {y:.1f}L{u:.1f} {v:.1f}" stroke="{colour}" stroke-width="0.5"/>',
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" stroke="#ffffff"/>',
            f'<text x="{u:.1f}" y="{v + 3.5:.1f}" text-anchor="middle" font-size="10" fill="{colour}">{number}</text>',
        ]
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    rows = look(parser.parse_args().workspace)
    methods = averaged(rows)
    labelled = [row for row in methods if row["labels"]]
    correlations = {
        f"All {len(methods)} methods": ranked(methods),
        f"The {len(labelled)} that saw nothing of the new classes": ranked(labelled),
        f"All {len(rows)} runs": ranked(rows),
    }
    results = {"runs": rows, "methods": methods, "correlations": correlations}
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (ROOT / "benchmarks" / "results" / "shift.json").write_text(text + "\n", encoding="utf-8")
    (ROOT / "docs" / "images" / "shift.svg").write_text(figure(methods), encoding="utf-8")
    print(tables(methods, correlations))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
