"""How evenly each strategy spreads its labels over the classes: alone, with PCB's official and its corrected rule.

    python benchmarks/active_balance.py [--seeds 20]

The pool is made up: 240 images of 6 classes, 73, 59, 43, 33, 23 and 9 of each, as features of 64 dimensions around
class centres. Eight rounds of 6 labels: the first by chance, the others by the strategy. In place of training, the
model of each round is one whose class directions are disturbed anew, so that every way of choosing meets the same
models. What is counted are the true classes of the 48 labels. This shows balance only; it says nothing about accuracy.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SIZES, DIMENSIONS, ROUNDS, QUERY = (73, 59, 43, 33, 23, 9), 64, 8, 6
WAYS: dict[str, dict[str, Any]] = {
    "alone": {},
    "official": {"balanced": True, "rule": "official", "candidates": sum(SIZES) // 10},
    "corrected": {"balanced": True, "rule": "corrected", "candidates": sum(SIZES) // 10},
}


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made_up_pool(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """True classes [240], features [240, 64], and the probabilities [240, 6] of every round's model."""
    truth = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    centres = rng.standard_normal((len(SIZES), DIMENSIONS))
    features = unit(0.6 * centres[truth] + rng.standard_normal((len(truth), DIMENSIONS)))
    answers = []
    for _ in range(ROUNDS):
        words = unit(centres + 0.7 * rng.standard_normal(centres.shape))
        powers = np.exp(features @ words.T / 0.07)
        answers.append(powers / powers.sum(axis=1, keepdims=True))
    return truth, features, answers


def label(strategy: str, way: dict[str, Any], seed: int) -> np.ndarray:
    """[6] true-class counts of the 48 labels of one run."""
    from engines.active import Randomness, select

    truth, features, answers = made_up_pool(np.random.default_rng(seed))
    chance = Randomness(seed)
    labelled = select("random", features, None, [], QUERY, chance)
    for answer in answers[1:]:
        labelled += select(strategy, features, answer, labelled, QUERY, chance, labels=truth[labelled], **way)
    return np.bincount(truth[labelled], minlength=len(SIZES))


def evenness(counts: np.ndarray) -> float:
    """Entropy of the counts, 1 when all classes have as many."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))


def main() -> int:
    from engines.active import available_strategies

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    seeds = range(1, parser.parse_args().seeds + 1)
    table: dict[str, dict[str, Any]] = {}
    print(f"{'strategy':10}{'way':11}labels per class (mean)                 evenness    spread   rarest class missed")
    for info in available_strategies():
        for way, options in WAYS.items():
            counts = np.stack([label(info.name, options, seed) for seed in seeds])
            values = [evenness(row) for row in counts]
            found = {
                "counts": counts.mean(axis=0).round(1).tolist(),
                "evenness": round(float(np.mean(values)), 3),
                "evenness_deviation": round(float(np.std(values)), 3),
                "runs_without_the_rarest_class": int((counts[:, -1] == 0).sum()),
            }
            table.setdefault(info.name, {})[way] = found
            numbers = " ".join(f"{value:5.1f}" for value in found["counts"])
            spread = f"{found['evenness']:9.3f}{found['evenness_deviation']:10.3f}"
            print(
                f"{info.name:10}{way:11}{numbers}  {spread}{found['runs_without_the_rarest_class']:8} of {len(seeds)}"
            )
    result = {"pool": SIZES, "rounds": ROUNDS, "query": QUERY, "seeds": len(seeds), "table": table}
    file = ROOT / "benchmarks" / "results" / "active_balance.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
