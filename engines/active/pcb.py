"""PCB: the pseudo-class balanced pick (Bang, Ahn and Lee, CVPR 2024, arXiv 2311.11178), official and corrected."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class BalancedPicks:
    """What a balanced pick chose.

    Attributes:
        picks: chosen candidates in order.
        fills: for each pick the class that it was to fill, None for a pick that ignored the classes.
        rarest: for each pick whether that class had the fewest labels of all.
        counts: [C] counts per class afterwards.
        by_words: the picks that were found by the class's name instead of the model's answers.
    """

    counts: np.ndarray
    picks: list[int] = field(default_factory=list)
    fills: list[int | None] = field(default_factory=list)
    rarest: list[bool] = field(default_factory=list)
    by_words: set[int] = field(default_factory=set)

    def add(self, pick: int, fills: int | None) -> None:
        """Choose `pick`; a class that it fills counts one more."""
        self.rarest.append(fills is not None and bool(self.counts[fills] == self.counts.min()))
        self.picks.append(pick)
        self.fills.append(fills)
        if fills is not None:
            self.counts[fills] += 1


def official_pcb(
    candidates: Sequence[int], predicted: Sequence[int], counts: ArrayLike, budget: int, rng: Random
) -> BalancedPicks:
    """The rule of the official code, with its use of chance (`rng.shuffle`, `rng.randint`).

    Args:
        candidates: [P] what the base strategy proposes (any whole numbers, each once).
        predicted: [P] likeliest class of each candidate.
        counts: [C] labels per class so far.
        budget: how many to pick; with fewer candidates all of them are picked.
        rng: consumed as the official code consumes the global generator.

    The class with the lowest count (lowest index on a tie) gets one of its candidates by chance, and counts one more.
    Once it has none left its count stands still, so all further picks of the round are uniform over the candidates.
    """
    candidates = [int(candidate) for candidate in candidates]
    answers = np.asarray(predicted)
    result = BalancedPicks(np.array(counts, np.float64))
    chosen: list[int] = []
    while len(chosen) < min(budget, len(candidates)):
        wanted = int(np.argmin(result.counts))
        inside = [int(slot) for slot in np.flatnonzero(answers == wanted)]
        if inside:
            rng.shuffle(inside)
        slot = next((slot for slot in inside if slot not in chosen), None)
        fills = None if slot is None else wanted
        while slot is None or slot in chosen:
            slot = rng.randint(0, len(candidates) - 1)
        chosen.append(slot)
        result.add(candidates[slot], fills)
    return result


def corrected_pcb(
    candidates: Sequence[int],
    predicted: Sequence[int],
    counts: ArrayLike,
    budget: int,
    extend: Callable[[int, set[int]], int | None] = lambda wanted, chosen: None,
    by_words: Callable[[int, set[int]], int | None] = lambda wanted, chosen: None,
) -> BalancedPicks:
    """The rule with its fault repaired: balance goes on when a class has no candidate left.

    The class with the lowest count gets its next candidate in the order of `candidates`. On a tie the class whose next
    candidate ranks best comes first. A class without a candidate asks `extend(class, chosen)` for one from further down
    the base ranking, then once `by_words(class, chosen)` for the image closest to its name; a class that gets none
    leaves the arg-min.

    Args:
        candidates, predicted, counts, budget: as in `official_pcb`.
        extend, by_words: give one more, not in the set `chosen`, or None.
    """
    result = BalancedPicks(np.array(counts, np.float64))
    queues: dict[int, deque[tuple[int, int]]] = defaultdict(deque)
    for rank, (candidate, answer) in enumerate(zip(candidates, predicted, strict=True)):
        queues[int(answer)].append((rank, int(candidate)))
    chosen: set[int] = set()
    open_classes = set(range(len(result.counts)))

    def urgency(label: int) -> tuple[float, float, int]:
        return float(result.counts[label]), queues[label][0][0] if queues[label] else np.inf, label

    while len(chosen) < budget and open_classes:
        wanted = min(open_classes, key=urgency)
        if queues[wanted]:
            pick: int | None = queues[wanted].popleft()[1]
            if pick in chosen:
                continue
        else:
            pick = extend(wanted, chosen)
        if pick is None:
            open_classes.discard(wanted)
            pick = by_words(wanted, chosen)
            if pick is not None:
                result.by_words.add(pick)
        if pick is not None:
            chosen.add(pick)
            result.add(pick, wanted)
    return result
