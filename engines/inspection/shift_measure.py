"""Numbers of feature shift (RESTORE, arXiv 2403.06136; the formulas are a reconstruction of its words).

behind block l   s_l = |h~_l - h_l| / |h_l|           of the class token of an image, the end token of a class
output           s_out = 1 - cos(f~, f)               in the joint space
averages         v over images, t over classes        D_l = |v_l - t_l|, D = mean_l D_l, D_out = |v_out - t_out|
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.inspection.shift_answers import Average
from engines.inspection.shift_towers import Look, Reading, Untold, apart, unit
from engines.runs.material import Item

Numbers = NDArray[np.float64]
RESAMPLES = 1000
STILL = 1e-6
"""Moves of unit features that are shorter than this have no direction."""


@dataclass(frozen=True)
class Measured:
    """N images and C classes. What cannot be told of any is None, of a single one NaN."""

    images: Numbers
    """[N]: s_out."""
    words: Numbers
    """[C]: s_out."""
    direction: Numbers
    """[C]: cosine between the mean move of a class's images and the move of its words."""
    labels: NDArray[np.int64]
    """[N], from 0 to C - 1."""
    alignment: tuple[Numbers, Numbers]
    """[N] before and after: cosine with the words of the true class."""
    margin: tuple[Numbers, Numbers]
    """[N] before and after: alignment less the best cosine among the other classes."""
    image_blocks: Numbers | None
    """[L, N]"""
    image_blocks_reason: str
    text_blocks: Numbers | None
    """[L, C]"""
    text_blocks_reason: str
    surgery_images: Numbers | None
    """[N]"""
    surgery_words: Numbers | None
    """[C]"""


class _Looks:
    """What is kept of many batches: words that depend on the image are summed up, as there may be very many."""

    def __init__(self, classes: Tensor) -> None:
        self.classes = classes
        self.before: list[Tensor] = []
        self.after: list[Tensor] = []
        self.cosines: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.words: list[Tensor] = []
        self.blocks: list[Tensor] = []
        self.surgery: list[Tensor] = []

    def add(self, look: Look) -> None:
        self.before.append(look.before.cpu())
        self.after.append(look.after.cpu())
        for learned in (False, True):
            self.cosines[learned].append(look.cosines(learned).cpu()[:, self.classes])
        words = [each if each.dim() == 2 else each.sum(dim=0) for each in (look.words_before, look.words_after)]
        if not self.words or look.words_after.dim() == 3:
            sums = self.words or [torch.zeros(())] * 2
            self.words = [known + each.cpu()[self.classes] for known, each in zip(sums, words, strict=True)]
        if look.blocks is not None:
            self.blocks.append(look.blocks)
        if look.surgery is not None:
            self.surgery.append(look.surgery)


def measure(
    reading: Reading[Any],
    labels: Tensor,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    columns: Sequence[int] | None = None,
) -> Measured:
    """What `reading` says of N images with `labels` [N], given as batches of raw features [B, D] and pixels.

    Args:
        columns: the C classes that count among those of the method, if not all do.
    """
    chosen = torch.tensor(range(len(reading.method.class_names)) if columns is None else list(columns))
    looks = _Looks(chosen)
    for raw, pixels in batches:
        looks.add(reading.look(raw, pixels))
    before, after = torch.cat(looks.before), torch.cat(looks.after)
    words_before, words_after = (each if torch.equal(*looks.words) else unit(each) for each in looks.words)
    alignment, margin = zip(*(_margins(torch.cat(each), labels) for each in looks.cosines), strict=True)
    text_blocks, reason = _text_blocks(reading)
    surgery_words = reading.surgery_words
    return Measured(
        images=apart(after, before).numpy(),
        words=apart(words_after, words_before).numpy(),
        direction=_directions(after - before, words_after - words_before, labels),
        labels=labels.numpy(),
        alignment=alignment,
        margin=margin,
        image_blocks=_numbers(torch.cat(looks.blocks, dim=1)) if looks.blocks else None,
        image_blocks_reason=reading.image_blocks_reason,
        text_blocks=None if text_blocks is None else _numbers(text_blocks.cpu()[:, chosen]),
        text_blocks_reason=reason,
        surgery_images=_numbers(torch.cat(looks.surgery)) if looks.surgery else None,
        surgery_words=None if surgery_words is None else _numbers(surgery_words.cpu()[chosen]),
    )


