"""promptloupe bench: methods by data sets by seeds, and the table that papers print."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from sqlalchemy import select

from app.commands._shared import (
    JsonOption,
    WorkspaceOption,
    emit,
    err,
    find_dataset,
    opened,
    out,
    parse_settings,
    table,
    wait_for_all,
)
from app.commands.train import sort_settings
from engines.errors import JobError, PromptloupeError
from engines.prompts.catalog import PROTOCOLS, method_catalog, method_entry
from engines.prompts.settings import TrainingConfig, parse
from engines.runs.bench import BenchRequest, Grid, dataset_names, submit_bench
from engines.runs.bench_table import BenchTable, make_table
from engines.store import Dataset, Run, Workspace


def register(cli: typer.Typer) -> None:
    cli.command("bench")(bench)


def bench(
    methods: Annotated[str, typer.Option(help="Names with commas between; all that fit where left out.")] = "all",
    datasets: Annotated[str, typer.Option(help="Names of data sets with commas between, or all.")] = "all",
    protocol: Annotated[
        str,
        typer.Option(help=f"One of {', '.join(PROTOCOLS)}."),
    ] = "few-shot",
    targets: Annotated[str, typer.Option(help="Data sets to test on (cross-dataset, zero-shot-anomaly).")] = "",
    shots: Annotated[str, typer.Option(help="Labelled images per class, such as 1,2,4,8,16; 0 takes all.")] = "16",
    seeds: Annotated[str, typer.Option(help="Seeds with commas between.")] = "1,2,3",
    backbone: Annotated[str, typer.Option(help="See: promptloupe backbones.")] = "mini-clip",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value of the training, or METHOD.name=value of one method."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what an earlier bench has done already.")] = False,
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder for the table and the figure.", metavar="FOLDER")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a grid of methods, data sets and seeds in the background; print and plot the table."""
    ws = opened(workspace)
    own, training = _settings(settings or [])
    request: BenchRequest = parse(
        BenchRequest,
        {
            "methods": [] if methods == "all" else [method_entry(name).name for name in _listed(methods)],
            "datasets": _datasets(ws, datasets),
            "targets": [find_dataset(ws, name).id for name in _listed(targets)],
            "protocol": protocol,
            "backbone": backbone,
            "shots": _numbers(shots, "--shots"),
            "seeds": _numbers(seeds, "--seeds"),
            "settings": own,
            "training": training,
        },
        "the bench",
    )
    grid = submit_bench(ws, request, resume)
    err.print(
        f"{len(grid.runs)} trainings, {grid.kept} of them done already."
        if grid.kept
        else f"{len(grid.runs)} trainings."
    )
    failed = wait_for_all(ws, grid.waiting, "Bench", quiet=as_json)
    result, runs = _collect(ws, grid, request)
    folder = output or ws.folder("exports") / f"bench-{request.protocol}-{datetime.now():%Y%m%d-%H%M%S}"
    _write(folder, result)
    if as_json:
        emit(
            {"cells": result.as_data(), "runs": runs, "failed": failed, "refused": grid.refused, "folder": str(folder)}
        )
    else:
        _print(result, request.protocol)
        for name, reason in grid.refused.items():
            out.print(f"[dim]Left out: {method_entry(name).title}. {escape(reason)}[/]")
        out.print(f"Also as CSV, Markdown, LaTeX and a figure: {folder}")
    if failed:
        listed = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise JobError(
            f"{len(failed)} of {len(grid.runs)} trainings failed.\n{listed}", "Add --resume to try only these again."
        )


def _print(result: BenchTable, title: str) -> None:
    """One table, or one for every data set where each has several numbers."""
    width = len(result.measures)
    if width == 1:
        table(["method", *(f"{name}>" for name in result.columns)], result.lines(), title=title)
        return
    for place, column in enumerate(result.columns):
        first = 1 + place * width
        lines = [[line[0], *line[first : first + width]] for line in result.lines()]
        table(["method", *(f"{name}>" for name in result.measures.values())], lines, title=f"{title}, {column}")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in _listed(text)]
    except ValueError:
        raise PromptloupeError(f"“{text}” is no list of whole numbers.", f"Write {option} 1,2,3.") from None


def _datasets(ws: Workspace, names: str) -> list[int]:
    if names != "all":
        return [find_dataset(ws, name).id for name in _listed(names)]
    with ws.session() as session:
        return list(session.scalars(select(Dataset.id).where(Dataset.deleted_at.is_(None)).order_by(Dataset.name)))


def _settings(pairs: list[str]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """(settings by method, training settings of all)"""
    own: dict[str, dict[str, Any]] = {}
    training: dict[str, Any] = {}
    for name, value in parse_settings(pairs).items():
        method, dot, key = name.partition(".")
        if dot:
            chosen, _ = sort_settings(method_entry(method), {key: value})
            own.setdefault(method, {}).update(chosen)
        else:
            training[name] = value
    parse(TrainingConfig, training, "the training")
    return own, training


def _collect(ws: Workspace, grid: Grid, request: BenchRequest) -> tuple[BenchTable, list[str]]:
    ids = [run.id for run in grid.runs]
    with ws.session() as session:
        found = {run.id: run for run in session.scalars(select(Run).where(Run.id.in_(ids)))}
    titles = {entry.name: entry.title for entry in method_catalog()}
    names = dataset_names(ws, [*request.datasets, *request.targets])
    return make_table([found[i] for i in ids], request.protocol, titles, names), ids


def _write(folder: Path, result: BenchTable) -> None:
    from plotly.graph_objects import Figure

    from app.components.bench import bench_bars

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("table.csv", result.to_csv()),
        ("table.md", result.to_markdown()),
        ("table.tex", result.to_latex()),
    ):
        (folder / name).write_text(text, encoding="utf-8")
    if result.rows:
        names = {entry.title: entry.name for entry in method_catalog()}
        Figure(bench_bars(result, names)).write_html(folder / "figure.html", include_plotlyjs=True)
