"""Fill a feature cache: decode in threads, embed meanwhile, leave out what is there, survive a kill."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from filelock import Timeout
from numpy.typing import NDArray
from torch import Tensor

from engines.backbones.backbone import Backbone
from engines.backbones.features import FeatureCache
from engines.errors import BackboneError, PromptloupeError

Progress = Callable[[float, str], None]


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
    sample_ids: Sequence[int],
    load_pixels: Callable[[int], Tensor],
    backbone: Backbone,
    batch_size: int = 64,
    progress: Progress = lambda fraction, message: None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> BuildReport:
    """Compute the rows that the cache lacks.

    Args:
        sample_ids: samples wanted; those finished already are passed over.
        load_pixels: sample id -> [3, H, W], called in several threads; an image it fails on is left out and reported.
        batch_size: halved when the memory runs out, which `progress` is told.
        progress: called with the finished fraction (0 to 1) and a message.
        check_cancelled: called between batches; raises to stop. Rows finished so far stay.
    Raises:
        BackboneError: not even a single image fits the memory.
        DataError: the disk is full.
    """
    total = len(sample_ids)
    while True:
        try:
            cache.building.acquire(timeout=0.5)  # the system frees the lock when its holder dies
            break
        except Timeout:
            check_cancelled()
            progress(0.0, "Another job is computing these features: waiting for it.")
    try:
        todo = list(dict.fromkeys(cache.missing(sample_ids)))
        report = BuildReport(reused=total - len(todo))
        note = ""
        with (  # left in reverse order: images nobody waits for are dropped before the pool finishes the others
            ThreadPoolExecutor(min(8, os.cpu_count() or 1), "decode") as pool,
            closing(_decode(pool, todo, load_pixels, 2 * batch_size)) as decoded,
        ):
            while batch := list(islice(decoded, batch_size)):
                check_cancelled()
                good = [(sample, pixels) for sample, pixels in batch if isinstance(pixels, Tensor)]
                report.failed |= {sample: str(reason) for sample, reason in batch if not isinstance(reason, Tensor)}
                if good:
                    features, fitting = _embed(backbone, torch.stack([pixels for _, pixels in good]), batch_size)
                    cache.write([sample for sample, _ in good], features)
                    report.computed += len(good)
                    if fitting < batch_size:
                        batch_size = fitting
                        note = f" Memory ran out, so {batch_size} images go at a time."
                progress(report.seen / total, f"Features of {report.seen:,} of {total:,} images.{note}")
    finally:
        cache.building.release()
    return report


def _decode(
    pool: ThreadPoolExecutor, sample_ids: Sequence[int], load_pixels: Callable[[int], Tensor], ahead: int
) -> Generator[tuple[int, Tensor | str], None, None]:
    """Pixels of the samples in their order, or the reason why there are none; at most `ahead` wait decoded."""

    def load(sample: int) -> Tensor | str:
        try:
            return load_pixels(sample)
        except PromptloupeError as error:
            return error.what
        except MemoryError:
            raise
        except Exception as error:  # image libraries raise anything on a broken file; one image must not stop the job
            return f"{type(error).__name__}: {error}"

    waiting: deque[tuple[int, Future[Tensor | str]]] = deque()
    source = iter(sample_ids)
    try:
        while True:
            for sample in islice(source, ahead - len(waiting)):
                waiting.append((sample, pool.submit(load, sample)))
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
