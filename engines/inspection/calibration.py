"""How far the probabilities of a prompt can be taken at their word. Torch-free, from the stored answers.

Reliability diagram and expected calibration error: Guo, Pleiss, Sun, Weinberger, “On Calibration of Modern Neural
Networks”, ICML 2017, section 2 and equation 3. Equal-mass bins: Nixon et al., “Measuring Calibration in Deep
Learning”, CVPR workshops 2019, section 4.2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from engines.inspection.answers import Answers, Bools, Floats, Ints, aligned

BINS = 15
RESAMPLES = 1000
MOST_DRAWN = 20_000_000
"""Answers that are drawn in all for one interval: fewer resamples for very many images."""
Binning = Literal["equal-width", "equal-mass"]


@dataclass(frozen=True)
class Bin:
    """Answers of about the same sureness."""

    confidence: float
    """Mean probability of what was said."""
    accuracy: float
    share: float
    """Of all images."""


@dataclass(frozen=True)
class Interval:
    """A value and where it may lie (95%)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassCalibration:
    """Images of one true class: mean probability of what was said of them, and how often that was right."""

    position: int
    images: int
    confidence: float
    accuracy: float
    ece: float


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities of one prompt fit what happened."""

    images: int
    ece: Interval
    """Expected calibration error over 15 equally wide bins."""
    ece_equal_mass: Interval
    """The same over 15 bins with equally many images."""
    surplus: float
    """Mean confidence minus share right: above 0 it is too sure."""
    bins: list[Bin]
    per_class: list[ClassCalibration]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bin_places(sure: Floats, binning: Binning = "equal-width", bins: int = BINS) -> Ints:
    """Bin [N] of every answer by its probability [N]; bins are open below and closed above, as in the paper.

    Equal-mass bins hold equally many answers (their numbers differ by one at most), ties in the order given.
    """
    if binning == "equal-width":
        return np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    ranks = np.empty(len(sure), dtype=np.int64)
    ranks[np.argsort(sure, kind="stable")] = np.arange(len(sure))
    return ranks * bins // max(1, len(sure))


def expected_calibration_error(sure: Floats, right: Bools, binning: Binning = "equal-width", bins: int = BINS) -> float:
    """Mean over bins of |share right - mean probability|, weighted by the images in each; NaN without images."""
    if not len(sure):
        return float("nan")
    return float(np.abs(np.bincount(bin_places(sure, binning, bins), right - sure)).sum() / len(sure))


def calibration(found: Answers, resamples: int = RESAMPLES, seed: int = 0) -> Calibration | None:
    """Calibration of one prompt on its test images; None where the run is too old to have kept its probabilities."""
    if found.sure is None:
        return None
    sure, right = found.sure, found.right
    errors = [_error(sure, right, binning, resamples, seed) for binning in ("equal-width", "equal-mass")]
    surplus = float((sure - right).mean())
    return Calibration(len(sure), errors[0], errors[1], surplus, reliability(sure, right), _per_class(found))


def calibration_change(
    before: Answers, after: Answers, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Calibration, Calibration, Interval] | None:
    """Both prompts on the images that both were tested on, and the change of the error (equal width) with its interval.

    The images are drawn again for both at once.
    """
    pair = aligned([before, after])
    if not pair or pair[0].sure is None or pair[1].sure is None:
        return None
    first, second = calibration(pair[0], resamples, seed), calibration(pair[1], resamples, seed)
    assert first is not None
    assert second is not None
    drawn = [_drawn(each.sure, each.right, "equal-width", resamples, seed) for each in pair if each.sure is not None]
    change = second.ece.value - first.ece.value
    return first, second, _interval(change, drawn[1] - drawn[0])


def reliability(sure: Floats, right: Bools, binning: Binning = "equal-width", bins: int = BINS) -> list[Bin]:
    """The filled bins of a reliability diagram, the least sure first."""
    place = bin_places(sure, binning, bins)
    count = np.bincount(place, minlength=bins)
    filled = np.flatnonzero(count)
    confidence, accuracy = (np.bincount(place, v, minlength=bins)[filled] / count[filled] for v in (sure, right))
    rows = zip(confidence, accuracy, count[filled] / len(sure), strict=True)
    return [Bin(float(c), float(a), float(s)) for c, a, s in rows]


def _per_class(found: Answers) -> list[ClassCalibration]:
    assert found.sure is not None
    rows = []
    for position in np.unique(found.true):
        own = found.true == position
        sure, right = found.sure[own], found.right[own]
        error = expected_calibration_error(sure, right)
        rows.append(ClassCalibration(int(position), int(own.sum()), float(sure.mean()), float(right.mean()), error))
    return rows


def _error(sure: Floats, right: Bools, binning: Binning, resamples: int, seed: int) -> Interval:
    value = expected_calibration_error(sure, right, binning)
    found = _interval(value, _drawn(sure, right, binning, resamples, seed))
    return Interval(value, max(0.0, found.low), found.high)


def _interval(value: float, drawn: Floats) -> Interval:
    """Percentile interval of 95%, moved by the bootstrap's estimate of the bias: few images give too high errors."""
    low, high = np.quantile(drawn, [0.025, 0.975]) - (drawn.mean() - value)
    return Interval(value, float(low), float(high))


def _drawn(sure: Floats, right: Bools, binning: Binning, resamples: int, seed: int) -> Floats:
    """Errors of images drawn again with replacement; bins stay where the whole set has them."""
    rng = np.random.default_rng(seed)
    gap, place, n = right - sure, bin_places(sure, binning), len(sure)
    times = min(resamples, max(100, MOST_DRAWN // max(1, n)))
    errors = []
    for _ in range(times):
        chosen = rng.integers(0, n, n)
        errors.append(np.abs(np.bincount(place[chosen], gap[chosen])).sum() / n)
    return np.array(errors)
