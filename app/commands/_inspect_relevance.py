"""promptloupe inspect relevance: where prompts look in an image."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands._shared import JsonOption, WorkspaceOption, emit, find_run, opened, out, percent, table
from engines import jobs
from engines.errors import ConfigError
from engines.store.agreement import READY_MADE


def register(inspect: typer.Typer) -> None:
    inspect.command("relevance")(relevance)


def relevance(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    runs: Annotated[list[str], typer.Argument(help="Finished runs, as listed by: promptloupe runs.")],
    class_: Annotated[str, typer.Option("--class", help="Class to look for; each prompt's answer if left out.")] = "",
    rule: Annotated[str, typer.Option(help="relevance (of the answer) or rollout (of the attention).")] = "relevance",
    folder: Annotated[Path | None, typer.Option("--save", help="Write the maps here, as pictures to lay over.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an image to prompts: what each says, and where it looks; the ready-made prompt is among them.

    Example: promptloupe inspect relevance cell.png 3f2a91c0de77 --save maps
    """
    ws = opened(workspace)
    chosen = {find_run(ws, run).id: find_run(ws, run) for run in runs}
    payload = {"run_ids": list(chosen), "file": str(image.expanduser().absolute()), "class_name": class_, "rule": rule}
    answer: dict[str, Any] = jobs.call(ws, "try_it", payload)
    for reply in answer["replies"]:
        picture = reply.pop("overlay") if folder is not None or not as_json else reply["overlay"]
        if folder is not None and picture:
            reply["map"] = str(_write(folder.expanduser(), f"{image.stem}-{reply['run']}.png", picture))
    if as_json:
        emit(answer)
        return
    names = {READY_MADE: "ready-made prompt"} | {run: f"{row.name}, seed {row.seed}" for run, row in chosen.items()}
    table(
        ["prompt", "says", "probability>", "looks for", "map"],
        [
            [names[r["run"]], r["top"][0]["class"], percent(r["top"][0]["probability"]), r["looked_for"], r.get("map")]
            for r in answer["replies"]
        ],
    )
    for reply in answer["replies"]:
        if reply["reason"]:
            out.print(f"{names[reply['run']]}: {reply['reason']}", markup=False)


def _write(folder: Path, name: str, picture: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b64decode(picture))
    except OSError as error:
        raise ConfigError(f"“{folder}” cannot be written.", "Choose another folder.", str(error)) from error
    return folder / name