def together(parts: Sequence[Measured]) -> Measured:
    """All classes and images of `parts`, in their order."""
    offsets = np.cumsum([0, *(len(part.words) for part in parts)])

    def joined(values: Sequence[Numbers]) -> Numbers:
        return np.concatenate(values, axis=-1)

    def told(values: Sequence[Numbers | None]) -> Numbers | None:
        known = [value for value in values if value is not None]
        return joined(known) if len(known) == len(values) else None

    def both(pairs: Sequence[tuple[Numbers, Numbers]]) -> tuple[Numbers, Numbers]:
        return joined([pair[0] for pair in pairs]), joined([pair[1] for pair in pairs])

    return Measured(
        images=joined([part.images for part in parts]),
        words=joined([part.words for part in parts]),
        direction=joined([part.direction for part in parts]),
        labels=np.concatenate([part.labels + first for part, first in zip(parts, offsets, strict=False)]),
        alignment=both([part.alignment for part in parts]),
        margin=both([part.margin for part in parts]),
        image_blocks=told([part.image_blocks for part in parts]),
        image_blocks_reason=parts[0].image_blocks_reason,
        text_blocks=told([part.text_blocks for part in parts]),
        text_blocks_reason=parts[0].text_blocks_reason,
        surgery_images=told([part.surgery_images for part in parts]),
        surgery_words=told([part.surgery_words for part in parts]),
    )


class Averages:
    """Means with 95% intervals; images and classes are drawn with replacement, the same draws for every block."""

    def __init__(self, measured: Measured, seed: int) -> None:
        self.measured, self.seed = measured, seed

    def images(self, values: Numbers | None) -> Average | None:
        return self._one(values, len(self.measured.images), 0)

    def words(self, values: Numbers | None) -> Average | None:
        return self._one(values, len(self.measured.words), 1)

    def gap(self) -> Average | None:
        """D_out."""
        m = self.measured
        if not len(m.images):
            return None
        return self._gap(m.images[None], m.words[None])[0]

    def block_gaps(self) -> tuple[list[Average], Average] | None:
        """D_l of the blocks that both towers have, and D."""
        images, words = self.measured.image_blocks, self.measured.text_blocks
        if images is None or words is None or not images.shape[1]:
            return None
        blocks = min(len(images), len(words))
        *each, mean = self._gap(images[:blocks], words[:blocks])
        return each, mean

    def _one(self, values: Numbers | None, count: int, stream: int) -> Average | None:
        values = None if values is None else values[~np.isnan(values)]
        if values is None or not len(values):
            return None
        drawn = self._drawn(values[None], stream)[0]
        return _average(float(values.mean()), float(values.std()), drawn, len(values))

    def _gap(self, images: Numbers, words: Numbers) -> list[Average]:
        """|v - t| for each of L rows [L, N] and [L, C], and the mean over the rows."""
        true = np.abs(images.mean(axis=1) - words.mean(axis=1))
        drawn = np.abs(self._drawn(images, 0) - self._drawn(words, 1))
        rows = [*zip(true, drawn, strict=True), (true.mean(), drawn.mean(axis=0))]
        return [_average(float(value), 0.0, draws, images.shape[1]) for value, draws in rows]

    def _drawn(self, rows: Numbers, stream: int) -> Numbers:
        """Means [L, R] of R bootstrap samples of the columns of [L, N]; the order of the columns plays no part."""
        count = rows.shape[1]
        order = np.lexsort(rows)
        picks = np.random.default_rng([self.seed, stream]).multinomial(count, [1 / count] * count, RESAMPLES)
        return np.asarray(rows[:, order] @ picks.T / count)


def _average(mean: float, std: float, drawn: Numbers, count: int) -> Average:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Average(mean, std, float(low), float(high), count)


def _margins(cosines: Tensor, labels: Tensor) -> tuple[Numbers, Numbers]:
    """[N] alignment with the true class and margin to the best other, NaN where there is no other."""
    true = cosines.gather(1, labels[:, None])[:, 0]
    others = cosines.scatter(1, labels[:, None], -torch.inf).max(dim=1).values
    return true.numpy(), np.where(np.isinf(others), np.nan, (true - others).numpy())


def _directions(images: Tensor, words: Tensor, labels: Tensor) -> Numbers:
    found = np.full(len(words), np.nan)
    for c in labels.unique().tolist():
        image, word = images[labels == c].mean(dim=0), words[c]
        if image.norm() > STILL and word.norm() > STILL:
            found[c] = float(torch.dot(image, word) / (image.norm() * word.norm()))
    return found


def _text_blocks(reading: Reading[Any]) -> tuple[Tensor | None, str]:
    try:
        return reading.text_blocks(), ""
    except Untold as reason:
        return None, str(reason)


def _numbers(tensor: Tensor) -> Numbers:
    return tensor.double().cpu().numpy()


def probe(items: Sequence[Item], most: int, seed: int) -> list[Item]:
    """At most `most` of `items`, evenly over classes, the same for a seed; the order of classes plays no part."""
    by_class: dict[int, list[Item]] = {}
    for item in sorted(items, key=lambda item: _lot(item, seed)):
        by_class.setdefault(item.label, []).append(item)
    ranked = [(rank, _lot(item, seed), item) for own in by_class.values() for rank, item in enumerate(own)]
    return [item for _, _, item in sorted(ranked, key=lambda each: each[:2])[:most]]


def _lot(item: Item, seed: int) -> tuple[str, int]:
    return sha256(f"{seed}/{item.sha256}".encode()).hexdigest(), item.sample_id
