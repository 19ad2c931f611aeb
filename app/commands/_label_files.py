"""promptloupe label: labels out of the workspace and into it, and copies to practise on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from app.commands._label import NameArgument
from app.commands._shared import JsonOption, WorkspaceOption, emit, err, find_dataset, opened, out, wait
from engines import jobs
from engines.errors import ConfigError
from engines.labelling.export import FORMATS
from engines.labelling.imports import LabelImport, explain


def register(label: typer.Typer) -> None:
    commands: dict[str, Callable[..., None]] = {"export": export, "import": import_, "practice": practice}
    for name, command in commands.items():
        label.command(name)(command)


def export(
    name: NameArgument,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "csv",
    audit: Annotated[bool, typer.Option("--audit", help="With every decision: who, when, what, which round.")] = False,
    archive: Annotated[bool, typer.Option("--zip", help="With a ZIP file of the folder beside it.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the labels into the workspace's exports folder.

    Example: promptloupe label export "Blood smear" --format coco --audit
    """
    if format not in FORMATS:
        raise ConfigError(f"There is no export format “{format}”.", f"Choose one of {', '.join(FORMATS)}.")
    ws = opened(workspace)
    payload = {"dataset_id": find_dataset(ws, name).id, "format": format, "audit": audit, "archive": archive}
    (row,) = wait(ws, [jobs.submit(ws, "export_labels", payload)], quiet=as_json)
    if as_json:
        emit(row.result)
        return
    for written in filter(None, (row.result["path"], row.result["archive"])):
        out.print(f"Written: {ws.resolve(str(written))}", markup=False)
    if row.result["missing"]:
        err.print(f"{row.result['missing']:,} labelled images were left out: their files are gone.")


def import_(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(help="A table, a COCO file, a folder with a folder per class, or a ZIP.")],
    as_: Annotated[str, typer.Option("--as", help="suggestions (never count) or labels.")] = "suggestions",
    reader: Annotated[str, typer.Option(help="Whose labels these are.")] = "import",
    create_classes: Annotated[
        bool, typer.Option("--create-classes", help="Add classes that the data set does not have.")
    ] = False,
    column: Annotated[str, typer.Option(help="Column of the labels in a table; found by itself if left out.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in labels from elsewhere. What readers say in this program beats them.

    Example: promptloupe label import "Blood smear" old_labels.csv --as labels --reader "registry 2019"
    """
    if as_ not in ("suggestions", "labels"):
        raise ConfigError(f"Labels cannot be taken in as “{as_}”.", "Choose suggestions or labels.")
    ws = opened(workspace)
    payload = {
        "dataset_id": find_dataset(ws, name).id,
        "file": str(file.expanduser().absolute()),
        "as_": as_,
        "annotator": reader,
        "create_classes": create_classes,
        "label_column": column,
    }
    (row,) = wait(ws, [jobs.submit(ws, "import_labels", payload)], quiet=as_json)
    if as_json:
        emit(row.result)
        return
    report = LabelImport(**row.result)
    out.print("\n".join(explain(report)), markup=False)
    for refused in report.refused_rows[:20]:
        err.print(f"{refused.where}: “{refused.image}” {refused.label}: {refused.reason}.", markup=False)


def practice(
    name: NameArgument,
    per_class: Annotated[
        int | None, typer.Option(help="At most so many images of each class; all if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws them.")] = 1,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a copy of a labelled data set without its labels, to practise labelling on.

    Example: promptloupe label practice "Blood smear" --per-class 50
    """
    ws = opened(workspace)
    payload = {"dataset_id": find_dataset(ws, name).id, "per_class": per_class, "seed": seed}
    (row,) = wait(ws, [jobs.submit(ws, "practice_copy", payload)], quiet=as_json)
    made, images = row.result["name"], row.result["images"]
    if as_json:
        emit({"id": row.result["dataset_id"], "name": made, "images": images})
    else:
        out.print(f'“{made}”: {images:,} images. Begin: promptloupe label next "{made}"', markup=False)
