"""promptloupe inspect words: what learned prompts say."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from app.commands._shared import JsonOption, WorkspaceOption, emit, err, find_run, opened, out, table, wait
from engines import jobs
from engines.inspection.words_answers import Geometry, WordsAnswer, read_words


def register(inspect: typer.Typer) -> None:
    inspect.command("words")(words)


def words(
    runs: Annotated[list[str], typer.Argument(help="One or more finished runs, as listed by: promptloupe runs.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read what learned prompts say: the nearest words, and where classes and images lie before and after.

    Example: promptloupe inspect words 3f2a91c0de77
    """
    ws = opened(workspace)
    chosen = [find_run(ws, run).id for run in dict.fromkeys(runs)]
    result = wait(ws, [jobs.submit(ws, "inspect_words", {"run_ids": chosen})], quiet=as_json)[0].result
    answers = [answer for run in result["done"] if (answer := read_words(ws, run)) is not None]
    if as_json:
        emit({"runs": [asdict(each) for each in answers], "failed": result["failed"]})
        return
    for answer in answers:
        _show(answer)
    for run, why in result["failed"].items():
        err.print(f"{run}: {why}", markup=False)


def _show(answer: WordsAnswer) -> None:
    out.print(answer.unreadable or f"Words near each other are {answer.usual_distance:.2f} apart.", markup=False)
    if answer.tokens:
        table(
            ["class", "place>", "nearest words (distance)"],
            [
                [token.of or "all", token.place + 1, ", ".join(f"{n.word} ({n.distance:.2f})" for n in token.words)]
                for token in answer.tokens
            ],
            answer.name,
        )
    if answer.before is not None:
        table(["", "before>", "after>"], [[name, *values] for name, values in _rows(answer.before, answer.after)])
    if answer.margins:
        table(
            ["class", "images>", "margin before>", "margin after>"],
            [[m.name, m.images, f"{m.before:+.3f}", _number(m.after)] for m in answer.margins],
        )
    for note in answer.notes:
        out.print(note, style="dim", markup=False)


def _rows(before: Geometry, after: Geometry | None) -> list[tuple[str, list[str]]]:
    named = {
        "modality gap": "modality_gap",
        "alignment": "alignment",
        "uniformity of images": "uniformity_images",
        "uniformity of words": "uniformity_words",
    }
    return [(words, [_number(getattr(each, name, None)) for each in (before, after)]) for words, name in named.items()]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
