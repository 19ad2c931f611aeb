"""What is left behind by the training of an enhancer, for those who watch it. No torch.

In the folder of the enhancer: `request.json`, `curve.jsonl` (a line a step; steps that were repeated after a crash
come twice, and the later one counts), `snapshot-ROUND-PHOTO.png`, and the weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.enhance.choices import CURVES, NETWORK, enhancers_folder, read_card
from engines.enhance.settings import Stage, TrainSettings
from engines.store import Workspace

CURVE = "curve.jsonl"
SNAPSHOTS, SNAPSHOT_SIDE = 6, 360
"""How many photos are shown after each round, and their longest side in pixels."""
_WORDS = {
    Stage.PROMPT: "Learning what backlit and well-lit mean",
    Stage.WARM_UP: "Learning to leave photos as they are",
    Stage.ENHANCE: "Brightening",
    Stage.REFINE: "Comparing the results with both folders",
    Stage.DONE: "Done",
}


@dataclass(frozen=True)
class Training:
    """
    Attributes:
        card: the request.
        curve: by step: `{"total", "stage", "round", "loss", "p_backlit"}`, in their order.
        snapshots: files by round (0: the photos as they are), each with the same photos.
        usable: whether at least one round has ended.
    """

    id: str
    card: dict[str, Any]
    curve: list[dict[str, Any]]
    snapshots: dict[int, list[Path]]
    usable: bool


def stage_words(stage: Stage, number: int) -> str:
    """ "Brightening, round 2"."""
    return f"{_WORDS[stage]}, round {number}" if number else _WORDS[stage]


def planned_steps(settings: TrainSettings) -> int:
    """Steps of all stages where none is prolonged."""
    (stage, number), total = settings.first(), 0
    while stage is not Stage.DONE:
        total += settings.steps(stage)
        stage, number = settings.after(stage, number)
    return total


def trainings(workspace: Workspace) -> list[tuple[str, str]]:
    """(id, name) of all enhancers that were trained or are in training here, the newest first."""
    cards = [(folder.name, read_card(folder)) for folder in enhancers_folder(workspace).glob("*")]
    made = [(card.get("created", ""), name, card["name"]) for name, card in cards if card.get("backlit")]
    return [(name, str(title)) for _, name, title in sorted(made, reverse=True)]


def read_training(workspace: Workspace, enhancer_id: str) -> Training | None:
    """None where there is none."""
    known = dict(trainings(workspace))
    if enhancer_id not in known:
        return None
    folder = enhancers_folder(workspace) / enhancer_id
    found: dict[int, list[Path]] = {}
    for file in sorted(folder.glob("snapshot-*-*.png")):
        found.setdefault(int(file.stem.split("-")[1]), []).append(file)
    usable = (folder / NETWORK).is_file() or (folder / CURVES).is_file()
    return Training(enhancer_id, read_card(folder), _curve(folder / CURVE), dict(sorted(found.items())), usable)


def training_stamp(workspace: Workspace, enhancer_id: str) -> str:
    """Changes with what `read_training` finds; cheap enough for every second."""
    folder = enhancers_folder(workspace) / enhancer_id
    try:
        curve = (folder / CURVE).stat().st_size
    except OSError:
        curve = 0
    return f"{curve}-{sum(1 for _ in folder.glob('snapshot-*.png'))}-{(folder / NETWORK).exists()}"


def _curve(file: Path) -> list[dict[str, Any]]:
    points: dict[int, dict[str, Any]] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            point = json.loads(line)
            points[int(point["total"])] = point
        except (ValueError, KeyError, TypeError):  # the last line of a run that was killed
            continue
    return [points[step] for step in sorted(points)]
