"""Active selection against what the official PCB code chose (kaist-dmlab/pcb, commit 7f32a1b)."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest

from engines.active import Randomness, official_pcb, select
from engines.active.base import Pool
from engines.active.nearest import NearestCentre
from engines.active.strategies.badge import Seeding, class_factor
from engines.active.strategies.coreset import Coreset
from engines.active.strategies.entropy import negative_entropy
from tests.parity.checks import load_case
from tests.parity.parity_weights import integers, noise

SIZE, DIMENSIONS, CLASSES, QUERY, ROUNDS, GAMMA = 240, 64, 6, 6, 8, 0.1
SEEDS = [1, 2, 3]
BASES = ["entropy", "coreset", "badge.bs57", "random"]
OFFICIAL_BATCH = 32
"""Images per batch of the official BADGE. Rows of a short last batch land on other images' rows (a fault)."""


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@cache
def pool_labels() -> np.ndarray:
    return np.searchsorted([6, 11, 15, 18, 20, 21], integers("active.class", (SIZE,), 0, 21), side="right")


@cache
def pool_features() -> np.ndarray:
    centres = noise("active.centres", (CLASSES, DIMENSIONS))
    return unit(0.6 * centres[pool_labels()] + noise("active.features", (SIZE, DIMENSIONS)))


@cache
def answers_after(training: int) -> np.ndarray:
    """[240, 6] probabilities of the stand-in model of round `training`."""
    text = noise(f"active.text.{training}", (CLASSES, DIMENSIONS))
    weights = unit(noise("active.centres", (CLASSES, DIMENSIONS)) + 0.7 * text)
    logits = np.float32(1 / 0.07) * pool_features() @ weights.T
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@cache
def base_case() -> dict[str, np.ndarray]:
    return load_case("active_base")


def unlabelled() -> np.ndarray:
    return np.setdiff1d(np.arange(SIZE), base_case()["labelled"])


def choose(strategy: str, budget: int, seed: int | Randomness = 1, **options: Any) -> list[int]:
    case = base_case()
    return select(
        strategy, pool_features(), case["probs"], case["labelled"], budget, seed, compat="official", **options
    )


def test_the_pool_is_the_one_of_the_official_run() -> None:
    case = base_case()
    np.testing.assert_array_equal(pool_labels(), case["true_labels"])
    np.testing.assert_allclose(answers_after(0), case["probs"], atol=1e-6)
    np.testing.assert_array_equal(case["probs"].argmax(axis=1), case["pseudo"])
    order = np.argsort(noise("active.order", (SIZE,)), kind="stable")
    np.testing.assert_array_equal(np.sort(order[:12]), np.sort(case["labelled"]))


def test_entropy_scores() -> None:
    case = base_case()
    np.testing.assert_allclose(negative_entropy(case["probs"][unlabelled()]), case["entropy.score"], atol=1e-5)


def official_pool(**changes: Any) -> Pool:
    rows = unlabelled()
    given = {"features": pool_features(), "probabilities": base_case()["probs"], "rows": rows}
    rest = {"labelled": base_case()["labelled"], "randomness": Randomness(1), "official": True}
    return Pool(**(given | rest | changes))


def test_coreset_distances() -> None:
    """Distance of the best point at every step, and of the second best, which tells how safe the choice is."""
    coreset = Coreset(official_pool())
    best, second = base_case()["coreset.margin"]
    for step in range(24):
        coreset.nearest.refresh()
        two = np.sqrt(np.sort(coreset.nearest.squared)[-2:])
        np.testing.assert_allclose(two, [second[step], best[step]], atol=1e-5)
        coreset.take(1)


def gradients() -> np.ndarray:
    """[228, 384] BADGE's gradient embeddings of the unlabelled, written out, class by class."""
    factor = class_factor(base_case()["probs"][unlabelled()])
    return np.einsum("nc,nd->ncd", factor, pool_features()[unlabelled()]).reshape(len(factor), -1)


def with_batch_fault(rows: np.ndarray) -> np.ndarray:
    """The same rows as the official code stores them: batch i's row j at i · (size of batch i) + j."""
    stored = np.zeros_like(rows)
    for number, start in enumerate(range(0, len(rows), OFFICIAL_BATCH)):
        batch = rows[start : start + OFFICIAL_BATCH]
        stored[number * len(batch) : number * len(batch) + len(batch)] = batch
    return stored


@pytest.mark.parametrize("batch", ["bs57", "bs32"])
def test_badge_gradients(batch: str) -> None:
    case = base_case()
    rows = gradients() if batch == "bs57" else with_batch_fault(gradients())
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), case[f"badge.{batch}.norm"], atol=1e-5)
    probes = rows @ noise("active.probe", (CLASSES * DIMENSIONS, 4))
    np.testing.assert_allclose(probes, case[f"badge.{batch}.probe"], atol=1e-5)


def seeded_over(rows: np.ndarray, randomness: Randomness, count: int) -> list[int]:
    """Official k-means++ over embeddings that are written out: positions."""
    pool = official_pool(randomness=randomness, rows=np.arange(len(rows)))
    nearest = NearestCentre(len(rows), [lambda at: rows[at].astype(np.float64)], np.float64, lambda: None)
    return Seeding(nearest, pool).take(count)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("base", BASES)
