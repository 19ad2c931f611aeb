"""promptloupe golden: better starting noise for text-to-image models: collect pairs, train an NPNet, judge, use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands._options import with_options
from app.commands._shared import JsonOption, WorkspaceOption, emit, err, opened, out, table, wait
from engines import jobs
from engines.diffusion.golden.judged import Judgement, judgements
from engines.diffusion.golden.sample_prompts import scene_prompts
from engines.diffusion.golden.settings import CollectSettings, JudgeSettings, NetworkSettings
from engines.diffusion.golden.statistics import Comparison
from engines.diffusion.golden.study import Study, StudyRequest, create, find, studies
from engines.diffusion.places import SHIPPED, find_text_to_image
from engines.errors import ConfigError, DataError
from engines.prompts.settings import parse

PromptOption = Annotated[list[str] | None, typer.Option("--prompt", help="A prompt; may be given several times.")]
FileOption = Annotated[Path | None, typer.Option("--prompts", help="Text file in UTF-8 with one prompt a line.")]
StudyArgument = Annotated[
    str, typer.Argument(help="A collection: its id or name, as listed by: promptloupe golden list.")
]

golden = typer.Typer(
    help="Better starting noise for text-to-image models: make it, learn it, judge it.", no_args_is_help=True
)


def register(cli: typer.Typer) -> None:
    for command in (collect, train, judge, use, export):
        golden.command()(command)
    golden.command("list")(list_)
    cli.add_typer(golden, name="golden")


@with_options(CollectSettings, "How pairs are made")
def collect(
    chosen: dict[str, Any],
    prompt: PromptOption = None,
    prompts: FileOption = None,
    samples: Annotated[int, typer.Option(min=0, max=10_000, help="So many prompts of the sample list.")] = 0,
    into: Annotated[str, typer.Option(help="Add to this collection, with its settings.")] = "",
    model: Annotated[str, typer.Option(help="Text-to-image model: a name, or a folder in diffusers format.")] = SHIPPED,
    scorer: Annotated[str, typer.Option(help="What tells which of two images is better.")] = "clip",
    backbone: Annotated[str, typer.Option(help="What the CLIP score is computed with.")] = "mini-clip",
    name: Annotated[str, typer.Option(help="Of the collection.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make golden noise for prompts, images of both noises, and see which are better.

    Example: promptloupe golden collect --samples 40 --each 5 --scorer scenes --name "Mini world"
    """
    ws = opened(workspace)
    text = _prompts(prompt, prompts, scene_prompts(samples) if samples else [])
    if into:
        study = find(ws, into)
        asked = study.request
        text = text or asked.prompts
        study.ask(asked.model_copy(update={"prompts": text, "settings": asked.settings.model_copy(update=chosen)}))
    else:
        place = find_text_to_image(model)
        given = {"name": name, "model": model if model == place.name else str(place.path), "prompts": text}
        request: StudyRequest = parse(
            StudyRequest, given | {"scorer": scorer, "backbone": backbone, "settings": chosen}, "the collection"
        )
        if not text:
            raise ConfigError("There is no prompt.", "Give --prompt, --prompts or --samples.")
        study = create(ws, request)
    result = wait(ws, [jobs.submit(ws, "golden-collect", {"study": study.id})], quiet=as_json)[0].result
    won = study.won()
    if as_json:
        emit(result | {"comparison": _numbers(won), "notes": study.notes})
        return
    for note in study.notes:
        err.print(note, markup=False)
    out.print(f"{result['pairs']:,} pairs are in the collection {study.id}. {_sentence(won)}", markup=False)
    out.print(f"Next: promptloupe golden train {study.id}")


