"""Files that are written whole or not at all, lines that are only ever added, and what is said where that fails."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from engines.errors import DataError
from engines.files import disk_is_full, whole_file


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says in words why a file could not be written.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        full = disk_is_full(error)
        what = "The disk is full" if full else "The folder cannot be written"
        remedy = "Free some space" if full else "Change its permissions, or choose another one"
        raise DataError(
            f"{what}: “{path.name}” was not saved. What was saved before is still there.",
            f"{remedy}, then start again: it goes on from there.",
            str(error),
        ) from error


def save_whole(path: Path, content: bytes) -> None:
    """Writes a file beside its place, and puts it there when it is complete; an earlier one stays until then.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    with writing(path), whole_file(path) as file:
        file.write(content)


def add_line(path: Path, content: Mapping[str, Any]) -> None:
    """Adds a line of JSON; one before it that a killed program left torn is closed first.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    line = json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    with writing(path), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What `add_line` added, without torn lines; nothing where there is no file. Not to be changed: it is cached."""
    try:
        found = path.stat()
    except OSError:
        return []
    return _lines(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=32)
def _lines(path: Path, _size: int, _stamp: int) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
