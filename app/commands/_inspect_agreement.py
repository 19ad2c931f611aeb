"""promptloupe inspect agreement and calibration: from the answers that runs leave behind."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from app.commands._shared import JsonOption, WorkspaceOption, emit, find_run, opened, out, percent, table
from engines.errors import ConfigError
from engines.inspection.agreement import counted_pair, difference, matrix
from engines.inspection.answers import Answers, read_answers
from engines.inspection.calibration import Calibration, calibration_change
from engines.store import Run, Workspace
from engines.store.agreement import READY_MADE

RunsArgument = Annotated[list[str], typer.Argument(help="Finished runs, as listed by: promptloupe runs.")]


def register(inspect: typer.Typer) -> None:
    inspect.command("agreement")(agreement)
    inspect.command("calibration")(calibration)


def agreement(runs: RunsArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Say which runs answer alike, and whether a difference can be chance; the ready-made prompt is among them.

    Example: promptloupe inspect agreement 3f2a91c0de77 81bb02e6a1f4
    """
    ws = opened(workspace)
    rows = [find_run(ws, run) for run in dict.fromkeys(runs)]
    named = [("ready-made prompt", READY_MADE, _answers(ws, rows[0], True))]
    named += [(f"{row.name}, seed {row.seed}", row.id, _answers(ws, row)) for row in rows]
    found = matrix([answers for _, _, answers in named])
    if found is None:
        raise ConfigError("These runs were not tested on the same images.", "Choose runs of one data set.")
    pairs = []
    for i, (_, one, first) in enumerate(named):
        for _, other, second in named[i + 1 :]:
            counts, gain = counted_pair(first, second), difference([(first, second)])
            assert counts is not None
            assert gain is not None
            p = {"p_value": counts.p_value, "difference": asdict(gain)}
            pairs.append({"first": one, "second": other} | asdict(counts) | p)
    if as_json:
        about = {"sample_ids": found.sample_ids.tolist(), "true": found.true.tolist(), "said": found.said.tolist()}
        named_rows = [{"run": run, "name": name} for name, run, _ in named]
        emit({"runs": named_rows, "alike": found.alike.tolist(), "pairs": pairs, "matrix": about})
        return
    names = {run: name for name, run, _ in named}
    heads = ["this one", "against", "only this right>", "only that right>", "difference (points)>", "p>"]
    table(
        heads,
        [
            [
                names[p["first"]],
                names[p["second"]],
                p["first_only"],
                p["second_only"],
                f"{100 * p['difference']['value']:+.1f} ({100 * p['difference']['low']:+.1f} to"
                f" {100 * p['difference']['high']:+.1f})",
                "< 0.001" if p["p_value"] < 0.001 else f"{p['p_value']:.3f}",
            ]
            for p in pairs
        ],
    )
    out.print(f"{len(found.true):,} images; they differ on {len(found.differing):,}.")


def calibration(runs: RunsArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Say how far the probabilities can be taken at their word, before and after training.

    Example: promptloupe inspect calibration 3f2a91c0de77 --json
    """
    ws = opened(workspace)
    found = []
    for row in (find_run(ws, run) for run in dict.fromkeys(runs)):
        change = calibration_change(_answers(ws, row, True), _answers(ws, row))
        if change is None:
            raise ConfigError(
                f"“{row.name}” is older than that probabilities are kept for every image.", "Train it again."
            )
        found.append((row, *change))
    if as_json:
        emit([{"run": r.id, "before": asdict(b), "after": asdict(a), "change": asdict(c)} for r, b, a, c in found])
        return
    table(
        ["run", "seed>", "error before>", "error after>", "equal-mass after>", "too sure by>"],
        [
            [row.name, row.seed, _error(b), _error(a), percent(a.ece_equal_mass.value), percent(a.surplus)]
            for row, b, a, _ in found
        ],
    )


def _error(found: Calibration) -> str:
    return f"{percent(found.ece.value)} ({percent(found.ece.low)} to {percent(found.ece.high)})"


def _answers(workspace: Workspace, run: Run, ready_made: bool = False) -> Answers:
    found = read_answers(workspace, run.id, ready_made)
    if found is None:
        raise ConfigError(f"“{run.name}” has left no answers ({run.state}).", "Wait for it, or choose another run.")
    return found