@with_options(NetworkSettings, "How it is trained")
def train(
    chosen: dict[str, Any],
    study: StudyArgument,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Learn from all pairs, also those whose golden image is not better.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the small network that predicts golden noise (NPNet) on a collection."""
    ws = opened(workspace)
    found = find(ws, study)
    settings = chosen | ({"margin": None} if all_pairs else {})
    job = jobs.submit(ws, "golden-train", {"study": found.id, "settings": settings})
    result = wait(ws, [job], quiet=as_json)[0].result
    if as_json:
        curve = found.newest()
        assert curve is not None
        emit(result | {"network": str(curve.network), "held_out": curve.held_out, "train": curve.train})
        return
    out.print(
        f"Trained for {result['passes']} passes; the best is number {result['best']}. Error on held-out prompts "
        f"{result['error']:.4f}; of changing nothing {result['unchanged']:.4f}."
    )
    out.print(f"Next: promptloupe golden judge {found.id}")


@with_options(JudgeSettings, "What is compared")
def judge(
    chosen: dict[str, Any],
    study: StudyArgument,
    prompt: PromptOption = None,
    prompts: FileOption = None,
    scorer: Annotated[
        list[str] | None, typer.Option(help="Judge with this, too; those that can judge where none is named.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare standard, golden and predicted noise on the same prompts and new noises.

    Without prompts those are taken that the network did not learn from.
    """
    ws = opened(workspace)
    found = find(ws, study)
    text = _prompts(prompt, prompts, [])
    payload = {"study": found.id, "prompts": text, "scorers": scorer or [], "settings": chosen}
    result = wait(ws, [jobs.submit(ws, "golden-judge", payload)], quiet=as_json)[0].result
    judgement = next(each for each in judgements(found) if each.folder.name == result["judgement"])
    if as_json:
        emit(result | {"new_prompts": judgement.new_prompts, "comparisons": _compared(judgement)})
        return
    rows = [[each["scorer"], each["noise"], each["verdict"]] for each in _compared(judgement)]
    table(["judged by", "noise", "against standard noise"], rows)
    out.print("Look at the images, and vote blind, on the page Golden noise.")


@with_options(CollectSettings, "How images are made")
def use(
    chosen: dict[str, Any],
    network: Annotated[str, typer.Argument(help="A collection with an NPNet, or the file of one.")],
    prompt: PromptOption = None,
    prompts: FileOption = None,
    model: Annotated[str, typer.Option(help="Text-to-image model; that of the collection where it is left out.")] = "",
    folder: Annotated[Path | None, typer.Option("--out", help="Where images are written; else the exports.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make images of prompts from standard noise and, beside it, from what an NPNet makes of it.

    Example: promptloupe golden use 3f2a91c0de77 --prompt "a red star and a blue ring on grass" --seed 7
    """
    ws = opened(workspace)
    file, settings = Path(network).expanduser(), CollectSettings(**chosen)
    if not file.is_file():
        study = find(ws, network)
        curve = study.newest()
        if curve is None or curve.network is None:
            raise DataError("This collection has no NPNet yet.", f"Train one: promptloupe golden train {study.id}")
        file, asked = curve.network, study.request
        model, settings = model or asked.model, asked.settings.model_copy(update={"each": 1, "seed": 0} | chosen)
    request = StudyRequest(
        model=str(find_text_to_image(model or SHIPPED).path), prompts=_prompts(prompt, prompts, []), settings=settings
    )
    target = (folder or ws.folder("exports") / f"golden-{file.parent.name[:12]}-{settings.seed}").resolve()
    payload = {"network": str(file.resolve()), "request": request.model_dump(mode="json"), "folder": str(target)}
    result = wait(ws, [jobs.submit(ws, "golden-use", payload)], quiet=as_json)[0].result
    if as_json:
        emit(result)
        return
    out.print(f"Images of {len(result['images']):,} noises are in {target}.", markup=False, soft_wrap=True)


def export(study: StudyArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Pack images, pairs and NPNet of a collection, with a card, into a ZIP file in the workspace's exports."""
    ws = opened(workspace)
    job = jobs.submit(ws, "golden-export", {"study": find(ws, study).id})
    path = str(ws.resolve(wait(ws, [job], quiet=as_json)[0].result["path"]))
    if as_json:
        emit({"path": path})
    else:
        out.print(path, markup=False, soft_wrap=True)


def list_(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the collections of a workspace."""
    rows = [_about(study) for study in studies(opened(workspace))]
    if as_json:
        emit(rows)
        return
    table(["id", "name", "model", "pairs>", "NPNet"], [list(row.values()) for row in rows])


def _about(study: Study) -> dict[str, Any]:
    request, curve = study.request, study.newest()
    trained = "trained" if curve is not None and curve.network is not None else ""
    pairs = len(study.shown())
    return {"id": study.id, "name": request.name, "model": Path(request.model).name, "pairs": pairs, "network": trained}


def _prompts(typed: Sequence[str] | None, file: Path | None, samples: Sequence[str]) -> str:
    """Prompts, one a line.

    Raises:
        DataError: the file cannot be read, or is no text.
    """
    text = "\n".join([*(typed or []), *samples])
    if file is None:
        return text
    try:
        return "\n".join(filter(None, [text, file.read_bytes().decode("utf-8-sig")]))
    except OSError as error:
        raise DataError(f"“{file.name}” cannot be read.", "Check the path and its permissions.", str(error)) from error
    except UnicodeDecodeError as error:
        raise DataError(f"“{file.name}” is no text in UTF-8.", "Save it as plain text, UTF-8.", str(error)) from error


def _numbers(found: Comparison | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found) | {"rate": found.rate, "verdict": found.verdict()}


def _sentence(found: Comparison | None) -> str:
    return "" if found is None else found.verdict().capitalize()


def _compared(judgement: Judgement) -> list[dict[str, Any]]:
    rows = []
    for scorer, title in judgement.scorers.items():
        for kind in judgement.kinds[1:]:
            found = judgement.comparison(scorer, kind)
            if found is not None:
                numbers = asdict(found) | {"rate": found.rate, "verdict": found.verdict(kind)}
                rows.append({"scorer": title, "noise": kind} | numbers)
    return rows
