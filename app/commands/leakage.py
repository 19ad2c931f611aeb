"""promptloupe leakage: where the words of a caption look in a picture, the repair, and edits made three ways."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from app.commands._shared import JsonOption, WorkspaceOption, emit, opened, out, parse_settings, table, wait
from engines import jobs
from engines.data import load_image
from engines.diffusion.leakage.edits import WAYS, find_edit
from engines.diffusion.leakage.repairs import Repair, find_repair, repairs
from engines.diffusion.leakage.requests import EditRequest, Kind, Places, RepairRequest
from engines.diffusion.leakage.samples import SAMPLES
from engines.diffusion.leakage.sentences import change_sentence, leak_sentence, overlap_sentence, pairs, rest_of
from engines.diffusion.leakage.studies import STEPS, Study, find_study, study_file, study_sample, word_number
from engines.diffusion.places import SHIPPED
from engines.diffusion.settings import EditSettings, RepairSettings
from engines.diffusion.words import adjectives_of
from engines.errors import ConfigError
from engines.prompts.settings import parse
from engines.store import Workspace

leakage = typer.Typer(
    help="See where words of a caption look in a picture, repair it, and edit the picture.", no_args_is_help=True
)
PICTURE = f"An image file, the id of a picture looked at before, or sample:NAME with one of {', '.join(SAMPLES)}."
PictureArgument = Annotated[str, typer.Argument(help=PICTURE)]
CaptionOption = Annotated[str, typer.Option("--caption", help="What the picture shows, in a sentence.")]
WordOption = Annotated[list[str] | None, typer.Option("--word", help="A word of the caption that is an object.")]
ModelOption = Annotated[str, typer.Option("--model", help="A text-to-image model by name, or its folder.")]
StepsOption = Annotated[int, typer.Option(help="Steps of the diffusion, there and back.")]
MaskOption = Annotated[
    list[str] | None,
    typer.Option("--mask", help="WORD=FILE: where the word's object is, white on black, of the picture's shape."),
]
SlicingOption = Annotated[bool, typer.Option("--slicing", help="Attention slicing: less memory, more time.")]
CpuOption = Annotated[bool, typer.Option("--cpu", help="Compute on the processor.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="name=value: a setting, such as attention_steps=5.")]


def register(cli: typer.Typer) -> None:
    leakage.command("maps")(maps)
    leakage.command("repair")(repair)
    leakage.command("edit")(edit)
    cli.add_typer(leakage, name="leakage")


def maps(
    picture: PictureArgument,
    caption: CaptionOption = "",
    word: WordOption = None,
    model: ModelOption = SHIPPED,
    steps: StepsOption = STEPS,
    mask: MaskOption = None,
    slicing: SlicingOption = False,
    cpu: CpuOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """See where words look, and how much of their attention falls on the wrong thing.

    Example: promptloupe leakage maps sample:circle-star --word circle --word star
    """
    ws = opened(workspace)
    study = _study(ws, picture, caption, model, steps, mask)
    numbers = _numbers(study, word)
    machine = _machine(slicing, cpu)
    wait(ws, [jobs.submit(ws, "leakage-maps", {"study": study.id, **machine})], quiet=as_json)
    if as_json:
        emit(_looked(study, numbers))
        return
    for sentence in _sentences(study, numbers):
        out.print(sentence, markup=False)
    if unread := study.notes()["unread"]:
        out.print(f"The model does not read the end of the caption: “{unread}”.", markup=False)
    out.print(f"Kept as {study.id}.", style="dim")


def repair(
    picture: PictureArgument,
    caption: CaptionOption = "",
    word: WordOption = None,
    model: ModelOption = SHIPPED,
    steps: StepsOption = STEPS,
    mask: MaskOption = None,
    masks: Annotated[bool, typer.Option("--masks", help="Bind the words to their masks (LocInv).")] = False,
    adjectives: Annotated[
        bool, typer.Option("--adjectives", help="With --masks: bind the word before each object, such as “red”, too.")
    ] = False,
    settings: SetOption = None,
    slicing: SlicingOption = False,
    cpu: CpuOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Repair leakage: words that are objects learn to look at their own object only. Goes on where it was cancelled.

    Example: promptloupe leakage repair sample:circle-star --word circle --word star --set attention_steps=10
    """
    ws = opened(workspace)
    study = _study(ws, picture, caption, model, steps, mask)
    chosen: RepairSettings = parse(RepairSettings, {**parse_settings(settings or []), "steps": steps}, "the repair")
    words = _numbers(study, word)
    bound = adjectives_of(study.words, words) if adjectives else {}
    request = RepairRequest(
        study=study.id, words=words, masks=masks, adjectives=bound, settings=chosen, **_machine(slicing, cpu)
    )
    done = wait(ws, [jobs.submit(ws, "leakage-repair", request)], quiet=as_json)[0].result
    found = find_repair(study, done["repair"])
    before, after = study.figures(), found.figures()
    if as_json:
        emit({**_looked(study, request.words), "repair": found.id, **found.result, "figures_after": _means(after)})
        return
    for number in request.words:
        if str(number) in before and before[str(number)][0] and after[str(number)][0]:
            rows = before[str(number)][0], after[str(number)][0]
            out.print(change_sentence(study.words, number, *rows), markup=False)
    out.print(f"The picture is reached again with {found.result['psnr']:.1f} dB.", markup=False)
    for note in found.result["notes"]:
        out.print(note, style="dim", markup=False)
    out.print(f"Kept as {found.id} of {study.id}.", style="dim")


