"""What is known about the words of prompts, for pages and commands. Torch-free; computed by `words.py`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from engines.inspection.keeping import keep, kept_about
from engines.store import Workspace

KIND = "words"
VERSION = 1
"""Of the definitions; answers of another one are computed again."""


@dataclass(frozen=True)
class Near:
    """A vocabulary entry and its Euclidean distance from a context token, between token embeddings."""

    word: str
    distance: float


@dataclass(frozen=True)
class ContextToken:
    """One learned context token, in words."""

    of: str
    """Class that it belongs to; empty where all classes share it."""
    place: int
    """From 0, in front of, around or behind the class name."""
    words: list[Near]
    """The nearest first."""


@dataclass(frozen=True)
class Geometry:
    """Where unit features of images x and of class words t lie in the joint space."""

    modality_gap: float
    """|mean x - mean t| (Liang et al., NeurIPS 2022, section 4.1)."""
    alignment: float
    """Mean over images of |x - t|^2 with t of the image's class (Wang, Isola, ICML 2020, 4.1.1, alpha = 2)."""
    uniformity_images: float | None
    """log mean over pairs of exp(-2 |x - x'|^2) (the same, 4.1.2, t = 2); None for fewer than two."""
    uniformity_words: float | None


@dataclass(frozen=True)
class Margin:
    """Images of one class: mean cosine with the words of their own class minus that with the nearest other class."""

    name: str
    images: int
    before: float
    after: float | None


@dataclass(frozen=True)
class WordsAnswer:
    """What a prompt says, before (the ready-made sentence) and after training."""

    run_id: str
    name: str
    method: str
    class_names: list[str]
    tokens: list[ContextToken]
    unreadable: str
    """Why there are no context tokens to read, in words; empty where there are."""
    usual_distance: float | None
    """Median distance of a vocabulary entry from its nearest neighbour: what is much farther away means no word."""
    similarity_before: list[list[float]]
    """[C][C] cosines between the words of classes."""
    similarity_after: list[list[float]] | None
    before: Geometry | None
    """None without test images."""
    after: Geometry | None
    margins: list[Margin]
    images: int
    """Test images that were looked at."""
    notes: list[str]
    version: int = VERSION


_answers = TypeAdapter(WordsAnswer)


def read_words(workspace: Workspace, run_id: str) -> WordsAnswer | None:
    """What the prompt of a run says; None where it was not computed yet, or by another definition."""
    return kept_about(workspace, KIND, run_id, _answers, VERSION)


def keep_words(workspace: Workspace, answer: WordsAnswer) -> None:
    """Keep `answer` as the one about its run."""
    keep(workspace, KIND, answer.run_id, asdict(answer))
