"""Listing the files of a folder: quickly, in the same order everywhere, and never out of the folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.data.base import LeftOut
from engines.data.names import is_text
from engines.errors import DataError

IGNORED = {"thumbs.db", "desktop.ini", "__macosx"}
DEEPEST = 40

LINK_OUT = "a link that leads out of the folder"
LINKED_FOLDER = "a link to a folder"
CLOSED_FOLDER = "a folder that cannot be opened"
BAD_NAME = "its name is not valid text"
NOT_A_FILE = "not a file"
TOO_DEEP = f"more than {DEEPEST} folders deep"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree: its path in it, and whatever its tree needs to fetch its content."""

    parts: tuple[str, ...]
    handle: Any

    @property
    def name(self) -> str:
        return "/".join(self.parts)

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.parts[-1])[1].lower()


def ignored(name: str) -> bool:
    """Files that systems leave behind and nobody means to import."""
    return name.startswith(".") or name.lower() in IGNORED


def list_files(root: Path) -> tuple[list[Entry], list[LeftOut]]:
    """All files below `root`, sorted by path (handles are paths), and what was not followed, with its reason.

    Raises:
        DataError: `root` itself cannot be opened.
    """
    root = root.resolve()
    entries: list[Entry] = []
    left_out: list[LeftOut] = []
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop()
        try:
            with os.scandir(os.path.join(root, *parts)) as found:
                for item in found:
                    _sort_in(root, parts, item, entries, left_out, waiting)
        except OSError as error:
            if not parts:
                raise DataError(
                    f"The folder “{root.name}” cannot be opened.", "Check that you may read it.", str(error)
                ) from error
            left_out.append(LeftOut("/".join(parts), CLOSED_FOLDER))
    entries = _without_parts(entries)
    entries.sort(key=lambda entry: entry.parts)
    left_out.sort(key=lambda one: one.file)
    return entries, left_out


def _without_parts(entries: list[Entry]) -> list[Entry]:
    """Without the files of which a MIRAX slide consists: they lie in a folder beside it that is called like it."""
    inside = {(*entry.parts[:-1], entry.parts[-1][:-5]) for entry in entries if entry.suffix == ".mrxs"}
    return [entry for entry in entries if entry.parts[:-1] not in inside] if inside else entries


def _sort_in(
    root: Path,
    parts: tuple[str, ...],
    item: os.DirEntry[str],
    entries: list[Entry],
    left_out: list[LeftOut],
    waiting: list[tuple[str, ...]],
) -> None:
    place = (*parts, item.name)
    reason = ""
    if ignored(item.name):
        return
    if not is_text(item.name):
        reason = BAD_NAME
        place = (*parts, item.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    elif item.is_symlink():
        target = Path(os.path.realpath(item.path))
        if not target.is_relative_to(root):
            reason = LINK_OUT
        elif target.is_dir():
            reason = LINKED_FOLDER
        else:
            entries.append(Entry(place, target))
    elif item.is_dir(follow_symlinks=False):
        if len(place) > DEEPEST:
            reason = TOO_DEEP
        else:
            waiting.append(place)
    elif item.is_file(follow_symlinks=False):
        entries.append(Entry(place, Path(item.path)))
    else:
        reason = NOT_A_FILE
    if reason:
        left_out.append(LeftOut("/".join(place), reason))
