"""What `select` accepts, and a clear word about everything else."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from engines.active.base import Floats, Pool, Positions, Randomness, StrategyInfo, chunks, read_rows
from engines.errors import ConfigError, DataError

SUM_TOLERANCE = 0.02
NORM_TOLERANCE = 0.02


def whole_number(value: Any, name: str, lowest: int, highest: int | None = None) -> int:
    """`value` as an int within its bounds."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_) or number < lowest or (highest and number > highest):
        bounds = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
        raise ConfigError(f"The {name} is {value!r}, not a whole number.", f"Give a whole number, {bounds}.")
    return number


def randomness(seed: Any) -> Randomness:
    """Generators for a seed, or those given."""
    return seed if isinstance(seed, Randomness) else Randomness(whole_number(seed, "seed", 0, 2**32 - 1))


def share(value: Any, name: str) -> float:
    """`value` as a float above 0, at most 1."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number <= 1:
        raise ConfigError(f"The {name} is {value!r}.", "Give a number above 0, at most 1.")
    return number


def matrix(value: Any, name: str, rows: int | None = None) -> Floats:
    """`value` as a floating matrix without copying a memory map."""
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:
        shape = f"{array.dtype} of shape {array.shape}"
        raise DataError(f"The {name} are {shape}, not numbers in rows and columns.", "Give one row for each image.")
    if rows is not None and len(array) != rows:
        raise DataError(f"There are {len(array)} rows of {name} for {rows} images.", "Give one row for each image.")
    return array


def indices(value: Any, name: str, count: int) -> Positions:
    """`value` (numbers, or a mask of length `count`) as row numbers below `count`, in the order given."""
    array = np.asarray(value)
    if array.dtype.kind == "b" and array.shape == (count,):
        return np.flatnonzero(array)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"The {name} are not a list of row numbers.", "Give whole numbers, or a mask over all rows.")
    outside = array[(array < 0) | (array >= count)]
    if len(outside):
        raise DataError(f"The {name} name row {outside[0]}, but there are {count} rows.", "Row numbers count from 0.")
    array = array.astype(np.int64)
    values, repeats = np.unique(array, return_counts=True)
    if len(values) < len(array):
        raise DataError(f"The {name} name row {values[repeats > 1][0]} twice.", "Name every row once.")
    return array


def class_counts(labels: Any, labelled: Positions, classes: int) -> Floats:
    """[C] labels per class."""
    array = np.asarray([] if labels is None else labels)
    if array.shape != labelled.shape:
        what = f"There are {array.size} labels for {len(labelled)} labelled images."
        raise DataError(what, "A balanced pick needs the class of every labelled image, in the same order.")
    if not array.size:
        return np.zeros(classes)
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= classes:
        remedy = "Labels are column numbers of the probabilities; leave images without a class out of `pool` instead."
        raise DataError(f"A label lies outside 0 to {classes - 1}.", remedy)
    return np.bincount(array, minlength=classes).astype(np.float64)


def make_pool(
    info: StrategyInfo,
    features: Any,
    probabilities: Any,
    labelled: Any,
    pool: Any,
    seed: Any,
    balanced: bool,
    official: bool,
    check_cancelled: Callable[[], None],
) -> Pool:
    """Everything checked, and put together for the strategy."""
    if features is None and (info.needs_features or probabilities is None):
        raise DataError(f"{info.title} needs image features.", "Give the unit features of all images, one row each.")
    if probabilities is None and (info.needs_model or balanced):
        who = "A balanced pick" if balanced else info.title
        raise DataError(
            f"{who} needs class probabilities.", "Give a model's probabilities for all images, one row each."
        )
    features = None if features is None else matrix(features, "features")
    count = len(probabilities if features is None else features)
    probabilities = None if probabilities is None else matrix(probabilities, "probabilities", count)
    labels_at = indices(labelled, "labelled rows", count)
    free = np.ones(count, np.bool_)
    if pool is not None:
        free[:] = False
        free[indices(pool, "pool rows", count)] = True
    free[labels_at] = False
    rows = np.flatnonzero(free)
    if not len(rows):
        raise DataError("No image is left to choose from.", "Add images to the pool, or stop labelling here.")
    made = Pool(features, probabilities, rows, labels_at, randomness(seed), official, check_cancelled)
    made.predicted = _predicted(made)
    if info.needs_features:
        _check_features(made, np.concatenate([rows, labels_at]))
    return made


def _predicted(pool: Pool) -> Positions:
    """[n] likeliest classes; looks for rows that are not probabilities on the way."""
    predicted = np.full(len(pool), -1, np.int64)
    if pool.probabilities is None:
        return predicted
    for chunk in pool.chunks():
        block = pool.probability_rows(chunk)
        wrong = ~(np.abs(block.sum(axis=1) - 1) <= SUM_TOLERANCE) | (block.min(axis=1) < 0)
        if wrong.any():
            row = int(pool.rows[chunk][wrong][0])
            what = (
                f"Row {row} of the probabilities is not a distribution: it has negative, missing or infinite values, "
            )
            raise DataError(what + "or does not sum to 1.", "Give softmax outputs; check the model that made them.")
        predicted[chunk] = block.argmax(axis=1)
    return predicted


def _check_features(pool: Pool, rows: Positions) -> None:
    assert pool.features is not None
    for chunk in chunks(len(rows), pool.check_cancelled):
        block = read_rows(pool.features, rows[chunk], np.float32)
        norms = np.sqrt(np.einsum("nd,nd->n", block, block))
        wrong = ~(np.abs(norms - 1) <= NORM_TOLERANCE)
        if wrong.any():
            what = (
                f"Row {int(rows[chunk][wrong][0])} of the features has the length {float(norms[wrong][0]):.3g}, not 1."
            )
            raise DataError(
                what, "Divide every row by its length; a row of zeros or missing values was never computed."
            )
