"""Saved comparisons: which results to show together, under a name. One JSON file each in the workspace.

The choice is kept, not the numbers: seeds that are trained later join. Deleting moves the file to the workspace's bin,
where it stays for 30 days. Torch-free.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from engines.errors import ConfigError
from engines.files import write_whole
from engines.reports.results import MOST
from engines.store import Workspace, new_id, now

FOLDER = "comparisons"
KEPT_FOR = 30 * 24 * 3600
"""Seconds in the bin."""


class Comparison(BaseModel):
    """A saved comparison."""

    id: str = Field(default_factory=new_id, pattern=r"^[0-9a-f]{12}$")
    name: str = Field(min_length=1, max_length=120)
    dataset: str
    """Name of the data set, for lists."""
    results: list[str] = Field(min_length=1, max_length=MOST)
    """Keys of experiments."""
    saved_at: str = Field(default_factory=lambda: now().isoformat(timespec="seconds"))


def save(workspace: Workspace, name: str, dataset: str, results: list[str]) -> Comparison:
    """Save a choice under a name; one of the same name is replaced, and goes to the bin.

    Raises:
        ConfigError: the name is empty or too long, or nothing (or too much) is chosen.
    """
    name = " ".join(name.split())
    if not name or len(name) > 120:
        raise ConfigError("A comparison needs a name of 1 to 120 letters.", "Give it one, such as “Tumour board, May”.")
    try:
        made = Comparison(name=name, dataset=dataset, results=list(dict.fromkeys(results)))
    except ValidationError as error:
        raise ConfigError(f"Choose between one and {MOST} results first.", "Then save them.", str(error)) from error
    for old in comparisons(workspace):
        if old.name.casefold() == name.casefold():
            delete(workspace, old.id)
    folder = _folder(workspace)
    write_whole(folder / f"{made.id}.json", made.model_dump_json(indent=2))
    return made


def comparisons(workspace: Workspace) -> list[Comparison]:
    """The saved comparisons, newest first; files that are damaged are passed over."""
    found = []
    for file in _folder(workspace).glob("*.json"):
        try:
            found.append(Comparison.model_validate_json(file.read_bytes()))
        except (OSError, ValidationError):
            continue
    return sorted(found, key=lambda each: (each.saved_at, each.id), reverse=True)


def find(workspace: Workspace, comparison_id: str) -> Comparison:
    """The saved comparison with this id.

    Raises:
        ConfigError: it is no longer there.
    """
    found = next((each for each in comparisons(workspace) if each.id == comparison_id), None)
    if found is None:
        raise ConfigError("This comparison is no longer there.", "Choose another one, or save it again.")
    return found


def delete(workspace: Workspace, comparison_id: str) -> None:
    """Move a saved comparison to the bin; what has been there for 30 days goes for good. Twice changes nothing."""
    binned = _bin(workspace)
    for old in binned.glob("*.json"):
        if time.time() - old.stat().st_mtime > KEPT_FOR:
            old.unlink(missing_ok=True)
    file = _file(_folder(workspace), comparison_id)
    if file is not None:
        os.utime(file)
        file.replace(binned / file.name)


def restore(workspace: Workspace, comparison_id: str) -> None:
    """Take a saved comparison back out of the bin.

    Raises:
        ConfigError: it is no longer in the bin.
    """
    file = _file(_bin(workspace), comparison_id)
    if file is None:
        raise ConfigError("This comparison is no longer in the bin.", "Save it again on the page Compare.")
    file.replace(_folder(workspace) / file.name)


def _file(folder: Path, comparison_id: str) -> Path | None:
    return next((file for file in folder.glob("*.json") if file.stem == comparison_id), None)


def _folder(workspace: Workspace) -> Path:
    folder = workspace.path / FOLDER
    folder.mkdir(exist_ok=True)
    return folder


def _bin(workspace: Workspace) -> Path:
    folder = workspace.folder("bin") / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder
