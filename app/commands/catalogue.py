"""promptloupe methods, backbones, doctor: what there is, and what is wrong."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from app.commands._shared import JsonOption, WorkspaceOption, emit, out, table
from app.workspaces import default_workspace


def register(cli: typer.Typer) -> None:
    cli.command("methods")(methods)
    cli.command("backbones")(backbones)
    cli.command("doctor")(doctor)


def methods(
    name: Annotated[str | None, typer.Argument(help="Show one method with its settings.")] = None,
    write_docs: Annotated[Path | None, typer.Option(help="Write a page for every method into this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the methods, or show one with its settings."""
    from engines.prompts.catalog import method_catalog, method_entry
    from engines.prompts.pages import page, write_pages

    entries = [method_entry(name)] if name else method_catalog()
    if write_docs:
        out.print(f"{len(write_pages(write_docs))} pages written.")
    elif as_json:
        emit([asdict(entry) for entry in entries])
    elif name:
        out.print(page(entries[0]), markup=False, highlight=False)
    else:
        table(
            ["name", "method", "for whom has", "cost", "what it does"],
            [[e.name, e.title, e.group, e.cost, e.summary] for e in entries],
        )


def backbones(as_json: JsonOption = False) -> None:
    """List the models that a prompt can be learned for."""
    from engines.backbones import list_backbones

    found = list_backbones()
    if as_json:
        emit([asdict(b) for b in found])
    else:
        table(
            ["name", "where", "weights"],
            [[b.name, b.state, ", ".join(b.pretrained[:4]) + (" …" if len(b.pretrained) > 4 else "")] for b in found],
        )


def doctor(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Check the installation: versions, devices, folders, models; says what is wrong and how to mend it."""
    from app.doctor import collect

    checks = collect(Path(workspace) if workspace else default_workspace())
    worst = max((("ok", "warn", "fail").index(check.state) for check in checks), default=0)
    if as_json:
        emit({"state": ("ok", "warn", "fail")[worst], "checks": [asdict(check) for check in checks]})
    else:
        sign = {"ok": Text("✓", "green"), "warn": Text("!", "yellow"), "fail": Text("✗", "red")}
        table(["", "what", "found", "remedy"], [[sign[c.state], c.name, c.finding, c.remedy] for c in checks])
    raise typer.Exit(1 if worst == 2 else 0)
