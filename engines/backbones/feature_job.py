"""Fill a feature cache: decode in threads, embed meanwhile, leave out what is there, survive a kill."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from filelock import Timeout
from numpy.typing import NDArray
from torch import Tensor

from engines.backbones.backbone import Backbone
from engines.backbones.features import FeatureCache
from engines.errors import BackboneError, PromptloupeError

T = TypeVar("T")
Progress = Callable[[int, int, str], None]


@dataclass
class BuildReport:
    """What became of the items: counts, and in words why images were left out, by sample id."""

    computed: int = 0
    reused: int = 0
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        return self.computed + self.reused + len(self.failed)


def build_features(
    cache: FeatureCache,
    items: Sequence[tuple[int, T]],
    load_pixels: Callable[[T], Tensor],
    backbone: Backbone,
    batch_size: int = 64,
    progress: Progress = lambda done, total, message: None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> BuildReport:
    """Compute the rows that the cache lacks.

    Args:
        items: (sample id, whatever `load_pixels` takes); finished samples are passed over.
        load_pixels: item -> [3, H, W], called in several threads; an image it fails on is left out and reported.
        batch_size: halved when the memory runs out, which `progress` is told.
        progress: called with rows done, rows in all, and a message ("" unless something is worth telling).
        check_cancelled: called between batches; raises to stop. Rows finished so far stay.
    Raises:
        BackboneError: not even a single image fits the memory.
        DataError: the disk is full.
    """
    total = len(items)
    while True:
        try:
            cache.building.acquire(timeout=0.5)  # the system frees the lock when its holder dies
            break
        except Timeout:
            check_cancelled()
            progress(0, total, "Another job is computing these features: waiting for it.")
    try:
        wanted = set(cache.missing([sample for sample, _ in items]))
        todo = [item for item in items if item[0] in wanted]
        report = BuildReport(reused=total - len(todo))
        progress(report.seen, total, "")
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "decode") as pool:
            decoded = _decode(pool, todo, load_pixels, 2 * batch_size)
            while batch := list(islice(decoded, batch_size)):
                check_cancelled()
                good = [(sample, pixels) for sample, pixels in batch if isinstance(pixels, Tensor)]
                report.failed |= {sample: str(reason) for sample, reason in batch if not isinstance(reason, Tensor)}
                fitting = batch_size
                if good:
                    features, fitting = _embed(backbone, torch.stack([pixels for _, pixels in good]), batch_size)
                    cache.write([sample for sample, _ in good], features)
                    report.computed += len(good)
                shrunk = fitting < batch_size
                batch_size = fitting
                message = f"Memory ran out: going on with {batch_size} images at a time." if shrunk else ""
                progress(report.seen, total, message)
    finally:
        cache.building.release()
    return report


def _decode(
    pool: ThreadPoolExecutor, items: Sequence[tuple[int, T]], load_pixels: Callable[[T], Tensor], ahead: int
) -> Iterator[tuple[int, Tensor | str]]:
    """Pixels of the items in their order, or the reason why there are none; at most `ahead` wait decoded."""

    def load(item: T) -> Tensor | str:
        try:
            return load_pixels(item)
        except PromptloupeError as error:
            return error.what
        except MemoryError:
            raise
        except Exception as error:  # image libraries raise anything on a broken file; one image must not stop the job
            return f"{type(error).__name__}: {error}"

    waiting: deque[tuple[int, Future[Tensor | str]]] = deque()
    source = iter(items)
    try:
        while True:
            for sample, item in islice(source, ahead - len(waiting)):
                waiting.append((sample, pool.submit(load, item)))
            if not waiting:
                return
            sample, future = waiting.popleft()
            yield sample, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _embed(backbone: Backbone, pixels: Tensor, size: int) -> tuple[NDArray[np.float32], int]:
    """Features [N, D] of pixels [N, 3, H, W], and the batch size that fitted the memory."""
    while True:
        try:
            with torch.no_grad():
                parts = [backbone.encode_image(part).cpu() for part in pixels.split(size)]
            return torch.cat(parts).numpy(), size
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if size == 1:
                raise BackboneError(
                    f"Not even one image fits the memory together with '{backbone.name}'.",
                    "Close other programs, or choose a smaller backbone.",
                    str(error),
                ) from error
        size //= 2
        if backbone.device.type == "cuda":
            torch.cuda.empty_cache()


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError) or "out of memory" in text or "allocate memory" in text
    )
