"""`promptloupe reproduce`: does the same come out when a prompt is trained again?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands._shared import JsonOption, WorkspaceOption, emit, opened, out, table, wait
from engines import jobs
from engines.runs.recipe import opened_export
from engines.store import Workspace


def register(cli: typer.Typer) -> None:
    cli.command("reproduce")(reproduce)


def reproduce(
    exported: Annotated[Path, typer.Argument(metavar="FOLDER|ZIP", help="An exported prompt.")],
    other_versions: Annotated[
        bool, typer.Option("--other-versions", help="Go on although programs have other versions than then.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an exported prompt again, and say whether the same numbers come out.

    The workspace must hold the images it learned from; they are found by their content. Exit code 0: the same came
    out, exactly or within tolerance; 1: something else, or it could not be tried.
    """
    ws = opened(workspace)
    with opened_export(exported):
        pass  # what is damaged is told at once, before a worker is asked
    found = _train_again(ws, exported, other_versions, as_json)
    if as_json:
        emit(found)
    else:
        _tell(found)
    if found["same"] == "no":
        raise typer.Exit(1)


def _train_again(ws: Workspace, exported: Path, other_versions: bool, quiet: bool) -> dict[str, Any]:
    payload = {"path": str(exported.expanduser().resolve()), "other_versions": other_versions}
    [job] = wait(ws, [jobs.submit(ws, "reproduce", payload)], quiet)
    return dict(job.result)


def _tell(found: dict[str, Any]) -> None:
    out.print(found["sentence"], markup=False)
    for sentence in found["conditions"]:
        out.print(sentence, markup=False)
    if found["differences"]:
        rows = [
            [each["number"], _shown(each["then"]), _shown(each["now"]), _gap(each), f"{each['tolerance']:.4f}"]
            for each in found["differences"]
        ]
        table(["number", "then>", "now>", "difference>", "tolerated>"], rows)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _gap(each: dict[str, Any]) -> str:
    return "–" if None in (each["then"], each["now"]) else f"{each['now'] - each['then']:+.2g}"
