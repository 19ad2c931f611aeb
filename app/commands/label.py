"""promptloupe label: rounds, the queue, verdicts. The rest of its commands is in `_label_review` and `_label_files`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from app.commands import _label_files, _label_review
from app.commands._label import (
    NameArgument,
    ReaderOption,
    class_names,
    find_class,
    image_names,
    label,
    needs_reader,
    new_event,
)
from app.commands._label_simulate import simulate
from app.commands._shared import (
    JsonOption,
    WorkspaceOption,
    emit,
    find_dataset,
    opened,
    out,
    parse_settings,
    percent,
    table,
    wait,
)
from engines import jobs
from engines.errors import ConfigError, DataError
from engines.labelling import (
    Change,
    Entry,
    LabelSettings,
    label_settings,
    progress,
    record,
    redo,
    save_label_settings,
    tasks,
    undo,
)
from engines.labelling.recognise import find_image
from engines.prompts.settings import parse
from engines.store import Occasion, Verdict, Workspace

VERDICTS = tuple(each.value for each in Verdict if each not in (Verdict.LABEL, Verdict.UNDO, Verdict.SUGGESTION))


def register(cli: typer.Typer) -> None:
    label.command("simulate")(simulate)
    _label_review.register(label)
    _label_files.register(label)
    cli.add_typer(label, name="label")


@label.command("status")
def status(
    name: NameArgument, reader: ReaderOption = "", workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Show how far the labelling is: labels by class, what is left, accuracy by round.

    Example: promptloupe label status "Blood smear"
    """
    ws = opened(workspace)
    found = progress(ws, find_dataset(ws, name).id, reader or None)
    if as_json:
        emit(asdict(found))
        return
    out.print(f"{found.labelled:,} images labelled, {found.pool_left:,} left to ask about.")
    table(["class", "labelled>", "expected in the rest>"], [[c.name, c.labelled, c.predicted] for c in found.classes])
    if found.number:
        out.print(f"Round {found.number}: {found.done} of {found.budget} done, {found.left} left.")
    others = {"unsure": found.unsure, "not gradable": found.not_gradable, "flagged": found.flagged}
    others |= {"skipped": found.skipped, "disputed": found.disputed}
    said = ", ".join(f"{count:,} {what}" for what, count in others.items() if count)
    if said:
        out.print(f"{said}.")
    if found.rounds:
        rows = [
            [r.number, r.strategy, r.labelled, percent(r.accuracy), percent(r.zero_shot), percent(r.change)]
            for r in found.rounds
        ]
        table(["round>", "strategy", "labels>", "right>", "without training>", "answers changed>"], rows)
    if found.missing:
        out.print(f"No labelled image yet: {', '.join(found.missing)}. Look for one: label search.", markup=False)
    if found.stop_hint:
        out.print(found.stop_hint, markup=False)


