"""Photos that somebody looks at together, kept in the workspace so that nothing is lost on reload. No torch."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.data.names import file_name, free_name
from engines.errors import DataError
from engines.store import Workspace, new_id

_ID = re.compile(r"[0-9a-f]{12}")
KEPT_DAYS = 30
"""Photos nobody opened for so long are forgotten, copies and previews; originals lie elsewhere and are not touched."""
NOT_KEPT = "The photos could not be kept: the disk is full, or the workspace cannot be written."


@dataclass(frozen=True)
class Group:
    """Photos in their order; files that were dropped are copies, those of a folder lie where they were."""

    id: str
    photos: tuple[Path, ...]


def groups_folder(workspace: Workspace) -> Path:
    """Where pages may read pictures from."""
    folder = workspace.folder("media") / "backlit"
    folder.mkdir(exist_ok=True)
    return folder


def group_folder(workspace: Workspace, group_id: str) -> Path:
    """
    Raises:
        DataError: there is no such group.
    """
    folder = groups_folder(workspace) / group_id
    if not _ID.fullmatch(group_id) or not folder.is_dir():
        raise DataError("These photos are no longer here.", "Open them again.")
    return folder


def new_group(workspace: Workspace, photos: Sequence[Path], copy: bool = False) -> Group:
    """Keep which photos belong together; with `copy` the files themselves, too.

    Raises:
        DataError: the disk is full, or a file cannot be read.
    """
    _forget_old(workspace)
    group_id = new_id()
    folder = groups_folder(workspace) / group_id
    try:
        folder.mkdir()
        kept = _copied(photos, folder / "originals") if copy else [photo.absolute() for photo in photos]
        (folder / "photos.json").write_text(json.dumps([str(each) for each in kept]), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(NOT_KEPT, "Free some space and try again.", str(error)) from error
    return Group(group_id, tuple(kept))


def read_group(workspace: Workspace, group_id: str) -> Group:
    """
    Raises:
        DataError: there is no such group.
    """
    try:
        file = group_folder(workspace, group_id) / "photos.json"
        found = json.loads(file.read_text(encoding="utf-8"))
        file.touch()
        return Group(group_id, tuple(Path(str(each)) for each in found))
    except (OSError, ValueError, TypeError) as error:
        raise DataError("These photos are no longer here.", "Open them again.", str(error)) from error


def _forget_old(workspace: Workspace) -> None:
    oldest = time.time() - KEPT_DAYS * 24 * 3600
    for file in groups_folder(workspace).glob("*/photos.json"):
        if file.stat().st_mtime < oldest:
            shutil.rmtree(file.parent, ignore_errors=True)


def _copied(photos: Iterable[Path], folder: Path) -> list[Path]:
    folder.mkdir()
    kept: list[Path] = []
    for photo in photos:
        name = file_name(photo.name)
        stem, suffix = Path(name).stem, Path(name).suffix
        name = free_name(stem, (each.stem for each in kept)) + suffix
        kept.append(Path(shutil.copyfile(photo, folder / name)))
    return kept
