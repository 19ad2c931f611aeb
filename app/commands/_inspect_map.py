"""promptloupe inspect map: a run's images and words in a plane, before and after its prompt."""

from __future__ import annotations

import csv
import sys
from typing import Annotated

import typer

from app.commands._label import image_names
from app.commands._shared import JsonOption, WorkspaceOption, emit, find_run, opened, out, table, wait
from engines import jobs
from engines.data.names import spreadsheet_safe
from engines.errors import ConfigError, JobError
from engines.inspection.map_answers import MapRequest, read_map, rows_of
from engines.prompts.settings import parse

RunArgument = Annotated[str, typer.Argument(help="A run, as listed by: promptloupe runs.")]


def register(inspect: typer.Typer) -> None:
    inspect.command("map")(map_)


def map_(
    run: RunArgument,
    layout: Annotated[str, typer.Option(help="How to lay it out: umap, pca or tsne.")] = "umap",
    seed: Annotated[int, typer.Option(help="The same seed gives the same map.")] = 1,
    keep_gap: Annotated[
        bool, typer.Option("--keep-gap", help="Leave words and images as far apart as the model puts them.")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Lay out all points again; otherwise new images join and no point moves.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a row for every image and class.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lay out test images and words in a plane, before and after the learned prompt.

    Example: promptloupe inspect map 3f2a --csv > map.csv
    """
    if as_csv and as_json:
        raise ConfigError("A table cannot be CSV and JSON at once.", "Choose one of --csv and --json.")
    ws = opened(workspace)
    asked = {"run_id": find_run(ws, run).id, "layout": layout, "seed": seed, "keep_gap": keep_gap}
    request: MapRequest = parse(MapRequest, asked, "the map")
    wait(ws, [jobs.submit(ws, "inspect_map", asked | {"anew": anew})], quiet=as_json or as_csv)
    found = read_map(ws, request)
    if found is None:
        raise JobError("The map was made, and is not there any more.", "Ask for it again.")
    rows = rows_of(found)
    names = image_names(ws, {row["sample"] for row in rows if row["sample"] is not None})
    rows = [{"image": names.get(row["sample"], "")} | row for row in rows]
    if as_json:
        emit({"layout": found.layout, "seed": seed, "notes": found.notes, "points": rows})
        return
    if as_csv:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: spreadsheet_safe(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
        return
    words = [row for row in rows if row["what"] == "words"]
    table(["class", "words moved by>"], [[row["class"], _told(row["moved"])] for row in words])
    out.print(f"{len(found.samples):,} images and {len(found.classes):,} classes are on the map ({found.layout}).")
    for note in found.notes:
        out.print(note, markup=False)
    out.print("Look at it on the page Shift, or print its points with --csv or --json.")


def _told(moved: float | None) -> str:
    return "–" if moved is None else f"{moved:.3f}"
