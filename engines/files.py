"""Files that are there whole or not at all, and what is said where one cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

PART = ".part"
"""How a file ends that is still being written; a killed program may leave one, and nobody reads it."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def disk_is_full(error: OSError) -> bool:
    """Whether a write failed for want of space, and not of permission."""
    return error.errno in _FULL


@contextmanager
def whole_file(
    path: Path, *, durable: bool = True, put: Callable[[Path, Path], object] = os.replace
) -> Iterator[BinaryIO]:
    """A file to write into, which comes to `path` when the block ends well; an earlier one stays there until then.

    Args:
        path: its place; folders that are missing are made.
        durable: whether it must survive a loss of power from then on. What can be made again need not, and is quicker.
        put: brings the complete file to its place.

    Raises:
        OSError: the disk is full, or the folder cannot be written. Nothing half written stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # not that `path` is taken, which `put` may say
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from error
    part = path.with_name(f".{path.name[:48]}.{uuid4().hex}{PART}")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        put(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Writes a file (text as UTF-8) whole or not at all; see `whole_file`."""
    with whole_file(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)
