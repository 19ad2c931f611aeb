"""Results in sentences: what came out, how sure one can be, and what it is compared with.

Shares are fractions of 1. Repeats differ by the seed alone: by the labelled images drawn and the random start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, pstdev
from typing import Any

from engines.reports.words import counted, duration, percent

Z95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95% interval."""


@dataclass(frozen=True)
class Interval:
    """A share and where it may lie: for one repeat Wilson's 95% interval, for several ± one standard deviation."""

    value: float
    low: float
    high: float
    repeats: int = 1

    @property
    def spread(self) -> float:
        return (self.high - self.low) / 2


def wilson(hits: float, images: int) -> tuple[float, float]:
    """95% interval of a share from `hits` right of `images` (Wilson, JASA 1927); (0, 1) without images."""
    if not images:
        return 0.0, 1.0
    share, z2 = hits / images, Z95**2
    centre = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = Z95 * sqrt(share * (1 - share) / images + z2 / (4 * images**2)) / (1 + z2 / images)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def interval(shares: Sequence[float], images: int) -> Interval:
    """Mean of the repeats with its uncertainty.

    Several repeats: ± their standard deviation (dividing by their number, as the papers' scripts do), cut at 0 and 1.
    One: Wilson's 95% interval over the test images.

    Args:
        shares: one a repeat, at least one.
        images: number of test images of each repeat.
    """
    mean = fmean(shares)
    if len(shares) == 1:
        return Interval(mean, *wilson(mean * images, images))
    spread = pstdev(shares)
    return Interval(mean, max(0.0, mean - spread), min(1.0, mean + spread), len(shares))


def uncertainty(found: Interval, images: int) -> str:
    """ "±0.8 over 3 seeds" or "between 87.0% and 94.2% with 95% confidence"."""
    if found.repeats > 1:
        return f"±{100 * found.spread:.1f} over {found.repeats} seeds"
    if not images:
        return "not tested on any image"
    return f"from {counted(images, 'test image')}: between {percent(found.low)} and {percent(found.high)}"


def result_sentence(title: str, trains: bool, summaries: Sequence[Mapping[str, Any]]) -> str:
    """ "CoOp got 91.2% right (±0.8 over 3 seeds); the ready-made prompt 74.0%."

    Args:
        title: the method's name.
        trains: whether the method learns; one that does not has nothing to be compared with but chance.
        summaries: one `Run.summary` a repeat, at least one.
    """
    first = summaries[0]
    images = int(first.get("images", 0))
    if not images:
        return f"{title} is trained, but there was no labelled image left to test it on."
    if "harmonic_mean" in first:
        return _base_to_new_sentence(title, trains, summaries)
    found = interval([s["accuracy"] for s in summaries], images)
    got = f"{title} got {percent(found.value)} right ({uncertainty(found, images)})"
    if not trains:
        chance = 1 / max(1, len(first.get("class_names", [])))
        return f"{got}, without any training; guessing would get {percent(chance)}."
    return f"{got}; the ready-made prompt {percent(_mean(summaries, 'accuracy'))}."


def _base_to_new_sentence(title: str, trains: bool, summaries: Sequence[Mapping[str, Any]]) -> str:
    first = summaries[0]
    base = interval([s["base_accuracy"] for s in summaries], int(first.get("images", 0)))
    new = interval([s["new_accuracy"] for s in summaries], int(first.get("new", {}).get("images", 0)))
    spread = [f" (±{100 * part.spread:.1f})" if part.repeats > 1 else "" for part in (base, new)]
    sentence = (
        f"{title} got {percent(base.value)}{spread[0]} right on the classes it was trained on"
        f" and {percent(new.value)}{spread[1]} on classes it never saw"
        + (f", over {base.repeats} seeds" if base.repeats > 1 else "")
    )
    if not trains:
        return f"{sentence}, without any training."
    ready = _mean(summaries, "base_accuracy"), _mean(summaries, "new_accuracy")
    return f"{sentence}; the ready-made prompt {percent(ready[0])} and {percent(ready[1])}."


def verdict(trains: bool, summaries: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """(kind of notice, sentence): whether training beat the ready-made prompt, and whether that can be chance.

    Called clear where the intervals of the two shares do not overlap (95% over the test images, and one standard
    deviation over the repeats, whichever is wider): a cautious reading, since both saw the same images.
    """
    images = int(summaries[0].get("images", 0))
    if not trains or not images or "zero_shot" not in summaries[0]:
        return "info", ""
    key = "harmonic_mean" if "harmonic_mean" in summaries[0] else "accuracy"
    if key == "harmonic_mean":
        images += int(summaries[0].get("new", {}).get("images", 0))
    mine, ready = fmean(s[key] for s in summaries), _mean(summaries, key)
    gain = mine - ready
    repeats = interval([s[key] for s in summaries], images)
    low = min(wilson(mine * images, images)[0], repeats.low)
    high = max(wilson(mine * images, images)[1], repeats.high)
    ready_low, ready_high = wilson(ready * images, images)
    points = f"{abs(100 * gain):.1f} points"
    on = " on both kinds of classes together (harmonic mean)" if key == "harmonic_mean" else ""
    if low > ready_high:
        return "good", f"Training helped: {points} more than the ready-made prompt{on}, more than chance would explain."
    if high < ready_low:
        again = "Try other settings or more images."
        return "warning", f"Training hurt: {points} less than the ready-made prompt{on}. {again}"
    if round(abs(gain), 4) == 0:
        return "info", "No difference to the ready-made prompt."
    return "info", (
        f"{points} {'more' if gain > 0 else 'less'} than the ready-made prompt{on}, which may be chance"
        f" with {counted(images, 'test image')}: test on more images to be sure."
    )


def calibration_sentence(ece: float, bins: Sequence[Mapping[str, float]]) -> str:
    """How far to trust the probabilities, from the expected calibration error and the bins behind it."""
    surplus = sum(b["share"] * (b["confidence"] - b["accuracy"]) for b in bins)
    off = f"{100 * ece:.1f} points"
    if ece < 0.03:
        return f"Its probabilities can be taken at their word: they are off by {off} on average."
    if abs(surplus) < ece / 3:
        return f"Its probabilities are off by {off} on average, sometimes too high and sometimes too low."
    if surplus > 0:
        return f"It is surer than it should be: its probabilities are too high by {off} on average."
    return f"It is more careful than it need be: its probabilities are too low by {off} on average."


def estimate_sentence(seconds: float, memory_mb: float, repeats: int, note: str = "") -> str:
    """What a training would cost: "About 40 s for each of 3 seeds, 2 min in all, and 310 MB of memory."."""
    each = duration(seconds)
    time = f"About {each}" if repeats == 1 else f"About {each} for each of {repeats} seeds, {_all(seconds, repeats)}"
    memory = f"{memory_mb / 1000:.1f} GB" if memory_mb >= 1000 else f"{max(1, round(memory_mb))} MB"
    return f"{time}, and {memory} of memory. {note}".strip()


def _all(seconds: float, repeats: int) -> str:
    return f"{duration(seconds * repeats)} in all"


def _mean(summaries: Sequence[Mapping[str, Any]], key: str) -> float:
    return fmean(s["zero_shot"][key] for s in summaries)
