"""promptloupe enhance: backlit photos, the methods for them, and enhancers of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from app.commands._shared import JsonOption, WorkspaceOption, emit, err, opened, out, parse_settings, table, wait
from engines import jobs
from engines.enhance.choices import choices, find_choice, new_results_folder
from engines.enhance.requests import LENGTHS, EnhanceRequest, EnhancerRequest
from engines.enhance.settings import TrainSettings
from engines.enhance.trainings import read_training, trainings
from engines.errors import ConfigError
from engines.prompts.settings import parse
from engines.store import Workspace, new_id


class _PhotosFirst(TyperGroup):
    """`enhance photo.jpg` means `enhance photos photo.jpg`; a file called as a command is named as ./train."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["photos", *args]
        return super().parse_args(ctx, args)


enhance = typer.Typer(
    cls=_PhotosFirst,
    help="Brighten backlit photos. Enhancement changes intensities: never measure in an enhanced photo.",
    no_args_is_help=True,
)


def register(cli: typer.Typer) -> None:
    cli.add_typer(enhance, name="enhance")


@enhance.command("photos")
def photos(
    places: Annotated[list[str], typer.Argument(help="Photos, or folders with photos.", metavar="FILES|FOLDER")],
    method: Annotated[
        list[str] | None, typer.Option(help="See: promptloupe enhance methods. Repeat for several.")
    ] = None,
    strength: Annotated[float, typer.Option(help="From 0 (nothing) to 1 (all).", min=0, max=1)] = 1.0,
    out_folder: Annotated[
        str, typer.Option("--out", help="Where results go; a new folder in the workspace where left out.")
    ] = "",
    kind: Annotated[str, typer.Option("--format", help="png or tif; 16 bits always become tif.")] = "png",
    native: Annotated[bool, typer.Option("--native", help="Light maps at full size: slow, hardly better.")] = False,
    measurements: Annotated[
        bool, typer.Option("--change-measurements", help="Confirm that 16-bit and DICOM images may be changed.")
    ] = False,
    reference: Annotated[str, typer.Option(help="Folder with well-lit photos of the same names, for PSNR.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enhance photos into another folder, each with a JSON note of how. Originals are never touched.

    Example: promptloupe enhance holiday/ --method exposure-fusion --strength 0.8 --out brighter/
    """
    ws = opened(workspace)
    asked = {
        "photos": [str(Path(each).expanduser().absolute()) for each in places],
        "methods": [find_choice(ws, each).name for each in method or [_usual(ws)]],
        "strength": strength,
        "out": str(Path(out_folder).expanduser().absolute()) if out_folder else new_results_folder(),
        "kind": kind,
        "native": native,
        "measurements": measurements,
        "reference": str(Path(reference).expanduser().absolute()) if reference else "",
    }
    request: EnhanceRequest = parse(EnhanceRequest, asked, "the enhancement")
    (row,) = wait(ws, [jobs.submit(ws, "enhance-photos", request)], quiet=as_json)
    if as_json:
        emit(row.result)
        return
    for each in row.result["results"]:
        for told in filter(None, [each["problem"], *each["notes"]]):
            err.print(f"[yellow]{escape(each['source'])}: {escape(told)}[/]")
        if each["decibels"] is not None:
            out.print(f"{each['source']}: usual light maps come within {each['decibels']:.1f} dB.", markup=False)
    many = row.result["done"]
    out.print(f"{many:,} {'result is' if many == 1 else 'results are'} in {row.result['folder']}", markup=False)


@enhance.command("methods")
def methods(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the methods: classical ones, the shipped enhancer, enhancers trained or added here."""
    found = choices(opened(workspace))
    if as_json:
        emit([{"method": each.name, "title": each.title, "about": each.about} for each in found])
        return
    table(["method", "title", "what it does"], [[each.name, each.title, each.about] for each in found])


@enhance.command("add")
def add(
    file: Annotated[str, typer.Argument(help="A CLIP-LIT checkpoint (.pth), or weights in safetensors.")],
    name: Annotated[str, typer.Option(help="How to call it.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a checkpoint that you have as a method. None is shipped: its licence does not allow it."""
    place = str(Path(file).expanduser().absolute())
    made = jobs.call(opened(workspace), "enhance-add", {"file": place, "name": name})
    if as_json:
        emit(made)
    else:
        out.print(f"“{made['title']}” can be used now: --method {made['method']}", markup=False)


@enhance.command("train")
def train(
    backlit: Annotated[str, typer.Argument(help="Folder with backlit photos.")],
    well_lit: Annotated[str, typer.Argument(help="Folder with well-lit photos; not needed for zero-dce.")] = "",
    name: Annotated[str, typer.Option(help="How to call the enhancer.")] = "My camera",
    kind: Annotated[str, typer.Option(help="clip-lit or zero-dce.")] = "clip-lit",
    length: Annotated[str, typer.Option(help=f"One of: {', '.join(LENGTHS)}.")] = next(iter(LENGTHS)),
    backbone: Annotated[str, typer.Option(help="Model that judges light; see: promptloupe backbones.")] = "mini-clip",
    settings: Annotated[list[str] | None, typer.Option("--set", help="name=value, of the training.")] = None,
    go_on: Annotated[str, typer.Option("--continue", help="Id of a training that was cancelled.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an enhancer on your own photos; photos need not come in pairs.

    Example: promptloupe enhance train backlit/ well-lit/ --name "Camera 2" --set rounds=3
    """
    ws = opened(workspace)
    if length not in LENGTHS:
        raise ConfigError(f"There is no length “{length}”.", f"There are: {', '.join(LENGTHS)}.")
    chosen = LENGTHS[length].model_dump() | parse_settings(settings or [])
    asked = {
        "id": go_on or new_id(),
        "name": name,
        "kind": kind,
        "backlit": str(Path(backlit).expanduser().absolute()),
        "well_lit": str(Path(well_lit).expanduser().absolute()) if well_lit else "",
        "backbone": backbone,
        "settings": parse(TrainSettings, chosen, "the training").model_dump(),
    }
    request: EnhancerRequest = parse(EnhancerRequest, asked, "the training")
    if request.kind == "clip-lit" and not request.well_lit:
        raise ConfigError("CLIP-LIT needs well-lit photos, too.", "Name a second folder, or choose --kind zero-dce.")
    if not as_json:
        err.print(f"Should you cancel it, go on with: --continue {request.id}", markup=False)
    wait(ws, [jobs.submit(ws, "enhance-train", request)], quiet=as_json)
    _tell(ws, request.id, as_json)


@enhance.command("trainings")
def trained(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List what was trained here, and what is in training."""
    ws = opened(workspace)
    rows = [(each, title, read_training(ws, each)) for each, title in trainings(ws)]
    found = [{"id": each, "name": title, "steps": len(t.curve), "usable": t.usable} for each, title, t in rows if t]
    if as_json:
        emit(found)
        return
    table(
        ["id", "name", "steps>", "can be used"], [[*list(f.values())[:3], "yes" if f["usable"] else ""] for f in found]
    )


def _usual(ws: Workspace) -> str:
    names = [each.name for each in choices(ws)]
    return "mini-enhancer" if "mini-enhancer" in names else "exposure-fusion"


def _tell(ws: Workspace, enhancer: str, as_json: bool) -> None:
    found = read_training(ws, enhancer)
    assert found is not None
    shown = [point["p_backlit"] for point in found.curve if point["p_backlit"] is not None]
    if as_json:
        first, last = (shown[0], shown[-1]) if shown else (None, None)
        emit({"method": enhancer, "name": found.card["name"], "steps": len(found.curve), "p_backlit": [first, last]})
        return
    if shown:
        out.print(f"p(backlit) of enhanced photos went from {shown[0]:.2f} to {shown[-1]:.2f}.")
    out.print(f"“{found.card['name']}” can be used now: --method {enhancer}", markup=False)
