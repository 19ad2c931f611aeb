"""promptloupe train, predict, demo."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from sqlalchemy import select

from app.commands._shared import (
    JsonOption,
    WorkspaceOption,
    emit,
    err,
    find_dataset,
    opened,
    out,
    parse_settings,
    percent,
    table,
    wait,
)
from engines import jobs
from engines.errors import ConfigError
from engines.prompts.catalog import PROTOCOLS, MethodEntry, method_entry
from engines.prompts.settings import TrainingConfig
from engines.store import Job, Run, Workspace


def register(cli: typer.Typer) -> None:
    cli.command("train")(train)
    cli.command("predict")(predict)


def train(
    data: Annotated[str, typer.Option(help="Name of the data set.")],
    method: Annotated[str, typer.Option(help="See: promptloupe methods.")] = "coop",
    backbone: Annotated[str, typer.Option(help="See: promptloupe backbones.")] = "mini-clip",
    shots: Annotated[int, typer.Option(help="Labelled images per class; 0 takes all.", min=0)] = 16,
    seed: Annotated[list[int] | None, typer.Option(help="Repeat for several; 1 where left out.")] = None,
    protocol: Annotated[str, typer.Option(help=f"One of {', '.join(PROTOCOLS)}.")] = "few-shot",
    test_data: Annotated[
        list[str] | None, typer.Option(help="Data set to test on, for cross-dataset and zero-shot-anomaly.")
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option(help="Domain to test on and not to learn from, for domain-generalisation.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="name=value, of the method or the training.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a prompt in the background and wait for its result."""
    ws = opened(workspace)
    targets = {
        "test_datasets": [find_dataset(ws, name).id for name in test_data or []],
        "target_domains": domain or [],
    }
    chosen = parse_settings(settings or [])
    runs = start(ws, data, method, backbone, shots, seed or [1], protocol, chosen, targets)
    finished = finish(ws, runs, quiet=as_json)
    if as_json:
        emit([{"run": run.id, "seed": run.seed, "name": run.name, **run.summary} for run in finished])
        return
    for run in finished:
        out.print(sentence(run))
    out.print(f"[dim]promptloupe runs show {finished[0].id}[/]")


def start(
    ws: Workspace,
    data: str,
    method: str,
    backbone: str,
    shots: int,
    seeds: list[int],
    protocol: str,
    chosen: dict[str, Any],
    targets: dict[str, Any] | None = None,
) -> list[Run]:
    """Queue one run a seed. Settings go to the method or to the training, whichever knows them."""
    from engines.jobs.kinds.train import submit_training
    from engines.prompts.settings import parse
    from engines.runs.request import TrainRequest

    settings, training = sort_settings(method_entry(method), chosen)
    request: TrainRequest = parse(
        TrainRequest,
        {
            "dataset_id": find_dataset(ws, data).id,
            "backbone": backbone,
            "method": method,
            "shots": shots,
            "seeds": seeds,
            "protocol": protocol,
            "settings": settings,
            "training": training,
            **(targets or {}),
        },
        "the training",
    )
    return submit_training(ws, request)


def sort_settings(entry: MethodEntry, chosen: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(method's settings, training's settings) of `chosen`; an unknown name is refused with those that exist."""
    own, shared = entry.schema.get("properties", {}), TrainingConfig.model_fields
    for name in chosen:
        if name not in own and name not in shared:
            raise ConfigError(
                f"Neither {entry.title} nor the training has a setting “{name}”.",
                f"{entry.title}: {', '.join(own) or 'none'}. Training: {', '.join(shared)}.",
            )
    return {k: v for k, v in chosen.items() if k in own}, {k: v for k, v in chosen.items() if k not in own}


def finish(ws: Workspace, runs: list[Run], quiet: bool) -> list[Run]:
    """Wait for the jobs of `runs`; returns the finished rows in the same order."""
    ids = [run.id for run in runs]
    with ws.session() as session:
        job_ids = list(session.scalars(select(Job.id).where(Job.run_id.in_(ids), Job.kind == "train")))
    wait(ws, job_ids, quiet=quiet)
    with ws.session() as session:
        rows = {run.id: run for run in session.scalars(select(Run).where(Run.id.in_(ids)))}
    return [rows[run_id] for run_id in ids]


def sentence(run: Run) -> str:
    """The result in one line."""
    summary, zero = run.summary, run.summary.get("zero_shot", {})
    title = method_entry(run.method).title
    if "harmonic_mean" in summary:
        return (
            f"{title}, seed {run.seed}: {percent(summary['base_accuracy'])} right on classes it was trained on,"
            f" {percent(summary['new_accuracy'])} on classes it never saw (harmonic mean"
            f" {percent(summary['harmonic_mean'])}; ready-made prompt {percent(zero.get('harmonic_mean'))})."
        )
    own = (
        f"{title}, seed {run.seed}: {percent(summary.get('accuracy'))} of {summary.get('images', 0):,} test images"
        f" right; the ready-made prompt {percent(zero.get('accuracy'))}."
    )
    if "image_auroc" in summary:
        return f"{own} {_defects(summary)}; with ready-made sentences {_defects(zero)}."
    return own + "".join(_elsewhere(name, found) for name, found in summary.get("targets", {}).items())


def _defects(found: dict[str, Any]) -> str:
    """How well defects were found."""
    images, places, pro = (percent(found.get(key)) for key in ("image_auroc", "pixel_auroc", "pro"))
    return f"Image AUROC {images}, pixel AUROC {places}, PRO {pro}"


def _elsewhere(name: str, found: dict[str, Any]) -> str:
    """What came out on another data set or domain."""
    ready = found.get("zero_shot", {}).get("accuracy")
    return f" On “{name}” {percent(found.get('accuracy'))} (ready-made {percent(ready)})."


def predict(
    run: Annotated[str, typer.Argument(help="The run whose prompt answers.")],
    images: Annotated[str, typer.Argument(help="An image, or a folder of images.")],
    maps: Annotated[bool, typer.Option("--maps", help="Also write where each image is damaged (AnomalyCLIP).")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a learned prompt about images that were never imported."""
    ws = opened(workspace)
    asked = {"run_id": run, "folder": images, "maps": maps}
    (row,) = wait(ws, [jobs.submit(ws, "predict-folder", asked)], quiet=as_json)
    if as_json:
        emit(row.result["answers"])
        return
    rows: list[list[Any]] = []
    answers = row.result["answers"]
    for answer in answers:
        if "error" in answer:
            err.print(f"[yellow]{escape(answer['file'])}: {escape(answer['error'])}[/]")
        elif "score" in answer:
            rows.append([answer["file"], f"{answer['score']:.2f}", f"{answer['ready_made_score']:.2f}"])
        else:
            best, ready = answer["learned"][0], answer["ready_made"][0]
            rows.append([answer["file"], best["class"], f"{best['probability']:.2f}", ready["class"]])
    if any("score" in answer for answer in answers):
        rows.sort(key=lambda each: str(each[1]), reverse=True)
        table(["image", "score (1: damaged)>", "ready-made sentences>"], rows)
    else:
        table(["image", "learned prompt", "probability>", "ready-made prompt"], rows)
    out.print(f"Also as a table: {ws.resolve(str(row.result['table']))}")
    if "maps" in row.result:
        out.print(f"Maps of defects: {ws.resolve(str(row.result['maps']))}")