def test_what_a_base_strategy_proposes(base: str, seed: int) -> None:
    case = base_case()
    key = f"candidates.{base}" + ("" if base in ("entropy", "coreset") else f".seed{seed}")
    np.testing.assert_array_equal(choose(base.split(".")[0], 24, seed), case[key])


@pytest.mark.parametrize("seed", SEEDS)
def test_badge_proposals_from_misplaced_rows(seed: int) -> None:
    picks = seeded_over(with_batch_fault(gradients()), Randomness(seed), 24)
    np.testing.assert_array_equal(unlabelled()[picks], base_case()[f"candidates.badge.bs32.seed{seed}"])


def balance(candidates: np.ndarray, counts: Any, budget: int, seed: int) -> Any:
    return official_pcb(candidates, base_case()["pseudo"][candidates], counts, budget, Random(seed))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("base", [*BASES, "badge.bs32"])
def test_balanced_pick(base: str, seed: int) -> None:
    case = base_case()
    key = f"candidates.{base}" + ("" if base in ("entropy", "coreset") else f".seed{seed}")
    picks = balance(case[key], case["counts"], QUERY, seed).picks
    np.testing.assert_array_equal(picks, case[f"pcb.{base}.seed{seed}"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("base", ["entropy", "coreset", "badge.bs57"])
def test_balanced_pick_in_one_call(base: str, seed: int) -> None:
    """The default of 24 candidates, int(0.1 · 240), and both streams started from one seed."""
    case = base_case()
    labels = case["true_labels"][case["labelled"]]
    picks = choose(f"pcb-{base.split('.')[0]}", QUERY, seed, labels=labels)
    np.testing.assert_array_equal(picks, case[f"pcb.{base}.seed{seed}"])


@pytest.mark.parametrize("seed", SEEDS)
def test_balanced_pick_when_classes_run_out(seed: int) -> None:
    case = base_case()
    result = balance(case["candidates.entropy"], case["counts"], 18, seed)
    np.testing.assert_array_equal(result.picks, case[f"pcb18.entropy.seed{seed}"])
    np.testing.assert_array_equal(result.counts, case[f"pcb18.entropy.counts_after.seed{seed}"])


@pytest.mark.parametrize("seed", SEEDS)
def test_balanced_pick_without_the_rarest_class(seed: int) -> None:
    case = base_case()
    rows = unlabelled()
    result = balance(rows[case["pseudo"][rows] != 5], [3, 3, 3, 2, 1, 0], QUERY, seed)
    np.testing.assert_array_equal(result.picks, case[f"pcb_absent.seed{seed}"])
    np.testing.assert_array_equal(result.counts, case[f"pcb_absent.counts_after.seed{seed}"])
    assert result.fills == [None] * QUERY


@pytest.mark.parametrize("seed", SEEDS)
def test_balanced_pick_from_ties(seed: int) -> None:
    case = base_case()
    result = balance(unlabelled(), np.zeros(CLASSES), 12, seed)
    np.testing.assert_array_equal(result.picks, case[f"pcb_ties.seed{seed}"])
    np.testing.assert_array_equal(result.counts, case[f"pcb_ties.counts_after.seed{seed}"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", ["random", "entropy", "coreset", "badge"])
def test_eight_rounds(method: str, seed: int) -> None:
    """The official loop: a first query by chance, then seven balanced ones; the random streams go on throughout."""
    case = load_case("active_loop")
    chance = Randomness(seed)
    labelled: list[int] = []
    for number in range(ROUNDS):
        labels = pool_labels()[labelled]
        answers = answers_after(number - 1) if number else None
        if not number:
            picks = select("random", pool_features(), None, [], QUERY, chance, compat="official")
        elif method == "badge":
            picks = badge_round(labelled, answers, chance)
        else:
            name = f"pcb-{method}"
            picks = select(name, pool_features(), answers, labelled, QUERY, chance, labels=labels, compat="official")
        np.testing.assert_array_equal(picks, case[f"{method}.seed{seed}"][number], err_msg=f"round {number}")
        labelled += picks
    counts = np.bincount(pool_labels()[labelled], minlength=CLASSES)
    np.testing.assert_array_equal(counts, case[f"{method}.seed{seed}.counts"])


def badge_round(labelled: list[int], answers: np.ndarray | None, chance: Randomness) -> list[int]:
    """A round of the official BADGE with its misplaced rows, out of public parts."""
    assert answers is not None
    rows = np.setdiff1d(np.arange(SIZE), labelled)
    factor = class_factor(answers[rows])
    embedded = np.einsum("nc,nd->ncd", factor, pool_features()[rows]).reshape(len(rows), -1)
    proposed = rows[seeded_over(with_batch_fault(embedded), chance, int(GAMMA * SIZE))]
    counts = np.bincount(pool_labels()[labelled], minlength=CLASSES)
    return official_pcb(proposed, answers.argmax(axis=1)[proposed], counts, QUERY, chance.python).picks