@label.command("settings")
def settings(
    name: NameArgument,
    chosen: Annotated[list[str] | None, typer.Option("--set", help="name=value; repeat for several.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show or change how a data set is labelled.

    Example: promptloupe label settings "Blood smear" --set strategy=badge --set budget=40 --set second_share=0.2
    """
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    found = label_settings(ws, dataset.id)
    if chosen:
        found = parse(LabelSettings, found.model_dump() | parse_settings(chosen), "labelling")
        _check_names(found)
        save_label_settings(ws, dataset.id, found)
    if as_json:
        emit(found.model_dump())
        return
    fields = LabelSettings.model_fields
    table(["setting", "value", "meaning"], [[k, v, fields[k].description] for k, v in found.model_dump().items()])


def _check_names(chosen: LabelSettings) -> None:
    from engines.active import available_strategies
    from engines.prompts.catalog import method_entry

    known = [each.name for each in available_strategies()]
    if chosen.strategy not in known:
        raise ConfigError(f"There is no strategy called “{chosen.strategy}”.", f"There are: {', '.join(known)}.")
    method_entry(chosen.method)


@label.command("classes")
def classes(
    name: NameArgument,
    add: Annotated[list[str] | None, typer.Option("--add", help="A class to add; repeat for several.")] = None,
    names: Annotated[list[str] | None, typer.Option("--all", help="All classes in order; repeat for each.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show, add or set the classes of a data set.

    Example: promptloupe label classes "My slides" --add mitosis --add "no mitosis"
    """
    from engines.store.edit import add_class, set_classes

    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    if names:
        set_classes(ws, dataset.id, names)
    for each in add or []:
        add_class(ws, dataset.id, each)
    found = list(class_names(ws, dataset).values())
    emit(found) if as_json else table(["class"], [[each] for each in found])


@label.command("next")
def next_(
    name: NameArgument,
    reader: ReaderOption = "",
    measure: Annotated[bool, typer.Option("--measure", help="Say what the labels are worth; pick nothing.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn from the labels so far and pick the next images to label.

    Example: promptloupe label next "Blood smear" --reader Anna
    """
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    payload = {"dataset_id": dataset.id, "annotator": reader, "measure_only": measure}
    (row,) = wait(ws, [jobs.submit(ws, "label_round", payload)], quiet=as_json)
    if as_json:
        emit(row.result)
        return
    accuracy = row.result.get("accuracy")
    if accuracy is not None:
        out.print(f"With the labels so far {percent(accuracy)} of the test images are answered rightly.")
    if not measure:
        out.print(
            f'{row.result["picked"]:,} images picked. See them: promptloupe label show "{dataset.name}"', markup=False
        )


@label.command("show")
def show(
    name: NameArgument,
    reader: ReaderOption = "",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 50,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the queue of a reader, the next image first.

    Why an image was picked, and as what, is shown in assisted mode only.

    Example: promptloupe label show "Blood smear" --reader Anna
    """
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    blind = label_settings(ws, dataset.id).blind
    queue = tasks(ws, dataset.id, reader)
    images, known = image_names(ws, [task.sample_id for task in queue[:limit]]), class_names(ws, dataset)
    rows: list[dict[str, Any]] = [
        {"image": images[task.sample_id], "id": task.sample_id, "occasion": task.occasion.value, "second": task.second}
        | ({} if blind else {"expected": known.get(task.predicted or 0, ""), "why": task.why})
        for task in queue[:limit]
    ]
    if as_json:
        emit({"left": len(queue), "images": rows})
    elif rows:
        table([*rows[0]], [list(row.values()) for row in rows], title=f"{len(queue):,} images left")
    else:
        out.print(f'Nothing is waiting. Pick images: promptloupe label next "{dataset.name}"', markup=False)


@label.command("record")
def record_(
    name: NameArgument,
    image: Annotated[str, typer.Option(help="Its name or the end of its path, its SHA-256, or its number.")],
    reader: ReaderOption = "",
    class_name: Annotated[str | None, typer.Option("--label", help="The class.", metavar="CLASS")] = None,
    verdict: Annotated[str | None, typer.Option(help=f"In place of a label: {', '.join(VERDICTS)}.")] = None,
    comment: Annotated[str, typer.Option(help="A flag needs one.")] = "",
    adjudicate: Annotated[bool, typer.Option("--adjudicate", help="The last word on a disputed image.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Even where you said something else before.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record a verdict, for scripts; the page Label is quicker for people.

    Example: promptloupe label record "Blood smear" --image 0042.png --label monocyte --reader Anna
    """
    if (class_name is None) == (verdict is None):
        raise ConfigError("A verdict is either a label or another verdict.", "Add --label CLASS or --verdict NAME.")
    if verdict is not None and verdict not in VERDICTS:
        raise ConfigError(f"There is no verdict “{verdict}”.", f"Choose one of {', '.join(VERDICTS)}.")
    ws = opened(workspace)
    dataset = find_dataset(ws, name)
    sample = find_image(ws, dataset.id, image)
    task = next((each for each in tasks(ws, dataset.id, needs_reader(reader)) if each.sample_id == sample), None)
    waiting = task.occasion if task else Occasion.READING
    entry = Entry(
        dataset_id=dataset.id,
        sample_id=sample,
        annotator=reader,
        verdict=Verdict(verdict) if verdict else Verdict.LABEL,
        class_id=find_class(ws, dataset, class_name) if class_name is not None else None,
        comment=comment,
        event=new_event(),
        round_id=task.round_id if task else None,
        occasion=Occasion.ADJUDICATION if adjudicate else waiting,
        aids={"from": "command line"},
    )
    receipt = record(ws, entry)
    if receipt.conflict is not None and replace:
        receipt = record(ws, entry.model_copy(update={"seen": receipt.conflict.id, "event": new_event()}))
    if receipt.conflict is not None:
        before = class_names(ws, dataset).get(receipt.conflict.class_id or 0, receipt.conflict.verdict.value)
        raise DataError(f"{reader} said “{before}” of this image before.", "Add --replace to change that.")
    if as_json:
        emit({"row": receipt.id, "image": sample, "doubled": receipt.doubled, "other_readers": receipt.others})
    else:
        out.print("Known already." if receipt.doubled else "Kept.")


@label.command("undo")
def undo_(
    name: NameArgument, reader: ReaderOption = "", workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Take back the newest verdict of a reader; it stays in the history.

    Example: promptloupe label undo "Blood smear" --reader Anna
    """
    ws = opened(workspace)
    change = undo(ws, find_dataset(ws, name).id, needs_reader(reader), new_event())
    _tell(ws, change, "taken back", as_json)


@label.command("redo")
def redo_(
    name: NameArgument, reader: ReaderOption = "", workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Put back the verdict that was taken back last.

    Example: promptloupe label redo "Blood smear" --reader Anna
    """
    ws = opened(workspace)
    change = redo(ws, find_dataset(ws, name).id, needs_reader(reader), new_event())
    _tell(ws, change, "put back", as_json)


def _tell(ws: Workspace, change: Change | None, what: str, as_json: bool) -> None:
    if as_json:
        emit(None if change is None else asdict(change))
    elif change is None:
        out.print(f"There is nothing to be {what}.")
    else:
        image = image_names(ws, [change.sample_id])[change.sample_id]
        out.print(f"{change.verdict.value} of {image} was {what}; {change.left} more can be.", markup=False)
