"""What is known about the feature shift of runs, for pages and commands. Torch-free; computed by `shift.py`.

    answer = read_shift(workspace, run_id)            # None until the job "inspect_shift" looked at the run

A shift is 1 - cos between a feature with the learned prompt and the same feature without it: 0 has not moved, 1 is a
quarter turn. Behind a block it is |h~ - h| / |h| of the class token (images) or the end token (words). The definition
follows RESTORE's words (arXiv 2403.06136); its formula is a reconstruction.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter

from engines.inspection.keeping import keep, kept_about
from engines.store import Workspace

KIND = "shift"
VERSION = 1
"""Of the definition; answers of another one are computed again."""


@dataclass(frozen=True)
class Average:
    """A mean over images or classes, with its 95% interval (percentiles of 1,000 bootstrap samples)."""

    mean: float
    std: float
    """Standard deviation of the single values, not of the mean; 0 for a difference of two means."""
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class ClassShift:
    """One class. What cannot be told is None."""

    name: str
    position: int
    """Of the class in the data set, from 0."""
    group: str
    """`base`, `new`, or empty where the run has no new classes."""
    words: float | None
    """How far its text moved."""
    images: Average | None
    """How far its images moved; None without a test image of it."""
    direction: float | None
    """Cosine, in the joint space, between the mean move of its images and the move of its text: 1 side by side, -1
    apart. None where one of them has not moved."""


@dataclass(frozen=True)
class GroupShift:
    """All classes, or the base or the new ones. What cannot be told is None."""

    images: Average | None
    """v: over images."""
    words: Average | None
    """t: over classes."""
    gap: Average | None
    """D_out = |v - t|."""
    alignment_before: Average | None
    """Cosine of an image and the text of its true class, without the learned prompt."""
    alignment_after: Average | None
    margin_before: Average | None
    """Alignment less the cosine with the best wrong class of the group."""
    margin_after: Average | None


@dataclass(frozen=True)
class ImageShift:
    """One test image."""

    sample_id: int
    class_position: int
    """Of its true class in the data set."""
    shift: float
    alignment_before: float | None
    alignment_after: float | None
    margin_before: float | None
    margin_after: float | None


@dataclass(frozen=True)
class Snapshot:
    """A moment of the training; the end is the learned prompt itself."""

    epoch: int
    """0 is the start."""
    images: float | None
    words: float | None
    gap: float | None


@dataclass(frozen=True)
class ShiftAnswer:
    """How far a run's prompt moved what the towers see, on a fixed set of test images."""

    run_id: str
    name: str
    method: str
    """The method's title."""
    protocol: str
    seed: int
    """Of the run."""
    sentences: list[str]
    """What it says, most important first."""
    notes: list[str]
    """How it was measured and what could not be."""
    classes: list[ClassShift]
    groups: dict[str, GroupShift]
    """`all`, and `base` and `new` where the run has new classes."""
    samples: list[ImageShift]
    """Most shifted first."""
    image_blocks: list[Average] | None = None
    """v_l behind every block of the image tower; None with `image_blocks_reason`."""
    image_blocks_reason: str = ""
    text_blocks: list[Average] | None = None
    """t_l behind every block of the text tower; None with `text_blocks_reason`."""
    text_blocks_reason: str = ""
    block_gaps: list[Average] | None = None
    """D_l = |v_l - t_l| of the blocks that both towers have."""
    block_gap: Average | None = None
    """D: mean of `block_gaps`."""
    surgery_images: Average | None = None
    """RESTORE only: size of the correction behind the image tower, r |FFN(LN f)| / |f|."""
    surgery_words: Average | None = None
    trajectory: list[Snapshot] = field(default_factory=list)
    trajectory_reason: str = ""
    """Why there is no trajectory, or what to know about it."""
    probe: int = 0
    """Test images that were asked for; `samples` holds those there were."""
    probe_seed: int = 0
    version: int = VERSION


_answers = TypeAdapter(ShiftAnswer)


def read_shift(workspace: Workspace, run_id: str) -> ShiftAnswer | None:
    """The shift of a run; None where it was not computed yet, or by another definition."""
    return kept_about(workspace, KIND, run_id, _answers, VERSION)


def keep_shift(workspace: Workspace, answer: ShiftAnswer) -> None:
    """Keep `answer` as the one about its run."""
    keep(workspace, KIND, answer.run_id, asdict(answer))
