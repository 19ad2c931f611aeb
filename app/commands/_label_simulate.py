"""promptloupe label simulate: what active learning is worth on a data set whose labels are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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
from engines.active import available_strategies
from engines.errors import ConfigError, JobError, PromptloupeError
from engines.prompts.catalog import method_entry
from engines.prompts.settings import parse
from engines.runs.simulate_grid import PAPER, PAPER_SETTINGS, SimulationRequest, row_name, submit_simulation
from engines.runs.simulate_table import MEASURES, SimulationTable, make_table


def simulate(
    data: Annotated[str, typer.Option(help="A data set whose images are labelled.")],
    strategy: Annotated[str, typer.Option(help="Names with commas between, or all.")] = "all",
    pcb: Annotated[
        bool | None,
        typer.Option("--pcb/--no-pcb", help="Only with, or only without class balance; both where left out."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often labels are asked for.")] = 8,
    budget: Annotated[int, typer.Option(help="Labels per round; 0 for as many as there are classes.")] = 0,
    seeds: Annotated[str, typer.Option(help="Seeds with commas between.")] = "1,2,3",
    imbalance: Annotated[
        float, typer.Option(help="Thin out training images until the largest class has so many times the rarest's.")
    ] = 1.0,
    backbone: Annotated[str, typer.Option(help="See: promptloupe backbones.")] = "mini-clip",
    method: Annotated[str, typer.Option(help="See: promptloupe methods.")] = "coop",
    start: Annotated[str, typer.Option(help="fresh: each round learns anew; warm: it goes on.")] = "fresh",
    rule: Annotated[str, typer.Option(help="Balancing: corrected, or official as in the paper's code.")] = "corrected",
    paper: Annotated[
        bool, typer.Option("--paper", help="Train as the paper does: 200 passes, random crops, words for every class.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="name=value of the method or the training.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what the same simulation has done already.")] = False,
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables and the figure.", metavar="FOLDER")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play the reader with the known labels: right answers and class balance, round by round."""
    ws = opened(workspace)
    own, training = _settings(method, settings or [], paper)
    request: SimulationRequest = parse(
        SimulationRequest,
        {
            "dataset_id": find_dataset(ws, data).id,
            "strategies": _strategies(strategy),
            "balanced": [False, True] if pcb is None else [pcb],
            "rounds": rounds,
            "budget": budget,
            "seeds": _numbers(seeds),
            "imbalance": imbalance,
            "backbone": backbone,
            "method": method,
            "start": start,
            "rule": rule,
            "settings": own,
            "training": training,
        },
        "the simulation",
    )
    grid = submit_simulation(ws, request, resume)
    kept = f", {grid.kept} of them done already" if grid.kept else ""
    err.print(f"{len(grid.cells)} simulations{kept}.")
    failed = wait_for_all(ws, grid.waiting, "Simulation", quiet=as_json)
    results = grid.results(ws)
    if results:
        found, folder = make_table(results, row_name), output or grid.folder
        _write(folder, found, f"{data}, {method_entry(method).title}")
        if as_json:
            emit(found.as_data() | {"cells": results, "failed": failed, "folder": str(folder)})
        else:
            _print(found, results[0])
            out.print(f"Also as CSV, Markdown and a figure: {folder}", markup=False)
    if failed:
        listed = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise JobError(
            f"{len(failed)} of {len(grid.cells)} simulations failed.\n{listed}", "Add --resume to try only these again."
        )


def _print(found: SimulationTable, example: dict[str, Any]) -> None:
    columns = ["labels", *(f"{labelled}>" for labelled in found.labelled)]
    tested = f"{example['images_tested']:,} test images"
    table(columns, found.lines("accuracy"), title=f"{MEASURES['accuracy']}, % of {tested}")
    table(columns, found.lines("evenness"), title=f"{MEASURES['evenness']} (1: as many of every class)")
    header, lines = found.side_by_side()
    table([header[0], *(f"{name}>" for name in header[1:])], lines, title=f"After {found.labelled[-1]} labels")
    if example["set_aside"]:
        out.print("The data set has no test images, so a third of each class was set aside for testing.")
    if example["undescribed"] and example["simulation"]["method"] == "coop-descriptions":
        listed = ", ".join(example["undescribed"])
        out.print(f"Nobody has described these classes, so they have the plain prompt: {listed}", markup=False)


def _strategies(names: str) -> list[str]:
    if names.strip() == "all":
        return [each.name for each in available_strategies()]
    return [part.strip() for part in names.split(",") if part.strip()]


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise PromptloupeError(f"“{text}” is no list of whole numbers.", "Write --seeds 1,2,3.") from None


def _settings(method: str, pairs: list[str], paper: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the method's settings, the training's)"""
    entry = method_entry(method)
    own, training = sort_settings(entry, parse_settings(pairs))
    if not paper:
        return own, training
    if not set(PAPER_SETTINGS) <= set(entry.schema.get("properties", {})):
        raise ConfigError(
            f"{entry.title} cannot be trained as in the paper, which learns words for every class.",
            "Choose coop or coop-descriptions, or leave --paper out.",
        )
    return PAPER_SETTINGS | own, PAPER | training


def _write(folder: Path, found: SimulationTable, title: str) -> None:
    from plotly.graph_objects import Figure

    from app.components.simulation import simulation_figure

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.csv").write_text(found.to_csv(), encoding="utf-8")
    (folder / "table.md").write_text(found.to_markdown(), encoding="utf-8")
    Figure(simulation_figure(found, title)).write_html(folder / "figure.html", include_plotlyjs=True)
