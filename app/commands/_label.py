"""What the commands of `promptloupe label` share."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Annotated

import typer
from sqlalchemy import select

from engines.errors import DataError
from engines.store import Dataset, LabelClass, Sample, Workspace

label = typer.Typer(
    help="Label images with the machine's help: it picks, you decide.\n\n"
    "A first session: [bold]promptloupe label next NAME[/], then the page Label, or `label show` and `label record`.",
    no_args_is_help=True,
)
NameArgument = Annotated[str, typer.Argument(help="Name of the data set.", metavar="NAME")]
ReaderOption = Annotated[
    str, typer.Option("--reader", help="Who reads, as kept with every verdict.", envvar="PROMPTLOUPE_READER")
]
BackboneOption = Annotated[str, typer.Option(help="See: promptloupe backbones.")]
LimitOption = Annotated[int, typer.Option(help="How many at most.", min=1)]


def new_event() -> str:
    return str(uuid.uuid4())


def needs_reader(name: str) -> str:
    """
    Raises:
        DataError: nobody is named.
    """
    if not name.strip():
        raise DataError("Nobody is named as the reader.", "Add --reader NAME, or set PROMPTLOUPE_READER.")
    return name


def class_names(workspace: Workspace, dataset: Dataset) -> dict[int, str]:
    """Class names by id, in label order; read anew, since classes may have been added."""
    with workspace.session() as session:
        ordered = select(LabelClass).where(LabelClass.dataset_id == dataset.id).order_by(LabelClass.position)
        return {each.id: each.name for each in session.scalars(ordered)}


def find_class(workspace: Workspace, dataset: Dataset, name: str) -> int:
    """
    Raises:
        DataError: the data set has no class of that name.
    """
    names = class_names(workspace, dataset)
    for class_id, each in names.items():
        if each == name:
            return class_id
    alike = [class_id for class_id, each in names.items() if each.casefold() == name.strip().casefold()]
    if len(alike) == 1:
        return alike[0]
    listed = ", ".join(f"“{each}”" for each in list(names.values())[:20])
    raise DataError(
        f"“{dataset.name}” has no class “{name}”.", f"There are: {listed}." if listed else "Add some first."
    )


def image_names(workspace: Workspace, sample_ids: Iterable[int]) -> dict[int, str]:
    wanted = list(sample_ids)
    with workspace.session() as session:
        found: dict[int, str] = {}
        for start in range(0, len(wanted), 500):
            rows = select(Sample.id, Sample.name).where(Sample.id.in_(wanted[start : start + 500]))
            found |= {row.id: row.name for row in session.execute(rows)}
        return found
