"""promptloupe inspect shift: how far learned prompts moved images and words, and whether that goes with accuracy."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from app.commands._shared import (
    JsonOption,
    WorkspaceOption,
    emit,
    err,
    find_run,
    opened,
    out,
    percent,
    table,
    wait,
)
from engines import jobs
from engines.data.names import spreadsheet_safe
from engines.errors import ConfigError
from engines.inspection.shift_answers import Average, ShiftAnswer, read_shift
from engines.inspection.shift_relation import Relation, shift_against_accuracy


def register(inspect: typer.Typer) -> None:
    inspect.command("shift")(shift)


def shift(
    runs: Annotated[list[str], typer.Argument(help="One or more finished runs, as listed by: promptloupe runs.")],
    images: Annotated[int, typer.Option(min=1, max=512, help="Test images to look at, at most.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Of their choice.")] = 1,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write one row a class into this file.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how far learned prompts moved what the model sees, in images and in words.

    Example: promptloupe inspect shift 3f2a91c0de77 --csv shift.csv
    """
    ws = opened(workspace)
    chosen = [find_run(ws, run).id for run in dict.fromkeys(runs)]
    job = jobs.submit(ws, "inspect_shift", {"run_ids": chosen, "images": images, "seed": seed})
    result = wait(ws, [job], quiet=as_json)[0].result
    failed: dict[str, str] = result["failed"]
    answers = [answer for run in result["done"] if (answer := read_shift(ws, run)) is not None]
    relation = shift_against_accuracy(ws, chosen)
    if csv_file is not None:
        _write(csv_file, answers)
    if as_json:
        emit({"runs": [asdict(each) for each in answers], "relation": asdict(relation), "failed": failed})
        return
    if len(answers) == 1:
        _one(answers[0])
    else:
        _several(answers, relation)
    for run, why in failed.items():
        err.print(f"{run}: {why}", markup=False)


def _one(answer: ShiftAnswer) -> None:
    for sentence in answer.sentences:
        out.print(sentence, markup=False)
    grouped = any(row.group for row in answer.classes)
    table(
        ["class", *(["group"] if grouped else []), "images moved>", "± over images>", "words moved>", "same way>"],
        [
            [
                row.name,
                *([row.group] if grouped else []),
                _mean(row.images),
                "–" if row.images is None else f"{row.images.std:.3f}",
                _number(row.words),
                _number(row.direction),
            ]
            for row in answer.classes
        ],
    )
    if answer.image_blocks or answer.text_blocks:
        _blocks(answer)
    if answer.trajectory:
        table(
            ["pass>", "images>", "words>", "gap>"],
            [[m.epoch, _number(m.images), _number(m.words), _number(m.gap)] for m in answer.trajectory],
        )
    for note in filter(None, [*answer.notes, answer.trajectory_reason]):
        out.print(note, style="dim", markup=False)


def _blocks(answer: ShiftAnswer) -> None:
    images, words, gaps = (answer.image_blocks or [], answer.text_blocks or [], answer.block_gaps or [])

    def cell(values: list[Average], block: int) -> str:
        return _mean(values[block]) if block < len(values) else "–"

    rows = [
        [b + 1, cell(images, b), cell(words, b), cell(gaps, b)] for b in range(max(len(images), len(words), len(gaps)))
    ]
    table(["block>", "images>", "words>", "gap>"], rows)


def _several(answers: list[ShiftAnswer], relation: Relation) -> None:
    out.print(relation.sentence, markup=False)
    by_run = {point.run_id: point for point in relation.points}
    measure = f"right, {relation.measure}>"
    table(
        ["run", "name", "seed>", "images moved>", "words moved>", "gap>", measure, "over ready-made>"],
        [
            [
                answer.run_id,
                answer.name,
                answer.seed,
                _mean(answer.groups["all"].images),
                _mean(answer.groups["all"].words),
                _mean(answer.groups["all"].gap),
                percent(by_run[answer.run_id].accuracy),
                f"{100 * by_run[answer.run_id].over_ready_made:+.1f}",
            ]
            for answer in answers
        ],
    )


def _write(file: Path, answers: list[ShiftAnswer]) -> None:
    heads = ["run", "name", "method", "seed", "class", "group", "images", "images_std", "images_low", "images_high"]
    try:
        with file.expanduser().open("w", newline="", encoding="utf-8") as target:
            writer = csv.writer(target)
            writer.writerow([*heads, "images_count", "words", "direction"])
            for answer in answers:
                who = [answer.run_id, spreadsheet_safe(answer.name), answer.method, answer.seed]
                for row in answer.classes:
                    i = row.images
                    numbers = ["", "", "", "", 0] if i is None else [i.mean, i.std, i.low, i.high, i.count]
                    writer.writerow([*who, spreadsheet_safe(row.name), row.group, *numbers, row.words, row.direction])
    except OSError as error:
        raise ConfigError(f"“{file}” cannot be written.", "Choose another place for the file.", str(error)) from error


def _mean(average: Average | None) -> str:
    return _number(None if average is None else average.mean)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
