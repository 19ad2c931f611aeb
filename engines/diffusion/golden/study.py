"""A study in golden noise: pairs, the network that learns from them, and what came out, in a folder of the workspace.

Torch-free. `engines.diffusion.golden.perform` does the work; this reads and keeps what there is.

    golden/<id>/study.json       what was asked for
                notes.json       what was left out, in sentences
                shown.jsonl      a line per pair as it was made; its images are in shown/
                pairs/           the pairs themselves (`pairs.PairStore`)
                networks/<key>/  an NPNet, its state for going on, and about.json
                judged/<key>/    comparisons (`judged`), and the votes on them (`votes`)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open

from engines.diffusion.golden.files import add_line, read_lines, save_whole
from engines.diffusion.golden.settings import CollectSettings, RedenoiseSettings
from engines.diffusion.golden.statistics import Comparison, compare
from engines.errors import ConfigError, DataError
from engines.files import PART
from engines.store import Workspace, new_id, now

BEST, LAST = "npnet.safetensors", "last.safetensors"
LONGEST_NAME = 80


class StudyRequest(BaseModel):
    """What pairs are collected with."""

    name: str = Field("", max_length=LONGEST_NAME)
    model: str
    """A name of `places.text_to_image_models`, or a folder."""
    prompts: str
    """One a line."""
    scorer: str = "clip"
    """A name of `scorers.SCORERS`."""
    backbone: str = "mini-clip"
    """What the CLIP score is computed with."""
    settings: CollectSettings = CollectSettings()
    created: datetime = Field(default_factory=now)


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair as the gallery shows it."""

    key: str
    prompt: str
    seed: int
    original: float
    golden: float
    """Scores of both images."""

    @property
    def gain(self) -> float:
        return self.golden - self.original


@dataclass(frozen=True, slots=True)
class Curve:
    """A training: errors after every pass, and what they are to be compared with."""

    folder: Path
    train: list[float]
    held_out: list[float]
    unchanged: float
    """Held-out error of changing nothing: noise taken for golden noise."""
    passes: int
    """That were asked for."""
    pairs: int
    held_out_pairs: int
    held_out_prompts: list[str]

    @property
    def best(self) -> int | None:
        """Number of the best pass, the first being 0."""
        return self.held_out.index(min(self.held_out)) if self.held_out else None

    @property
    def network(self) -> Path | None:
        """The network of the best pass."""
        file = self.folder / BEST
        return file if file.is_file() else None