def edit(
    picture: Annotated[str, typer.Argument(help="Id of a picture that was repaired; see: promptloupe leakage repair.")],
    to: Annotated[str, typer.Option("--to", help="The edited caption.")],
    kind: Annotated[Kind, typer.Option(help="Swap words one for one, add words (refine), or weight words.")] = "swap",
    weight: Annotated[list[str] | None, typer.Option("--weight", help="WORD=FACTOR, such as star=2.")] = None,
    bound: Annotated[
        list[str] | None,
        typer.Option("--bound", help="With refine: a word that looks where the word at its place looked before."),
    ] = None,
    where: Annotated[Places, typer.Option(help="Where the picture may change.")] = "words",
    repair_id: Annotated[str, typer.Option("--repair", help="Id of the repair; the last one by default.")] = "",
    settings: SetOption = None,
    target: Annotated[Path | None, typer.Option("--out", help="Folder that gets the edited pictures.")] = None,
    slicing: SlicingOption = False,
    cpu: CpuOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Edit a picture three ways: plain Prompt-to-Prompt, after null-text inversion, and after the repair.

    Example: promptloupe leakage edit 3f2a91c0de771234 --to "a red heart and a blue star on grass" --out edited
    """
    ws = opened(workspace)
    study = find_study(ws, picture)
    factors = {word_number(to, name): _factor(value) for name, value in _pairs(weight, "--weight")}
    request = EditRequest(
        study=study.id,
        repair=_repair(study, repair_id).id,
        prompt=to,
        kind=kind,
        weights=factors,
        bound=[word_number(to, name) for name in bound or []],
        where=where,
        settings=parse(EditSettings, parse_settings(settings or []), "the edit"),
        **_machine(slicing, cpu),
    )
    done = wait(ws, [jobs.submit(ws, "leakage-edit", request)], quiet=as_json)[0].result
    found = find_edit(study, done["edit"])
    files = {way: found.picture(way) for way in WAYS}
    if target is not None:
        files = _copied(files, target.expanduser())
    if as_json:
        emit({**done, "files": {way: str(file) for way, file in files.items()}})
        return
    rest = "outside the edited object" if done["measured"] == "outside" else "whole picture"
    table(
        ["way", f"{rest}, dB>", "SSIM>", "fits the words>", "structure>", "file"],
        [
            [name, *(_number(done["ways"][way][key]) for key in ("psnr", "ssim", "clip", "structure")), files[way].name]
            for way, name in WAYS.items()
        ],
    )
    out.print("Edited pictures are synthetic; their files say so.", style="dim")


# --- parts ------------------------------------------------------------------------------------------------------------


def _study(ws: Workspace, picture: str, caption: str, model: str, steps: int, masks: list[str] | None) -> Study:
    kind, _, name = picture.partition(":")
    if kind == "sample" and name:
        study = study_sample(ws, name, model, steps, caption)
    elif Path(picture).expanduser().exists() or not picture.isalnum():
        study = study_file(ws, Path(picture).expanduser(), caption, model, steps)
    else:
        study = find_study(ws, picture)
    for word, file in _pairs(masks, "--mask"):
        white = np.asarray(load_image(Path(file).expanduser()).convert("L")) > 127
        study.draw(word_number(study.facts.caption, word), white)
    return study


def _numbers(study: Study, words: list[str] | None) -> list[int]:
    if not words:
        raise ConfigError("No word is chosen.", "Name the words that are objects: --word circle --word star.")
    return [word_number(study.facts.caption, word) for word in words]


def _machine(slicing: bool, cpu: bool) -> dict[str, Any]:
    return {"slicing": slicing, "device": "cpu" if cpu else "best"}


def _repair(study: Study, repair_id: str) -> Repair:
    if repair_id:
        return find_repair(study, repair_id)
    found = next((each for each in repairs(study) if each.finished), None)
    if found is None:
        raise ConfigError(
            "This picture was not repaired yet.", f"First: promptloupe leakage repair {study.id} --word …"
        )
    return found


def _pairs(given: list[str] | None, option: str) -> list[tuple[str, str]]:
    found = []
    for pair in given or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"{option} “{pair}” is not understood.", f"Write {option} WORD=VALUE.")
        found.append((name, value))
    return found


def _factor(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"“{text}” is no factor.", "Write a number, such as 0.5 or 2.") from error


def _looked(study: Study, numbers: list[int]) -> dict[str, Any]:
    return {
        "study": study.id,
        "caption": study.facts.caption,
        "model": study.facts.model,
        "steps": study.facts.steps,
        "words": study.words,
        "chosen": numbers,
        **study.notes(),
        "figures": _means(study.figures()),
        "sentences": _sentences(study, numbers),
        "maps": str(study.folder / "maps.npz"),
    }


def _means(figures: dict[str, Any]) -> dict[str, Any]:
    """Of all steps together."""
    return {word: rows[0] for word, rows in figures.items()}


def _sentences(study: Study, numbers: list[int]) -> list[str]:
    figures, seen = _means(study.figures()), study.maps()
    rest = rest_of(study, numbers)
    said = [leak_sentence(study.words, number, figures.get(str(number)), rest) for number in numbers]
    if seen is not None:
        said += [overlap_sentence(study.words, *pair, seen.mean(axis=1)) for pair in pairs(numbers)]
    return [sentence for sentence in said if sentence]


def _copied(files: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The pictures in a folder of the user's; none that lies there is overwritten."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        copies = {way: folder / file.name for way, file in files.items()}
        if taken := [copy.name for copy in copies.values() if copy.exists()]:
            raise ConfigError(f"“{taken[0]}” lies in that folder already.", "Choose another folder with --out.")
        for way, file in files.items():
            shutil.copyfile(file, copies[way])
    except OSError as error:
        raise ConfigError(f"“{folder}” cannot be written.", "Choose another folder with --out.", str(error)) from error
    return copies


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"
