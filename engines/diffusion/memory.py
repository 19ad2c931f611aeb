"""Too little memory, said in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engines.errors import BackboneError

_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)


@contextmanager
def memory_watched() -> Iterator[None]:
    """Says in words when the memory, of the GPU or of the computer, does not suffice.

    Raises:
        BackboneError: it did not.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch's own class is a RuntimeError, and not every device raises it
        if isinstance(error, RuntimeError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise BackboneError(
            "The memory is too small for this model at this image size.",
            "Switch on attention slicing, take a smaller image, close other programs, or (with a GPU) choose the CPU.",
            str(error),
        ) from error
