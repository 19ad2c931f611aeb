"""promptloupe data: import, list, show, describe, export, remove, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from app.commands._options import with_options
from app.commands._shared import JsonOption, WorkspaceOption, emit, err, find_dataset, opened, out, table, wait
from engines import jobs
from engines.data import ImportOptions
from engines.errors import ConfigError, DataError

data = typer.Typer(help="Images and labels.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Name of the data set.")]


def register(cli: typer.Typer) -> None:
    cli.add_typer(data, name="data")


@data.command("import")
@with_options(ImportOptions, "Options of the import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, ZIP, CSV, .npz, slide or split file; or sample:blood-smear, sample:textile, sample:digits."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the data set; the source's own where left out.")] = None,
    reader: Annotated[str | None, typer.Option(help="How to read the source; found by itself where left out.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    *,
    chosen: dict[str, Any],
) -> None:
    """Import images. Nothing is changed at the source; what cannot be read is listed, not imported."""
    ws = opened(workspace)
    if source.startswith("sample:"):
        if chosen:
            raise ConfigError("Sample data are imported as they are.", "Leave the options of the import out.")
        job = jobs.submit(ws, "sample", {"sample": source.removeprefix("sample:")})
    else:
        job = jobs.submit(ws, "import", {"source": source, "name": name, "reader": reader, "options": chosen})
    (row,) = wait(ws, [job], quiet=as_json)
    if as_json:
        emit(row.result)
        return
    _report(row.result)


def _report(report: dict[str, object]) -> None:
    out.print(f"Imported [bold]{escape(str(report.get('name')))}[/]: {report.get('imported', 0):,} images.")
    counts = report.get("counts")
    if isinstance(counts, dict) and counts:
        splits = sorted({split for by_split in counts.values() for split in by_split})
        table(
            ["class", *(f"{split}>" for split in splits)],
            [[c, *(n.get(s, 0) for s in splits)] for c, n in counts.items()],
        )
    reasons = report.get("reasons")
    if isinstance(reasons, dict):
        for reason, count in reasons.items():
            err.print(f"Left out {count:,}: {escape(reason)}")
    for warning in report.get("warnings") or []:  # type: ignore[attr-defined]
        err.print(f"[yellow]{escape(warning)}[/]")
    if template := report.get("template"):
        out.print(f"Published results of ready-made prompts (zero-shot) use the sentence: {template}", markup=False)


@data.command("list")
def list_(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the data sets."""
    from engines.store.browse import dataset_summaries

    rows = dataset_summaries(opened(workspace))
    if as_json:
        emit([row.as_dict() for row in rows])
    elif rows:
        table(
            ["name", "images>", "classes>", "imported"],
            [[r.name, f"{r.images:,}", r.classes, f"{r.created_at:%d %b %Y}"] for r in rows],
        )
    else:
        out.print("There are no data sets yet. Begin with: promptloupe data import sample:blood-smear")


@data.command("show")
def show(name: NameArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show a data set: images by class and split, and what was left out."""
    from engines.store.browse import class_counts

    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    counts = class_counts(ws, dataset.id)
    if as_json:
        emit(
            {
                "name": dataset.name,
                "images": dataset.size,
                "fingerprint": dataset.fingerprint,
                "classes": [c.name for c in dataset.classes],
                "counts": counts,
                "report": dataset.report,
            }
        )
        return
    splits = sorted({split for by_split in counts.values() for split in by_split})
    out.print(f"[bold]{escape(dataset.name)}[/], {dataset.size:,} images, {len(dataset.classes)} classes")
    table(["class", *(f"{s}>" for s in splits)], [[c, *(n.get(s, 0) for s in splits)] for c, n in counts.items()])


@data.command("describe")
def describe(
    name: NameArgument,
    source: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="JSON or CSV file whose sentences to take.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take them in place of the sentences there are, not behind them.")
    ] = False,
    target: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="JSON file to write the sentences to.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show, take in or write out the sentences that describe the classes. Nothing is sent anywhere."""
    from engines.data import import_descriptions, read_descriptions, write_descriptions

    if source and target:
        raise ConfigError("Sentences are either imported or exported.", "Call the command twice.")
    if replace and not source:
        raise ConfigError("--replace belongs to --import.", "Name the file whose sentences to take.")
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    if source:
        report = import_descriptions(ws, dataset.id, read_descriptions(source), replace)
        emit(report.model_dump()) if as_json else out.print("\n".join(report.lines()), markup=False)
    elif target:
        if target.exists():
            raise DataError(f"“{target.name}” exists already.", "Choose another name, or move that file away.")
        counts = write_descriptions(ws, dataset.id, target)
        emit({"file": str(target), "sentences": counts}) if as_json else out.print(f"Written: {target}", markup=False)
    elif as_json:
        emit({each.name: each.descriptions for each in dataset.classes})
    else:
        table(["class", "sentences>"], [[each.name, len(each.descriptions)] for each in dataset.classes])


@data.command("export")
def export(
    name: NameArgument,
    format: Annotated[str, typer.Option(help="folder, csv or zip.")] = "zip",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export images and labels into the workspace's exports folder."""
    if format not in ("folder", "csv", "zip"):
        raise ConfigError(f"There is no export format “{format}”.", "Choose folder, csv or zip.")
    ws = opened(workspace)
    job = jobs.submit(ws, "export-data", {"dataset_id": find_dataset(ws, name).id, "format": format})
    (row,) = wait(ws, [job], quiet=as_json)
    if as_json:
        emit(row.result)
    else:
        out.print(f"Written: {ws.resolve(str(row.result['path']))}", markup=False)


@data.command("remove")
def remove(name: NameArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Move a data set to the bin, where it stays for 30 days. The images at their source are never touched."""
    from engines.data import remove_dataset

    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    remove_dataset(ws, dataset.id)
    if as_json:
        emit({"removed": dataset.name, "id": dataset.id})
    else:
        out.print(f"“{escape(dataset.name)}” is in the bin. Undo: promptloupe data restore {dataset.id}")


@data.command("restore")
def restore(
    dataset_id: Annotated[int, typer.Argument(help="Number that “data remove” printed.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a data set back out of the bin."""
    from engines.data import restore_dataset

    dataset = restore_dataset(opened(workspace), dataset_id)
    if as_json:
        emit({"restored": dataset.name, "id": dataset_id})
    else:
        out.print(f"“{escape(dataset.name)}” is back.")
