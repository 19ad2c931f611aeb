"""Coefficients of agreement between readers, with bootstrap intervals.

Ratings are an integer matrix [N images, R readers] of categories 0 … K-1, with -1 where a reader has not read an image.
Images with the same readings are counted together, so that a bootstrap sample is one draw of counts and every
coefficient is a few products of matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ratings = NDArray[np.int64]
Floats = NDArray[np.float64]
DRAWS = 2000
FEWEST_IMAGES = 5
"""Below, an interval would only pretend."""

NOTHING_TWICE = "No image has been read twice yet."
ONE_CLASS = "Only one class was used, so agreement beyond chance cannot be told."


@dataclass(frozen=True)
class Measure:
    """A coefficient and its 95 % interval."""

    value: float | None
    interval: tuple[float, float] | None = None
    """Percentiles of 2000 bootstrap samples of the images; None below 5 images."""
    why: str = ""
    """Why there is no value, in a sentence."""


@dataclass(frozen=True, eq=False)
class Table:
    """Images by pattern: U patterns, each with K counts of readings, seen on so many images."""

    patterns: Ratings
    """[U, R]."""
    images: NDArray[np.int64]
    """[U]: images of each pattern."""
    counts: Floats
    """[U, K]: readings of each category on an image of the pattern."""

    @classmethod
    def of(cls, ratings: Ratings, categories: int) -> Table:
        """Of the images with at least two readings."""
        twice = ratings[(ratings >= 0).sum(axis=1) >= 2]
        patterns, images = np.unique(twice, axis=0, return_counts=True)
        counts = (patterns[:, :, None] == np.arange(categories)).sum(axis=1).astype(float)
        return cls(patterns, images, counts)

    @property
    def size(self) -> int:
        return int(self.images.sum())

    @property
    def used(self) -> int:
        """Categories that were used at all."""
        return int((self.counts.sum(axis=0) > 0).sum())

    def agreeing(self) -> Floats:
        """[U]: share of the pairs of readings of an image that agree."""
        readings = self.counts.sum(axis=1)
        return (self.counts * (self.counts - 1)).sum(axis=1) / (readings * (readings - 1))

    def shares(self) -> Floats:
        """[U, K]: share of an image's readings in each category."""
        return self.counts / self.counts.sum(axis=1, keepdims=True)


Coefficient = Callable[[Table, Floats], Floats]
"""(table, weights [B, U]: how often each pattern is in each of B samples) -> [B], NaN where not defined."""


def percent(table: Table, weights: Floats) -> Floats:
    """Share of agreeing pairs of readings, averaged over images."""
    return weights @ table.agreeing() / weights.sum(axis=1)


def fleiss(table: Table, weights: Floats) -> Floats:
    """Fleiss' kappa (Psychological Bulletin 1971); for images with different numbers of readings in Gwet's form
    (Handbook of Inter-Rater Reliability, 2014), where each image counts the same."""
    images = weights.sum(axis=1)
    share = weights @ table.shares() / images[:, None]
    return _beyond(weights @ table.agreeing() / images, (share**2).sum(axis=1))


def gwet(table: Table, weights: Floats) -> Floats:
    """Gwet's AC1 (British Journal of Mathematical and Statistical Psychology 2008): steady where one class is rare."""
    images = weights.sum(axis=1)
    share = weights @ table.shares() / images[:, None]
    chance = (share * (1 - share)).sum(axis=1) / (table.used - 1) if table.used > 1 else np.full(len(weights), np.nan)
    return _beyond(weights @ table.agreeing() / images, chance)


def krippendorff(table: Table, weights: Floats) -> Floats:
    """Krippendorff's alpha for nominal data (Content Analysis, chapter 11): missing readings are no matter."""
    readings = table.counts.sum(axis=1)
    same = (table.counts * (table.counts - 1)).sum(axis=1) / (readings - 1)
    values = weights @ table.counts
    total = values.sum(axis=1)
    expected = total**2 - (values**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * (total - weights @ same) / expected, np.nan)


def cohen(table: Table, weights: Floats) -> Floats:
    """Cohen's kappa (Educational and Psychological Measurement 1960), of a table of two readers."""
    first, second = table.patterns.T
    categories = table.counts.shape[1]
    ones = np.eye(categories)
    images = weights.sum(axis=1)
    one, other = weights @ ones[first] / images[:, None], weights @ ones[second] / images[:, None]
    return _beyond(weights @ (first == second) / images, (one * other).sum(axis=1))


def _beyond(observed: Floats, chance: Floats) -> Floats:
    """Agreement beyond chance, as a share of what was possible; NaN where chance alone agrees always."""
    room = 1 - chance
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(room > 1e-12, (observed - chance) / room, np.nan)


def measure(coefficient: Coefficient, table: Table, seed: int = 1) -> Measure:
    """The coefficient of a table, with its interval; the same seed gives the same interval."""
    size = table.size
    if not size:
        return Measure(None, why=NOTHING_TWICE)
    value = float(coefficient(table, table.images[None, :].astype(float))[0])
    if not np.isfinite(value):
        return Measure(None, why=ONE_CLASS)
    if size < FEWEST_IMAGES:
        return Measure(value)
    stream = np.random.default_rng(seed)
    samples = coefficient(table, stream.multinomial(size, table.images / size, DRAWS).astype(float))
    samples = samples[np.isfinite(samples)]  # a sample may happen to hold one class only
    if not len(samples):
        return Measure(value)
    low, high = np.quantile(samples, (0.025, 0.975))
    return Measure(value, (float(low), float(high)))
