"""Measured feature shift as an answer: classes, groups, images, and what it says in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from engines.inspection.shift_answers import Average, ClassShift, GroupShift, ImageShift, ShiftAnswer
from engines.inspection.shift_measure import Averages, Measured, Numbers, together
from engines.inspection.shift_towers import Reading
from engines.prompts import method_class
from engines.runs.material import Item
from engines.store import Run


class GroupOfClasses(Protocol):
    """What is told of a group here; see `shift.Group`."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> list[int]: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def items(self) -> list[Item]: ...


def answer_of(
    run: Run, reading: Reading[Any], groups: Sequence[GroupOfClasses], parts: Sequence[Measured], probe: int, seed: int
) -> ShiftAnswer:
    """The answer about `run` from what was measured of each group, without the course of the training."""
    whole = together(parts)
    averages = Averages(whole, seed)
    told = {"all": _group(whole, seed)} | {
        g.name: _group(p, seed) for g, p in zip(groups, parts, strict=True) if g.name
    }
    classes = [row for g, p in zip(groups, parts, strict=True) for row in _classes(g, p, seed)]
    samples = [row for g, p in zip(groups, parts, strict=True) for row in _samples(g, p)]
    image_blocks, text_blocks, gaps = whole.image_blocks, whole.text_blocks, averages.block_gaps()
    title = method_class(run.method).info.title  # of GRAM, say, not of the method that it wraps
    return ShiftAnswer(
        run_id=run.id,
        name=run.name,
        method=title,
        protocol=run.protocol,
        seed=run.seed,
        sentences=_sentences(title, told, classes),
        notes=_notes(reading, whole),
        classes=sorted(classes, key=lambda row: row.position),
        groups=told,
        samples=sorted(samples, key=lambda row: (-row.shift, row.sample_id)),
        image_blocks=None if image_blocks is None else [_sure(averages.images(row)) for row in image_blocks],
        image_blocks_reason=whole.image_blocks_reason,
        text_blocks=None if text_blocks is None else [_sure(averages.words(row)) for row in text_blocks],
        text_blocks_reason=whole.text_blocks_reason,
        block_gaps=gaps[0] if gaps else None,
        block_gap=gaps[1] if gaps else None,
        surgery_images=averages.images(whole.surgery_images),
        surgery_words=averages.words(whole.surgery_words),
        probe=probe,
        probe_seed=seed,
    )


def _group(part: Measured, seed: int) -> GroupShift:
    averages = Averages(part, seed)
    return GroupShift(
        images=averages.images(part.images),
        words=averages.words(part.words),
        gap=averages.gap(),
        alignment_before=averages.images(part.alignment[0]),
        alignment_after=averages.images(part.alignment[1]),
        margin_before=averages.images(part.margin[0]),
        margin_after=averages.images(part.margin[1]),
    )


def _classes(group: GroupOfClasses, part: Measured, seed: int) -> list[ClassShift]:
    averages = Averages(part, seed)
    return [
        ClassShift(
            name=group.names[c],
            position=group.classes[c],
            group=group.name,
            words=float(part.words[c]),
            images=averages.images(part.images[part.labels == c]),
            direction=_known(part.direction[c]),
        )
        for c in range(len(group.classes))
    ]


def _samples(group: GroupOfClasses, part: Measured) -> list[ImageShift]:
    return [
        ImageShift(
            sample_id=item.sample_id,
            class_position=item.label,
            shift=float(part.images[i]),
            alignment_before=_known(part.alignment[0][i]),
            alignment_after=_known(part.alignment[1][i]),
            margin_before=_known(part.margin[0][i]),
            margin_after=_known(part.margin[1][i]),
        )
        for i, item in enumerate(group.items)
    ]


# --- words --------------------------------------------------------------------


def _sentences(title: str, groups: dict[str, GroupShift], classes: Sequence[ClassShift]) -> list[str]:
    whole = groups["all"]
    images, words, gap = _sure(whole.images), _sure(whole.words), _sure(whole.gap)
    if not images.mean and not words.mean:
        return [f"{title} moved neither images nor words: both are as the untouched model sees them."]
    moves = [
        f"moved the words by {_span(words)}" if words.mean else "left the words where they were",
        f"moved the images by {_span(images)}" if images.mean else "left the images where they were",
    ]
    told = [
        f"{title} {' and '.join(moves)}; the gap between both is {_span(gap)}"
        " (0 has not moved, 1 is a quarter turn; in brackets the 95% interval)."
    ]
    if "base" in groups and "new" in groups:
        base, new = (_sure(groups[name].gap) for name in ("base", "new"))
        told.append(f"The gap is {_span(base)} on the classes it learned and {_span(new)} on the new ones.")
    told.append(_alignment(_sure(whole.alignment_before).mean, _sure(whole.alignment_after).mean) + _lead(whole))
    if len(classes) > 1 and words.mean:
        most = max(classes, key=lambda row: row.words or 0.0)
        told.append(f"Of the words, those of “{most.name}” moved most, by {_number(most.words or 0.0)}.")
    directions = [row.direction for row in classes if row.direction is not None]
    if directions:
        mean = float(np.mean(directions))
        way = "much the same way" if mean > 0.5 else "apart" if mean < -0.1 else "mostly in different directions"
        told.append(f"Where both moved, images and words went {way} (mean cosine {mean:.2f} over the classes).")
    return told


def _alignment(before: float, after: float) -> str:
    if round(before, 2) == round(after, 2):
        return f"Images lie as close to the words of their class as before (mean cosine {after:.2f})."
    where = "closer to" if after > before else "farther from"
    went = f"the mean cosine went from {before:.2f} to {after:.2f}"
    return f"Images lie {where} the words of their class than before: {went}."


def _lead(group: GroupShift) -> str:
    """What became of the lead of the true class."""
    if group.margin_before is None or group.margin_after is None:
        return ""
    return (
        f" The lead over the best wrong class went from {group.margin_before.mean:.3f} to"
        f" {group.margin_after.mean:.3f} (below 0 a wrong class leads)."
    )


def _notes(reading: Reading[Any], whole: Measured) -> list[str]:
    notes = [
        f"Measured on {len(whole.images):,} test images of {len(whole.words):,} classes, against the untouched model.",
        reading.baseline,
        reading.note,
        whole.image_blocks_reason,
        whole.text_blocks_reason,
        _unequal_depth(whole),
        "The definition follows the words of RESTORE; its formulas are a reconstruction.",
    ]
    return list(dict.fromkeys(filter(None, notes)))


def _unequal_depth(whole: Measured) -> str:
    if whole.image_blocks is None or whole.text_blocks is None or len(whole.image_blocks) == len(whole.text_blocks):
        return ""
    return (
        f"The image tower has {len(whole.image_blocks)} blocks and the text tower {len(whole.text_blocks)}; their gap"
        " is told block by block from the first, as far as both go."
    )


def _span(average: Average) -> str:
    if 0 < average.high < 0.0005:
        return _number(average.high)
    return f"{_number(average.mean)} ({_number(average.low)} to {_number(average.high)})"


def _number(value: float) -> str:
    return "less than 0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def _sure(average: Average | None) -> Average:
    assert average is not None
    return average


def _known(value: Numbers | float) -> float | None:
    return None if np.isnan(value) else float(value)
