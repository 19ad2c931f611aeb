"""promptloupe label: history, agreement, disputes, likely errors, and searching images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from app.commands._label import (
    BackboneOption,
    LimitOption,
    NameArgument,
    class_names,
    image_names,
)
from app.commands._shared import JsonOption, WorkspaceOption, emit, err, find_dataset, opened, out, percent, table, wait
from engines import jobs
from engines.errors import WorkspaceError
from engines.labelling import Measure, agreement, check_chain, disagreements
from engines.labelling import history as read_history
from engines.labelling.recognise import find_image
from engines.store import Dataset, Workspace

LookOption = Annotated[
    bool, typer.Option("--look", help="First look at the images that were not looked at yet; takes a while once.")
]
UnlabelledOption = Annotated[bool, typer.Option("--unlabelled", help="Only among images without a label.")]


def register(label: typer.Typer) -> None:
    commands: dict[str, Callable[..., None]] = {
        "history": history,
        "check": check,
        "agreement": agreement_,
        "disputes": disputes,
        "hints": hints,
        "search": search,
        "similar": similar,
    }
    for name, command in commands.items():
        label.command(name)(command)


def history(
    name: NameArgument,
    reader: Annotated[str | None, typer.Option(help="Only what this reader said.")] = None,
    image: Annotated[str | None, typer.Option(help="Only what was said of this image.")] = None,
    limit: LimitOption = 50,
    first: Annotated[int, typer.Option(help="Newer rows to pass over.", min=0)] = 0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who said what when, newest first, undone or not.

    Example: promptloupe label history "Blood smear" --reader Anna --limit 20
    """
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    sample = find_image(ws, dataset.id, image) if image is not None else None
    found = read_history(ws, dataset.id, reader, sample, first, limit)
    images, classes = image_names(ws, {row.sample_id for row in found}), class_names(ws, dataset)
    rows: list[dict[str, Any]] = [
        {
            "row": row.id,
            "time": row.created_at.isoformat(timespec="seconds"),
            "reader": row.annotator,
            "image": images[row.sample_id],
            "verdict": row.verdict.value,
            "label": classes.get(row.class_id or 0, ""),
            "occasion": row.occasion.value,
            "refers_to": row.refers_to,
            "comment": row.comment,
            "seconds": row.seconds,
        }
        for row in found
    ]
    if as_json:
        emit(rows)
    elif rows:
        columns = ["row", "time", "reader", "image", "verdict", "label", "comment"]
        table(columns, [[row[column] for column in columns] for row in rows])
    else:
        out.print("Nothing was said yet.")


