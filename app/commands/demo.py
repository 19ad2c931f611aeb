"""promptloupe demo: the main job headless, on the sample data."""

from __future__ import annotations

from statistics import mean, pstdev
from typing import Annotated, Any

import typer

from app.commands._shared import JsonOption, WorkspaceOption, emit, err, opened, out, percent, table, wait
from app.commands.train import finish, start
from engines import jobs
from engines.store import Run, Workspace

SHOTS = [1, 2, 4, 8, 16]
SEEDS = [1, 2, 3]


def register(cli: typer.Typer) -> None:
    cli.command("demo")(demo)


def demo(
    epochs: Annotated[
        int | None, typer.Option(help="Fewer passes for a quick look; the paper's where left out.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sample data, the ready-made prompt, then CoOp with 1 to 16 labelled images per class, three times each."""
    ws = opened(workspace)
    err.print("1 of 3: sample data (a synthetic blood smear)")
    (sample,) = wait(ws, [jobs.submit(ws, "sample", {"sample": "blood-smear"})], quiet=as_json)
    name = str(sample.result["name"])
    err.print("2 of 3: the ready-made prompt, nothing trained")
    (zero,) = finish(ws, start(ws, name, "zero-shot", "mini-clip", 0, [1], "few-shot", {}), quiet=as_json)
    err.print(f"3 of 3: CoOp, {len(SHOTS) * len(SEEDS)} trainings")
    chosen = {"epochs": epochs} if epochs else {}
    queued = {shots: start(ws, name, "coop", "mini-clip", shots, SEEDS, "few-shot", chosen) for shots in SHOTS}
    flat = finish(ws, [run for runs in queued.values() for run in runs], quiet=as_json)
    result = _result(name, zero, flat)
    result["figure"] = str(_figure(ws, result))
    if as_json:
        emit(result)
        return
    rows = [["ready-made prompt", "–", percent(result["zero_shot"]), "–"]]
    rows += [["CoOp", r["shots"], percent(r["mean"]), percent(r["std"])] for r in result["coop"]]
    table(["", "labelled images per class>", "right (mean of 3)>", "±>"], rows, title=f"{name}, test images")
    out.print(f"Figure: {result['figure']}")


def _result(name: str, zero: Run, runs: list[Run]) -> dict[str, Any]:
    by_shots: dict[int, list[float]] = {}
    for run in runs:
        by_shots.setdefault(run.shots, []).append(run.summary["accuracy"])
    return {
        "data": name,
        "backbone": "mini-clip",
        "zero_shot": zero.summary["accuracy"],
        "coop": [
            {"shots": shots, "mean": mean(values), "std": pstdev(values), "seeds": SEEDS, "accuracies": values}
            for shots, values in sorted(by_shots.items())
        ],
    }


def _figure(ws: Workspace, result: dict[str, Any]) -> Any:
    from plotly.graph_objects import Figure

    from app.components.figures import shots_curve

    file = ws.folder("exports") / "demo.html"
    points = [(r["shots"], r["mean"], r["std"]) for r in result["coop"]]
    figure = shots_curve({"coop": points}, {"coop": "CoOp"}, result["zero_shot"])
    Figure(figure).write_html(file, include_plotlyjs=True)
    return file
