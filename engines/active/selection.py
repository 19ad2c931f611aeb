"""Choosing the next images to label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from engines.active import checks
from engines.active.base import Floats, Pool, Randomness, Strategy
from engines.active.pcb import BalancedPicks, corrected_pcb, official_pcb
from engines.active.reasons import Reason
from engines.active.registry import BALANCED, strategy_class
from engines.errors import ConfigError, DataError

Rule = Literal["corrected", "official"]
CANDIDATES_PER_PICK = 4


@dataclass(frozen=True)
class Pick:
    """An image to label next.

    Attributes:
        index: row of the pool.
        reason: why.
        predicted: the model's likeliest class, -1 without a model.
        score: how much the strategy wanted it, higher is more (entropy in nats, 1 - margin, distance; 0 for random).
    """

    index: int
    reason: Reason
    predicted: int
    score: float


def select(
    strategy: str,
    features: Any,
    probabilities: Any,
    labelled: Any,
    budget: int,
    seed: int | Randomness = 1,
    *,
    labels: Any = None,
    balanced: bool = False,
    rule: Rule = "corrected",
    gamma: float = 0.1,
    candidates: int | None = None,
    compat: Literal["official"] | None = None,
    class_features: Any = None,
    pool: Any = None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> list[int]:
    """Rows of the pool to label next, in the order of picking. Arguments and errors as in `pick`."""
    picks = pick(
        strategy,
        features,
        probabilities,
        labelled,
        budget,
        seed,
        labels=labels,
        balanced=balanced,
        rule=rule,
        gamma=gamma,
        candidates=candidates,
        compat=compat,
        class_features=class_features,
        pool=pool,
        check_cancelled=check_cancelled,
    )
    return [chosen.index for chosen in picks]


def pick(
    strategy: str,
    features: Any,
    probabilities: Any,
    labelled: Any,
    budget: int,
    seed: int | Randomness = 1,
    *,
    labels: Any = None,
    balanced: bool = False,
    rule: Rule = "corrected",
    gamma: float = 0.1,
    candidates: int | None = None,
    compat: Literal["official"] | None = None,
    class_features: Any = None,
    pool: Any = None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> list[Pick]:
    """What to label next, with the reasons.

    Exactly `budget` images, or all that are left if fewer; none twice, none that has a label. The outcome depends on
    the arguments alone, never on global random state.

    Args:
        strategy: name of a strategy; `pcb-<name>` is the same with `balanced=True`.
        features: [N, D] unit image features, float32 or float16, may be a memory map; None where not needed.
        probabilities: [N, C] the current model's class probabilities; None where not needed.
        labelled: rows that have a label, in any order.
        budget: number of images wanted, 1 or more.
        seed: 0 to 2³² - 1, or a `Randomness` whose streams go on from call to call.
        labels: the class of each labelled row; needed for a balanced pick.
        balanced: put the pseudo-class balanced pick of PCB around the strategy.
        rule: "corrected" (`pcb.corrected_pcb`) or "official" (`pcb.official_pcb`).
        gamma: share of all N rows that the strategy proposes to the balanced pick. At least four times the budget
            are proposed; for coreset and BADGE at most 20 times the budget.
        candidates: number of proposals, instead of `gamma`; at least the budget is proposed.
        compat: "official" follows the official code to the random draw (balancing rule, int(gamma · N) candidates,
            float64, `random` and legacy NumPy streams), without its faults in BADGE's last batch.
        class_features: [C, D] text features of the classes. With them the corrected rule gives a class that nothing
            in the pool is predicted as, once a round, the image closest to its words, provided that the words
            tell the labelled images apart better than chance.
        pool: rows that may be chosen (numbers or a mask); all by default. N counts all rows of `features`.
        check_cancelled: called often; raise from it to stop.

    Raises:
        ConfigError: a setting that cannot work.
        DataError: arrays that do not fit, values that are not probabilities or unit features, or nothing left to pick.

    Source: PCB (arXiv 2311.11178), section 3, and its official code.
    """
    name = str(strategy).removeprefix(BALANCED)
    balanced = balanced or name != strategy
    kind = strategy_class(name)
    budget = checks.whole_number(budget, "budget", 1)
    if rule not in ("corrected", "official"):
        raise ConfigError(f"There is no balancing rule “{rule}”.", "Choose corrected or official.")
    if compat not in (None, "official"):
        raise ConfigError(f"There is no compatibility mode “{compat}”.", "Leave it out, or choose official.")
    official = compat == "official"
    seen = checks.make_pool(
        kind.info, features, probabilities, labelled, pool, seed, balanced, official, check_cancelled
    )
    budget = min(budget, len(seen))
    if not balanced:
        ranking = kind(seen)
        return [_explained(ranking, position) for position in ranking.take(budget)]
    assert seen.probabilities is not None
    counts = checks.class_counts(labels, seen.labelled, seen.probabilities.shape[1])
    gamma = checks.share(gamma, "gamma")
    if candidates is None:
        candidates = _candidates(kind, len(seen.probabilities), budget, gamma, official)
    else:
        candidates = checks.whole_number(candidates, "number of candidates", 1)
    proposals = min(len(seen), max(budget, candidates))
    words = None if class_features is None else _class_features(class_features, seen)
    if words is not None and not _words_tell(words, seen, np.asarray(labels)):
        words = None
    return _balanced(kind(seen), counts, budget, proposals, "official" if official else rule, words)


def _candidates(kind: type[Strategy], total: int, budget: int, gamma: float, official: bool) -> int:
    if official:
        return budget if kind.info.name == "random" else int(gamma * total)
    wanted = max(int(gamma * total), CANDIDATES_PER_PICK * budget)
    return wanted if kind.candidate_cap is None else min(wanted, kind.candidate_cap * budget)


def _balanced(
    ranking: Strategy, counts: Floats, budget: int, proposals: int, rule: Rule, words: Floats | None
) -> list[Pick]:
    pool = ranking.pool
    taken = ranking.take(proposals)
    answers = [int(pool.predicted[position]) for position in taken]
    if rule == "official":
        return _picks(ranking, official_pcb(taken, answers, counts, budget, pool.randomness.python))

    def free(chosen: set[int]) -> np.ndarray:
        mask = np.ones(len(pool), np.bool_)
        mask[list(chosen)] = False
        return mask

    def extend(wanted: int, chosen: set[int]) -> int | None:
        further = ranking.take(1, free(chosen) & (pool.predicted == wanted))
        return further[0] if further else None

    def by_words(wanted: int, chosen: set[int]) -> int | None:
        return None if words is None else _closest(pool, words[wanted], free(chosen))

    return _picks(ranking, corrected_pcb(taken, answers, counts, budget, extend, by_words))


def _picks(ranking: Strategy, chosen: BalancedPicks) -> list[Pick]:
    picks = []
    for position, fills, rarest in zip(chosen.picks, chosen.fills, chosen.rarest, strict=True):
        if position in chosen.by_words:
            row, predicted = int(ranking.pool.rows[position]), int(ranking.pool.predicted[position])
            picks.append(Pick(row, Reason("words", fills=fills, rarest=rarest), predicted, 0.0))
        else:
            plain = _explained(ranking, position)
            picks.append(replace(plain, reason=replace(plain.reason, fills=fills, rarest=rarest)))
    return picks


def _explained(ranking: Strategy, position: int) -> Pick:
    reason, score = ranking.explain(position)
    return Pick(int(ranking.pool.rows[position]), reason, int(ranking.pool.predicted[position]), score)


def _class_features(value: Any, pool: Pool) -> Floats:
    assert pool.probabilities is not None
    words = checks.matrix(value, "class features", pool.probabilities.shape[1]).astype(np.float32)
    if pool.features is None or words.shape[1] != pool.features.shape[1]:
        raise DataError("The class features do not fit the image features.", "Take both from the same backbone.")
    norms = np.linalg.norm(words, axis=1, keepdims=True)
    if not np.all(np.isfinite(norms) & (norms > 0)):
        raise DataError("A class feature is zero, missing or infinite.", "Check the text encoder that made them.")
    return words / norms


def _words_tell(words: Floats, pool: Pool, labels: np.ndarray) -> bool:
    """Whether the words name labelled images better than chance; nothing speaks against them before two classes are.

    Their recall, averaged over the C' classes that have labels, is 1 / C' for words that say the same of every image.
    """
    known = np.unique(labels)
    if len(known) < 2:
        return True
    said = (pool.labelled_features() @ words.T).argmax(axis=1)
    recall = np.mean([(said[labels == label] == label).mean() for label in known])
    return bool(recall > 1 / len(known))


def _closest(pool: Pool, words: Floats, allowed: np.ndarray) -> int | None:
    """The allowed position whose feature is most like `words` [D]."""
    likeness = np.full(len(pool), -np.inf, np.float32)
    for chunk in pool.chunks():
        likeness[chunk] = pool.feature_rows(chunk) @ words
    likeness[~allowed] = -np.inf
    best = int(np.argmax(likeness))
    return best if allowed[best] else None
