"""promptloupe jobs and worker."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from sqlalchemy import select

from app.commands._shared import JsonOption, WorkspaceOption, emit, opened, out, percent, table, wait
from engines import jobs as engine
from engines.errors import JobError
from engines.store import Job

jobs = typer.Typer(help="Work in the background.", invoke_without_command=True)
JobArgument = Annotated[str, typer.Argument(help="A job, as listed by: promptloupe jobs.")]


def register(cli: typer.Typer) -> None:
    cli.add_typer(jobs, name="jobs")
    cli.command("worker")(worker)


@jobs.callback(invoke_without_command=True)
def list_(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the jobs, newest first."""
    if context.invoked_subcommand:
        return
    with opened(workspace).session() as session:
        rows = list(session.scalars(select(Job).order_by(Job.created_at.desc()).limit(200)))
    if as_json:
        emit([_brief(row) for row in rows])
    elif rows:
        table(
            ["job", "what", "state", "done>", "message"],
            [[r.id, r.title or r.kind, r.state.value, percent(r.progress), r.error or r.message] for r in rows],
        )
    else:
        out.print("There are no jobs.")


@jobs.command("show")
def show(job: JobArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show a job and the end of its log."""
    ws = opened(workspace)
    with ws.session() as session:
        row = session.get(Job, job)
    if row is None:
        raise JobError(f"There is no job “{job}”.", "List them with: promptloupe jobs.")
    log = engine.job_log(ws, job, 40)
    if as_json:
        emit(_brief(row) | {"result": row.result, "error": row.error, "detail": row.detail, "log": log})
        return
    out.print(
        f"[bold]{escape(row.title or row.kind)}[/]: {row.state.value}, {percent(row.progress)} {escape(row.message)}"
    )
    if row.error:
        out.print(f"[red]{escape(row.error)}[/]")
    out.print(log, markup=False, highlight=False)


@jobs.command("cancel")
def cancel(job: JobArgument, workspace: WorkspaceOption = None) -> None:
    """Cancel a job; what it has finished by then is kept."""
    engine.cancel(opened(workspace), job)
    out.print("Asked to stop.")


@jobs.command("retry")
def retry(job: JobArgument, workspace: WorkspaceOption = None) -> None:
    """Start a failed or cancelled job again; it goes on from its last checkpoint."""
    ws = opened(workspace)
    wait(ws, [engine.retry(ws, job)])
    out.print("Done.")


def worker(
    scheduler: Annotated[str, typer.Option(help="Address of a scheduler, such as tcp://gpu-box:8786.")],
    lanes: Annotated[str, typer.Option(help="long, waited-for, interactive, or several with commas.")] = "long",
) -> None:
    """Offer this machine's processor or GPU to a scheduler elsewhere; runs until stopped."""
    from engines.jobs.worker import serve

    serve(scheduler, [lane.strip() for lane in lanes.split(",")])


def _brief(row: Job) -> dict[str, object]:
    return {
        "job": row.id,
        "kind": row.kind,
        "title": row.title,
        "state": row.state.value,
        "progress": row.progress,
        "message": row.message,
        "seconds_left": row.seconds_left,
        "attempt": row.attempt,
        "run": row.run_id,
        "created_at": row.created_at,
        "error": row.error,
    }
