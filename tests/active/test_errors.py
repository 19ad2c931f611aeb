"""What cannot work is told in words: what is wrong, where, and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engines.active import select
from engines.errors import ConfigError, DataError, PromptloupeError
from tests.active.pools import STRATEGIES, made_up

POOL = made_up()
SIZE, CLASSES = POOL.probabilities.shape


def changed(array: np.ndarray, row: int, value: Any) -> np.ndarray:
    array = array.copy()
    array[row] = value
    return array


def attempt(strategy: str = "pcb-badge", **changes: Any) -> list[int]:
    given: dict[str, Any] = {
        "features": POOL.features,
        "probabilities": POOL.probabilities,
        "labelled": POOL.labelled,
        "budget": 5,
        "labels": POOL.labels,
    }
    return select(strategy, **(given | changes))


def test_the_unchanged_call_works() -> None:
    assert len(attempt()) == 5


FREE = int(np.setdiff1d(np.arange(SIZE), POOL.labelled)[3])
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "missing probability": ({"probabilities": changed(POOL.probabilities, FREE, np.nan)}, f"Row {FREE}"),
    "infinite probability": ({"probabilities": changed(POOL.probabilities, FREE, np.inf)}, f"Row {FREE}"),
    "negative probability": ({"probabilities": changed(POOL.probabilities, FREE, [-1, 2, 0, 0])}, f"Row {FREE}"),
    "logits": ({"probabilities": POOL.probabilities * 14}, "not a distribution"),
    "probabilities of fewer rows": ({"probabilities": POOL.probabilities[:-1]}, f"{SIZE - 1} rows of probabilities"),
    "one row of probabilities": ({"probabilities": POOL.probabilities[0]}, "rows and columns"),
    "probabilities without columns": ({"probabilities": np.empty((SIZE, 0))}, "rows and columns"),
    "words for probabilities": ({"probabilities": np.full((SIZE, CLASSES), "a")}, "not numbers"),
    "no probabilities": ({"probabilities": None}, "needs class probabilities"),
    "missing feature": ({"features": changed(POOL.features, FREE, np.nan)}, f"Row {FREE} of the features"),
    "infinite feature": ({"features": changed(POOL.features, FREE, np.inf)}, f"Row {FREE} of the features"),
    "feature of zeros": ({"features": changed(POOL.features, FREE, 0)}, f"Row {FREE} of the features"),
    "features not of unit length": ({"features": POOL.features * 3}, "length 3, not 1"),
    "labelled feature of zeros": ({"features": changed(POOL.features, POOL.labelled[0], 0)}, "of the features"),
    "cube of features": ({"features": POOL.features[None]}, "rows and columns"),
    "no features": ({"features": None}, "needs image features"),
    "label too high": ({"labels": changed(POOL.labels, 0, CLASSES)}, f"outside 0 to {CLASSES - 1}"),
    "label below zero": ({"labels": changed(POOL.labels, 0, -1)}, f"outside 0 to {CLASSES - 1}"),
    "fractional labels": ({"labels": POOL.labels + 0.5}, "outside 0 to"),
    "fewer labels": ({"labels": POOL.labels[:-1]}, f"{len(POOL.labels) - 1} labels for {len(POOL.labels)}"),
    "no labels": ({"labels": None}, "0 labels for"),
    "labelled row outside": ({"labelled": changed(POOL.labelled, 0, SIZE)}, f"name row {SIZE}"),
    "labelled row below zero": ({"labelled": changed(POOL.labelled, 0, -1)}, "name row -1"),
    "labelled row twice": ({"labelled": changed(POOL.labelled, 0, POOL.labelled[1])}, "twice"),
    "fractional rows": ({"labelled": POOL.labelled + 0.5}, "not a list of row numbers"),
    "pool row outside": ({"pool": [0, SIZE + 7]}, f"name row {SIZE + 7}"),
    "pool row twice": ({"pool": [FREE, FREE]}, "twice"),
    "mask of another length": ({"pool": np.ones(SIZE - 1, bool)}, "not a list of row numbers"),
    "empty pool": ({"pool": []}, "No image is left"),
    "everything labelled": ({"pool": POOL.labelled}, "No image is left"),
    "no rows": (
        {"features": np.empty((0, 16)), "probabilities": np.empty((0, 4)), "labelled": [], "labels": []},
        "No image is left",
    ),
    "class features of another width": ({"class_features": np.ones((CLASSES, 5))}, "do not fit"),
    "class features of other classes": ({"class_features": np.ones((CLASSES + 1, 16))}, "class features"),
    "class feature of zeros": ({"class_features": np.zeros((CLASSES, 16))}, "class feature is zero"),
}
BAD_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "budget of zero": ({"budget": 0}, "budget is 0"),
    "budget below zero": ({"budget": -3}, "budget is -3"),
    "fractional budget": ({"budget": 2.5}, "budget is 2.5"),
    "budget in words": ({"budget": "ten"}, "budget is 'ten'"),
    "budget of true": ({"budget": True}, "budget is True"),
    "no budget": ({"budget": None}, "budget is None"),
    "seed below zero": ({"seed": -1}, "seed is -1"),
    "seed too high": ({"seed": 2**32}, "seed is"),
    "no seed": ({"seed": None}, "seed is None"),
    "gamma of zero": ({"gamma": 0}, "gamma is 0"),
    "gamma above one": ({"gamma": 1.5}, "gamma is 1.5"),
    "missing gamma": ({"gamma": float("nan")}, "gamma is nan"),
    "candidates of zero": ({"candidates": 0}, "number of candidates is 0"),
    "unknown rule": ({"rule": "fair"}, "rule “fair”"),
    "unknown mode": ({"compat": "paper"}, "mode “paper”"),
    "unknown strategy": ({"strategy": "entropi"}, "Did you mean entropy"),
    "empty strategy": ({"strategy": ""}, "no selection strategy"),
    "balanced nothing": ({"strategy": "pcb-"}, "no selection strategy"),
    "no strategy": ({"strategy": None}, "no selection strategy"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays(case: str) -> None:
    changes, words = BAD_ARRAYS[case]
    with pytest.raises(DataError, match=words) as caught:
        attempt(**changes)
    assert caught.value.remedy


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings(case: str) -> None:
    changes, words = BAD_SETTINGS[case]
    with pytest.raises(ConfigError, match=words) as caught:
        attempt(**changes)
    assert caught.value.remedy


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_bad_row_that_is_not_looked_at_is_no_obstacle(name: str) -> None:
    """A picture outside the pool that could not be read spoils nothing."""
    features, probabilities = changed(POOL.features, FREE, np.nan), changed(POOL.probabilities, FREE, np.nan)
    rest = np.setdiff1d(np.arange(SIZE), [FREE])
    assert len(attempt(f"pcb-{name}", features=features, probabilities=probabilities, pool=rest)) == 5


def test_all_are_errors_for_people() -> None:
    assert issubclass(DataError, PromptloupeError)
    assert issubclass(ConfigError, PromptloupeError)
