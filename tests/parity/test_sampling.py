"""Few-shot draws and the base/new division against Dassl and CoOp (case `dassl_sampling`)."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from engines.data import base_new_classes, few_shot

TRAIN = [label for label, count in enumerate((9, 20, 3, 12, 7, 30, 5)) for _ in range(count)]
VAL = [label for label, count in enumerate((4, 6, 2, 5, 3, 8, 2)) for _ in range(count)]


@pytest.fixture(scope="module")
def official() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "dassl_sampling.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_draws(official: dict[str, np.ndarray], shots: int, seed: int) -> None:
    stream = random.Random(seed)
    assert few_shot(TRAIN, shots, stream) == official[f"train.shots{shots}.seed{seed}"].tolist()
    assert few_shot(VAL, min(shots, 4), stream) == official[f"val.shots{shots}.seed{seed}"].tolist()


def test_another_order_draws_other_images(official: dict[str, np.ndarray]) -> None:
    order = official["shuffled_order"].tolist()
    drawn = few_shot([TRAIN[i] for i in order], 4, 1)
    assert [order[i] for i in drawn] == official["shuffled.train.shots4.seed1"].tolist()


@pytest.mark.parametrize("half", [0, 1])
def test_base_and_new(official: dict[str, np.ndarray], half: int) -> None:
    classes = base_new_classes(7)[half]
    kept = [i for i, label in enumerate(TRAIN) if label in classes]
    name = ("base", "new")[half]
    assert kept == official[f"{name}.train"].tolist()
    assert [classes.index(TRAIN[i]) for i in kept] == official[f"{name}.labels"].tolist()
