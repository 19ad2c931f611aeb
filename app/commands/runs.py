"""promptloupe runs: list, show, compare, export, remove."""

from __future__ import annotations

from statistics import mean, pstdev
from typing import Annotated

import typer
from rich.markup import escape
from sqlalchemy import select

from app.commands._shared import JsonOption, WorkspaceOption, emit, find_run, opened, out, percent, table
from app.commands.train import sentence
from engines import jobs
from engines.errors import ConfigError
from engines.store import Run, now

runs = typer.Typer(help="Trained prompts and their results.", invoke_without_command=True)
RunArgument = Annotated[str, typer.Argument(help="A run, as listed by: promptloupe runs.")]


def register(cli: typer.Typer) -> None:
    cli.add_typer(runs, name="runs")


@runs.callback(invoke_without_command=True)
def list_(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the runs, newest first."""
    if context.invoked_subcommand:
        return
    with opened(workspace).session() as session:
        rows = list(session.scalars(select(Run).where(Run.deleted_at.is_(None)).order_by(Run.created_at.desc())))
    if as_json:
        emit([_brief(run) for run in rows])
    elif rows:
        table(
            ["run", "name", "seed>", "state", "right>", "ready-made>", "date"],
            [
                [
                    r.id,
                    r.name,
                    r.seed,
                    r.state,
                    percent(r.summary.get("accuracy")),
                    percent(r.summary.get("zero_shot", {}).get("accuracy")),
                    f"{r.created_at:%d %b, %H:%M}",
                ]
                for r in rows
            ],
        )
    else:
        out.print("There are no runs yet. Begin with: promptloupe demo")


@runs.command("show")
def show(run: RunArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show one result: the sentence, then every class."""
    row = find_run(opened(workspace), run)
    if as_json:
        emit(_brief(row) | {"config": row.config, "summary": row.summary})
        return
    out.print(sentence(row) if row.state == "done" else f"{row.name}: {row.state}.")
    zero = {c["name"]: c["accuracy"] for c in row.summary.get("zero_shot", {}).get("per_class", [])}
    table(
        ["class", "test images>", "right>", "ready-made>"],
        [
            [c["name"], c["count"], percent(c["accuracy"]), percent(zero.get(c["name"]))]
            for c in row.summary.get("per_class", [])
        ],
    )
    for note in row.summary.get("notes", []):
        out.print(f"[dim]{escape(note)}[/]")


@runs.command("compare")
def compare(
    chosen: Annotated[list[str], typer.Argument(help="Two or more runs.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs; runs that differ by the seed alone are averaged."""
    ws = opened(workspace)
    groups: dict[str, list[Run]] = {}
    for run_id in chosen:
        row = find_run(ws, run_id)
        if row.state != "done":
            raise ConfigError(f"The run “{row.name}” is not finished ({row.state}).", "Wait for it, or leave it out.")
        groups.setdefault(row.experiment, []).append(row)
    if len({row.dataset_fingerprint for rows in groups.values() for row in rows}) > 1:
        raise ConfigError("These runs were tested on different images.", "Compare runs on one data set.")
    result = []
    for rows in groups.values():
        values = [row.summary["accuracy"] for row in rows]
        result.append(
            {
                "name": rows[0].name,
                "method": rows[0].method,
                "seeds": sorted(row.seed for row in rows),
                "accuracy": mean(values),
                "std": pstdev(values),
                "macro_f1": mean(row.summary["macro_f1"] for row in rows),
            }
        )
    result.sort(key=lambda r: -float(r["accuracy"]))
    if as_json:
        emit(result)
    else:
        table(
            ["name", "seeds", "right>", "±>", "macro F1>"],
            [
                [
                    r["name"],
                    ", ".join(map(str, r["seeds"])),
                    percent(r["accuracy"]),
                    percent(r["std"]),
                    percent(r["macro_f1"]),
                ]
                for r in result
            ],
        )


@runs.command("export")
def export(run: RunArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Pack a learned prompt with its card into a ZIP file."""
    ws = opened(workspace)
    path = ws.resolve(str(jobs.call(ws, "export-prompt", {"run_id": find_run(ws, run).id})["path"]))
    if as_json:
        emit({"path": str(path)})
    else:
        out.print(f"Written: {path}", markup=False)


@runs.command("remove")
def remove(run: RunArgument, workspace: WorkspaceOption = None) -> None:
    """Move a run to the bin."""
    ws = opened(workspace)
    row = find_run(ws, run)
    with ws.session() as session:
        session.get_one(Run, row.id).deleted_at = now()
    out.print(f"“{escape(row.name)}” is in the bin.")


def _brief(run: Run) -> dict[str, object]:
    return {
        "run": run.id,
        "name": run.name,
        "method": run.method,
        "backbone": run.backbone,
        "protocol": run.protocol,
        "shots": run.shots,
        "seed": run.seed,
        "state": run.state,
        "created_at": run.created_at,
        "accuracy": run.summary.get("accuracy"),
        "zero_shot_accuracy": run.summary.get("zero_shot", {}).get("accuracy"),
    }
