"""Faults that tests put in the way of a program."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def full_disk(name: str = "") -> Iterator[None]:
    """The disk is full, for files whose name contains `name` (needs /proc; without a name, for all)."""
    write_through = os.fsync

    def full(file: int) -> None:
        if name in (os.readlink(f"/proc/self/fd/{file}") if name else ""):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_through(file)

    with mock.patch("os.fsync", full):
        yield
