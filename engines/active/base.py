"""What a strategy is, and what it sees of the pool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.active.reasons import Reason

Floats = NDArray[Any]
Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]

CHUNK = 8192
"""Rows that are read from the pool at a time: 16 MiB of 512 float32 dimensions."""


@dataclass(frozen=True)
class StrategyInfo:
    """How a strategy is called and shown.

    Attributes:
        name: registry name.
        title: the field's name for it.
        sentence: what it does, in one sentence for a clinician.
        needs_model: it reads class probabilities.
        needs_features: it reads image features.
    """

    name: str
    title: str
    sentence: str
    needs_model: bool
    needs_features: bool = False


class Randomness:
    """Where chance comes from: generators of our own, never the global ones.

    Hand the same object to several `select` calls to go on with its streams, as the official loop does.

    Attributes:
        python, legacy: the streams that `random.seed(seed)` and `numpy.random.seed(seed)` start (official mode).
        modern: NumPy's `default_rng(seed)` (everything else).
    """

    def __init__(self, seed: int) -> None:
        self.python = Random(seed)
        self.legacy = np.random.RandomState(seed)
        self.modern = np.random.default_rng(seed)


@dataclass
class Pool:
    """The rows that a strategy may choose from. A position is an index into `rows`.

    Attributes:
        features: [N, D] unit rows (array or memory map), or None.
        probabilities: [N, C] rows that sum to one, or None.
        rows: [n] pool indices that may be chosen, ascending.
        labelled: [L] pool indices that have a label.
        randomness: generators.
        official: follow the official code to the draw, in float64; else float32.
        check_cancelled: called between chunks and picks; raises to stop.
        predicted: [n] likeliest class at each position, -1 without probabilities.
    """

    features: Floats | None
    probabilities: Floats | None
    rows: Positions
    labelled: Positions
    randomness: Randomness
    official: bool = False
    check_cancelled: Callable[[], None] = lambda: None
    predicted: Positions = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dtype(self) -> type[np.floating[Any]]:
        return np.float64 if self.official else np.float32

    def feature_rows(self, positions: Positions | slice) -> Floats:
        """[k, D] features at `positions`."""
        assert self.features is not None
        return read_rows(self.features, self.rows[positions], self.dtype)

    def probability_rows(self, positions: Positions | slice) -> Floats:
        """[k, C] probabilities at `positions`."""
        assert self.probabilities is not None
        return read_rows(self.probabilities, self.rows[positions], self.dtype)

    def labelled_features(self) -> Floats:
        """[L, D] features of what has a label."""
        assert self.features is not None
        return read_rows(self.features, self.labelled, self.dtype)

    def chunks(self) -> Iterator[slice]:
        """All positions, a readable number at a time."""
        return chunks(len(self), self.check_cancelled)


def chunks(count: int, check_cancelled: Callable[[], None]) -> Iterator[slice]:
    """Slices of `CHUNK` that cover `range(count)`."""
    for start in range(0, count, CHUNK):
        check_cancelled()
        yield slice(start, min(start + CHUNK, count))


def read_rows(matrix: Floats, rows: Positions, dtype: type[np.floating[Any]]) -> Floats:
    """`matrix[rows]` as `dtype`; neighbours are read as a slice, which a memory map serves without a gather."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (len(rows) < 3 or bool(np.all(np.diff(rows) == 1))):
        return np.asarray(matrix[int(rows[0]) : int(rows[-1]) + 1], dtype)
    return np.asarray(matrix[rows], dtype)


STRATEGIES: dict[str, type[Strategy]] = {}


class Strategy(ABC):
    """One way to rank a pool, at work on one pool. A subclass with an `info` is registered under its name.

    Attributes:
        info: how it is called and shown.
        candidate_cap: at most so many candidates per image asked for go into a balanced pick; None for no cap.
            For strategies whose every pick is a pass over the pool.
    """

    info: ClassVar[StrategyInfo]
    candidate_cap: ClassVar[int | None] = None

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __init_subclass__(cls) -> None:
        if "info" in cls.__dict__:
            STRATEGIES[cls.info.name] = cls

    @abstractmethod
    def take(self, count: int, among: Mask | None = None) -> list[int]:
        """The next `count` positions, best first, fewer when there are no more.

        Calls continue the ranking: no position is returned twice. `among` [n] restricts this call to some positions.
        """

    @abstractmethod
    def explain(self, position: int) -> tuple[Reason, float]:
        """Why `position` was taken, and its score (higher is more wanted; the unit is the strategy's)."""

    def top_two(self, position: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """The two likeliest classes at `position` and their probabilities."""
        row = self.pool.probability_rows(np.array([position]))[0]
        best = np.argsort(-row, kind="stable")[:2]
        return tuple(int(c) for c in best), tuple(float(row[c]) for c in best)


class Ranking(Strategy):
    """A strategy that gives every row a score of its own: lowest first, ties by position."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.scores = self.score()
        self._order = np.argsort(self.scores, kind="stable")
        self.free = np.ones(len(pool), np.bool_)

    @abstractmethod
    def score(self) -> Floats:
        """[n] scores; the lowest is wanted most."""

    def take(self, count: int, among: Mask | None = None) -> list[int]:
        allowed = self.free if among is None else self.free & among
        taken = self._order[allowed[self._order]][:count]
        self.free[taken] = False
        return [int(position) for position in taken]