@dataclass(frozen=True, slots=True)
class Study:
    """One study; made by `create`, found by `find` and `studies`."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def request(self) -> StudyRequest:
        """
        Raises:
            DataError: its file is damaged.
        """
        try:
            return StudyRequest.model_validate_json((self.folder / "study.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(
                "What this collection was made with cannot be read.", "Collect anew.", str(error)
            ) from error

    def ask(self, request: StudyRequest) -> None:
        """Keeps what is asked for from now on.

        Raises:
            ConfigError: there are pairs already, which were made otherwise.
            DataError: the disk is full.
        """
        if self.shown() and (changed := _changed(self.request, request)):
            raise ConfigError(
                f"The pairs of this collection were made otherwise: {', '.join(changed)}.",
                "Go on with its own settings, or begin a new collection: different pairs must not be mixed.",
            )
        save_whole(self.folder / "study.json", request.model_dump_json(indent=1).encode())

    @property
    def pairs(self) -> Path:
        return self.folder / "pairs"

    # --- notes ---

    @property
    def notes(self) -> list[str]:
        """What was left out, and what went wrong without ending the work."""
        try:
            return [str(note) for note in json.loads((self.folder / "notes.json").read_bytes())]
        except (OSError, ValueError, TypeError):
            return []

    def note(self, notes: Sequence[str]) -> None:
        save_whole(self.folder / "notes.json", json.dumps(list(notes), ensure_ascii=False).encode())

    # --- pairs as they come ---

    def show(self, shown: Shown) -> None:
        """Adds a pair, whose pictures are there already, to the gallery."""
        row = {name: getattr(shown, name) for name in Shown.__slots__}
        add_line(self.folder / "shown.jsonl", row)

    def picture(self, key: str, kind: str) -> Path:
        """The image of the `original` or of the `golden` noise of a pair."""
        return self.folder / "shown" / f"{key}-{kind}.png"

    def drop_torn(self) -> None:
        """Removes pictures of pairs that a killed program left half written; for the one who collects."""
        for torn in (self.folder / "shown").glob(f"*{PART}"):
            torn.unlink(missing_ok=True)

    def shown(self) -> list[Shown]:
        """The pairs in the order in which they were made, each once."""
        rows = {str(row.get("key")): row for row in read_lines(self.folder / "shown.jsonl")}
        return [Shown(**row) for row in rows.values() if row.keys() == set(Shown.__slots__)]

    def won(self) -> Comparison | None:
        """How often golden noise won so far, by the scorer that the pairs are chosen by."""
        found = self.shown()
        return compare([each.original for each in found], [each.golden for each in found]) if found else None

    # --- networks ---

    def curves(self) -> list[Curve]:
        """Its trainings, the newest last."""
        found = [*(self.folder / "networks").glob("*/about.json")]
        return [curve for about in sorted(found, key=age) if (curve := _curve(about)) is not None]

    def newest(self) -> Curve | None:
        curves = self.curves()
        return curves[-1] if curves else None


def golden_folder(workspace: Workspace) -> Path:
    """Where studies lie."""
    folder = workspace.path / "golden"
    folder.mkdir(exist_ok=True)
    return folder


def create(workspace: Workspace, request: StudyRequest) -> Study:
    """A new study.

    Raises:
        DataError: the disk is full.
    """
    study = Study(golden_folder(workspace) / new_id())
    study.ask(request)
    return study


def find(workspace: Workspace, study_id: str) -> Study:
    """The study of that id, or of that name.

    Raises:
        DataError: there is none.
    """
    known = studies(workspace)
    for study in known:
        if study_id and study_id in (study.id, study.request.name):
            return study
    names = ", ".join(f"“{study.request.name or study.id}”" for study in known)
    raise DataError(
        f"There is no collection “{study_id}” of golden noise.",
        f"There are: {names}." if names else "Collect pairs first.",
    )


def by_id(workspace: Workspace, study_id: str) -> Study | None:
    """The study of that id, if there is one; quick, whatever text comes in."""
    folder = golden_folder(workspace) / study_id if study_id.isalnum() else None
    return Study(folder) if folder is not None and (folder / "study.json").is_file() else None


def studies(workspace: Workspace) -> list[Study]:
    """Those that can be read, the newest first."""
    found: list[tuple[datetime, Study]] = []
    for file in golden_folder(workspace).glob("*/study.json"):
        try:
            found.append(((study := Study(file.parent)).request.created, study))
        except DataError:
            continue
    return [study for _, study in sorted(found, key=lambda each: each[0], reverse=True)]


def key_of(*parts: Any) -> str:
    """A short name for what these determine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def age(file: Path) -> int:
    return file.stat().st_mtime_ns


def _changed(before: StudyRequest, after: StudyRequest) -> list[str]:
    """In words, what differs that pairs depend on."""
    fixed = [*RedenoiseSettings.model_fields, "height", "width"]
    fields = CollectSettings.model_fields
    found = {fields[name].title: (getattr(before.settings, name), getattr(after.settings, name)) for name in fixed}
    found |= {"model": (before.model, after.model), "judged by": (before.scorer, after.scorer)}
    if before.scorer == "clip":
        found["by the model"] = (before.backbone, after.backbone)
    return [f"{title} {one}, not {other}" for title, (one, other) in found.items() if one != other]


def _curve(about: Path) -> Curve | None:
    """What is known of a training; its history is in the head of the file that it goes on from."""
    try:
        known = json.loads(about.read_bytes())
        history: list[list[float]] = []
        if (about.parent / LAST).exists():
            with safe_open(about.parent / LAST, framework="numpy") as file:
                history = json.loads((file.metadata() or {})["npnet"])["facts"]["history"]
        return Curve(about.parent, [row[0] for row in history], [row[1] for row in history], **known)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError):
        return None
