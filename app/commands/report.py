"""`promptloupe report`: one file that says what came out, for people who were not there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from app.commands._shared import JsonOption, WorkspaceOption, emit, find_dataset, opened, out
from engines import jobs
from engines.errors import ConfigError
from engines.store import Workspace


def register(cli: typer.Typer) -> None:
    cli.command("report")(report)


def report(
    results: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN|EXPERIMENT]...", help="One result, or up to six to put side by side."),
    ] = None,
    labelling: Annotated[
        str, typer.Option("--labelling", metavar="DATASET", help="Report on how this data set was labelled instead.")
    ] = "",
    target: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Where to write it (into the exports).")
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Print it to a PDF file beside it, too.")] = False,
    title: Annotated[str, typer.Option("--title", help="Its title.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a report: one HTML file that needs nothing else, to read, to print and to pass on.

    It says what was asked, of which images, how, what came out and how sure that is, with figures, images and all that
    is needed to do it again. File names, patients and comments are not in it.
    """
    ws = opened(workspace)
    if bool(results) == bool(labelling):
        raise ConfigError(
            "Say what to report on: results, or one labelled data set.",
            "promptloupe report RUN, or promptloupe report --labelling DATASET. List runs with: promptloupe runs.",
        )
    payload = {"results": results or [], "title": title}
    if labelling:
        payload["dataset_id"] = find_dataset(ws, labelling).id  # type: ignore[assignment]
    file = _moved(ws, str(jobs.call(ws, "report", payload)["path"]), target)
    written = {"path": str(file)}
    if pdf:
        from app.printing import print_pdf

        written["pdf"] = str(print_pdf(file, file.with_suffix(".pdf")))
    if as_json:
        emit(written)
    else:
        for path in written.values():
            out.print(f"Written: {path}", markup=False, soft_wrap=True)


def _moved(ws: Workspace, made: str, target: Path | None) -> Path:
    """The file where the user wants it."""
    file = ws.resolve(made)
    if target is None:
        return file
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    except OSError as error:
        raise ConfigError(
            f"“{target}” cannot be written; the report is at {file}.", "Name another place with --out.", str(error)
        ) from error
    return target.resolve()
