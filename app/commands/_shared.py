"""What commands share: the workspace, output for people and machines, waiting for jobs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from sqlalchemy import select

from app.workspaces import open_workspace
from engines.errors import ConfigError, DataError, JobError, PromptloupeError
from engines.store import Dataset, Job, JobState, Run, Workspace

out = Console()
"""Results."""
err = Console(stderr=True)
"""Progress and messages, so that standard output stays clean for machines."""

WorkspaceOption = Annotated[
    str | None,
    typer.Option(
        "--workspace", "-w", help="Folder of the workspace.", envvar="PROMPTLOUPE_WORKSPACE", metavar="FOLDER"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]


def opened(path: str | None) -> Workspace:
    return open_workspace(path)


def emit(value: Any) -> None:
    """Print JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Print a table; columns whose name ends with `>` are aligned to the right.

    Text is shown as it is: names of classes and files are no markup. A cell with colours is a `rich.text.Text`.
    """
    grid = Table(title=escape(title) or None, title_justify="left", header_style="bold")
    for column in columns:
        grid.add_column(escape(column.rstrip(">")), justify="right" if column.endswith(">") else "left")
    for row in rows:
        grid.add_row(*[_shown(cell) for cell in row])
    out.print(grid)


def _shown(cell: Any) -> Text | str:
    return cell if isinstance(cell, Text) else "" if cell is None else escape(str(cell))


def percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f}%"


def find_dataset(workspace: Workspace, name: str) -> Dataset:
    """The data set called `name` (or with that number).

    Raises:
        DataError: there is none; names those that exist.
    """
    with workspace.session() as session:
        datasets = list(session.scalars(select(Dataset).where(Dataset.deleted_at.is_(None))))
        for dataset in datasets:
            if name in (dataset.name, str(dataset.id)):
                _ = dataset.classes
                return dataset
    known = ", ".join(f"“{d.name}”" for d in datasets)
    raise DataError(
        f"There is no data set called “{name}”.",
        f"There are: {known}." if known else "Import one: promptloupe data import FOLDER.",
    )


def find_run(workspace: Workspace, run_id: str) -> Run:
    """The run with that id.

    Raises:
        ConfigError: there is none, or it is in the bin.
    """
    with workspace.session() as session:
        row = session.get(Run, run_id)
    if row is None or row.deleted_at is not None:
        raise ConfigError(f"There is no run “{run_id}”.", "List them with: promptloupe runs.")
    return row


def progress_bars(quiet: bool) -> Progress:
    """Bars on standard error where that is a terminal; every task has a field `message`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("[dim]{task.fields[message]}"),
        TimeElapsedColumn(),
        console=err,
        disable=quiet or not err.is_terminal,
        transient=True,
    )


def wait(workspace: Workspace, job_ids: Sequence[str], quiet: bool = False) -> list[Job]:
    """Wait for jobs with a progress bar each on standard error; returns their rows.

    Ctrl+C stops the waiting, not the jobs.

    Raises:
        JobError: a job failed (its cause in words) or was cancelled.
    """
    from engines import jobs

    with progress_bars(quiet) as bars:
        tasks: dict[str, Any] = {}
        while True:
            with workspace.session() as session:
                rows = list(session.scalars(select(Job).where(Job.id.in_(job_ids))))
            for row in rows:
                if row.id not in tasks:
                    tasks[row.id] = bars.add_task(row.title or row.kind, total=1.0, message="")
                bars.update(tasks[row.id], completed=row.progress, message=row.message)
            if all(row.state.ended for row in rows):
                break
            jobs.ensure_engine(workspace)
            time.sleep(0.2)
    for row in rows:
        if row.state is JobState.FAILED:
            raise JobError(f"{row.title or row.kind} failed. {row.error}", detail=row.detail)
        if row.state is JobState.CANCELLED:
            raise JobError(f"{row.title or row.kind} was cancelled.")
    order = {job_id: place for place, job_id in enumerate(job_ids)}
    return sorted(rows, key=lambda row: order[row.id])


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` arguments; values are read as JSON where they are JSON, as text otherwise."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise PromptloupeError(f"“{pair}” is not a setting.", "Write settings as --set name=value.")
        try:
            settings[key.strip()] = json.loads(text)
        except ValueError:
            settings[key.strip()] = {"True": True, "False": False}.get(text, text)
    return settings


def wait_for_all(ws: Workspace, job_ids: Sequence[str], title: str, quiet: bool) -> dict[str, str]:
    """Wait for all jobs behind one bar; returns what failed and why. Ctrl+C stops the waiting, not the jobs."""
    from engines import jobs

    with progress_bars(quiet) as bar:
        task = bar.add_task(title, total=float(max(1, len(job_ids))), message="")
        while True:
            with ws.session() as session:
                rows = list(session.scalars(select(Job).where(Job.id.in_(job_ids))))
            ended = sum(row.state.ended for row in rows)
            now = next((f"{row.title}: {row.message}" for row in rows if row.state is JobState.RUNNING), "")
            bar.update(task, completed=ended + sum(r.progress for r in rows if not r.state.ended), message=now)
            if ended == len(rows):
                return {
                    row.title: row.error or "It was cancelled."
                    for row in rows
                    if row.state in (JobState.FAILED, JobState.CANCELLED)
                }
            jobs.ensure_engine(ws)
            time.sleep(0.5)