def check(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Check that no verdict in the workspace was changed or removed by hand.

    Example: promptloupe label check
    """
    report = check_chain(opened(workspace))
    if as_json:
        emit(asdict(report))
    if report.broken is not None:
        raise WorkspaceError(
            f"The history of verdicts does not fit from row {report.broken} on: it was changed outside this program.",
            "Compare with an export or a backup from before.",
        )
    if not as_json:
        out.print(f"{report.rows:,} verdicts are as they were written.")


def agreement_(
    name: NameArgument,
    reader: Annotated[list[str] | None, typer.Option(help="Only these readers; repeat for several.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far the readers agree, with 95% intervals.

    Example: promptloupe label agreement "Blood smear"
    """
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    found = agreement(ws, dataset.id, reader or None)
    if as_json:
        classes = class_names(ws, dataset)
        names = [classes.get(c, "") if c is not None else "not gradable" for c in found.categories]
        emit(asdict(found) | {"category_names": names})
        return
    out.print(f"{found.images:,} images were read by at least two readers.")
    measures = {"agreement": found.percent, "Fleiss’ kappa": found.fleiss, "Krippendorff’s alpha": found.krippendorff}
    table(
        ["measure", "value>", "95%"], [[k, *_measured(m)] for k, m in (measures | {"Gwet’s AC1": found.gwet}).items()]
    )
    for title, pairs in (("Pairs of readers", found.pairs), ("Readers with themselves", found.again)):
        if pairs:
            lines = [[p.first, p.second, p.images, *_measured(p.percent), *_measured(p.kappa)] for p in pairs]
            table(["reader", "reader", "images>", "agreement>", "95%", "Cohen’s kappa>", "95%"], lines, title=title)


def _measured(measure: Measure) -> tuple[str, str]:
    if measure.value is None:
        return "–", measure.why
    low_high = f"{measure.interval[0]:.2f} to {measure.interval[1]:.2f}" if measure.interval else ""
    return f"{measure.value:.2f}", low_high


def disputes(
    name: NameArgument,
    every: Annotated[bool, typer.Option("--all", help="Also those that somebody has adjudicated.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the images on which readers do not agree.

    Settle one: promptloupe label record NAME --image IMAGE --label CLASS --reader WHO --adjudicate
    """
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    found = [each for each in disagreements(ws, dataset.id) if every or not each.adjudicated]
    images, classes = image_names(ws, [each.sample_id for each in found]), class_names(ws, dataset)

    def said(standing: Any) -> str:
        return classes.get(standing.class_id or 0) or standing.verdict.value.replace("_", " ")

    rows: list[dict[str, Any]] = [
        {
            "image": images[each.sample_id],
            "id": each.sample_id,
            "readers": {reader: said(standing) for reader, standing in each.verdicts.items()},
            "adjudicated": said(each.adjudication) if each.adjudication else "",
            "counts": classes.get(each.class_id or 0, ""),
        }
        for each in found
    ]
    if as_json:
        emit(rows)
    elif rows:
        lines = [
            [row["image"], "; ".join(f"{k}: {v}" for k, v in row["readers"].items()), row["adjudicated"], row["counts"]]
            for row in rows
        ]
        table(["image", "readers", "adjudicated", "counts"], lines)
    else:
        out.print("The readers agree on everything that they have read.")


def hints(
    name: NameArgument,
    backbone: BackboneOption = "mini-clip",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for labels that are likely to be wrong, worst first.

    Example: promptloupe label hints "Blood smear"
    """
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    (row,) = wait(ws, [jobs.submit(ws, "label_hints", {"dataset_id": dataset.id, "backbone": backbone})], quiet=as_json)
    found = row.result
    images, classes = image_names(ws, [hint["sample"] for hint in found["hints"]]), class_names(ws, dataset)
    for hint in found["hints"]:
        hint |= {
            "image": images.get(hint["sample"], ""),
            "label": classes.get(hint["given"], ""),
            "rather": classes.get(hint["suggested"], ""),
        }
    if as_json:
        emit(found)
        return
    if found["hints"]:
        columns = ["image", "label", "rather", "probability>"]
        table(columns, [[h["image"], h["label"], h["rather"], percent(h["confidence"])] for h in found["hints"]])
    out.print(f"{len(found['hints']):,} of {found['checked']:,} labels may be wrong.")
    for note in found["notes"]:
        out.print(note, markup=False)


def search(
    name: NameArgument,
    text: Annotated[str, typer.Argument(help="The name of a class, or a description.")],
    backbone: BackboneOption = "mini-clip",
    limit: LimitOption = 20,
    unlabelled: UnlabelledOption = False,
    look: LookOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find images by words.

    Example: promptloupe label search "Blood smear" "cells with two lobes" --unlabelled
    """
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    _find(ws, dataset, "text_search", {"text": text}, backbone, limit, unlabelled, look, as_json)


def similar(
    name: NameArgument,
    image: Annotated[str, typer.Argument(help="Its name or the end of its path, its SHA-256, or its number.")],
    backbone: BackboneOption = "mini-clip",
    limit: LimitOption = 20,
    unlabelled: UnlabelledOption = False,
    look: LookOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find images that look like one.

    Example: promptloupe label similar "Blood smear" 0042.png --limit 20
    """
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    asked = {"sample_id": find_image(ws, dataset.id, image)}
    _find(ws, dataset, "similar", asked, backbone, limit, unlabelled, look, as_json)


def _find(
    ws: Workspace,
    dataset: Dataset,
    kind: str,
    asked: dict[str, Any],
    backbone: str,
    limit: int,
    unlabelled: bool,
    look: bool,
    as_json: bool,
) -> None:
    if look:
        wait(ws, [jobs.submit(ws, "features", {"dataset_id": dataset.id, "backbone": backbone})], quiet=as_json)
    payload = {"dataset_id": dataset.id, "backbone": backbone, "limit": limit, "unlabelled": unlabelled} | asked
    found = jobs.call(ws, kind, payload)
    images = image_names(ws, [hit["sample"] for hit in found["hits"]])
    for hit in found["hits"]:
        hit["image"] = images.get(hit["sample"], "")
    if as_json:
        emit(found)
    elif found["hits"]:
        marks = [[h["image"], f"{h['score']:.3f}", "yes" if h.get("near_duplicate") else ""] for h in found["hits"]]
        table(["image", "likeness>", "nearly the same"], marks)
    if found["missing"]:
        err.print(f"{found['missing']:,} images were not looked at yet, so they cannot be found. Add --look to do it.")
