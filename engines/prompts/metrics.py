"""Numbers that say how good a classifier is. Plain numpy; all results are fractions of 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]


def confusion_matrix(true: Ints, predicted: Ints, classes: int) -> Ints:
    """Counts [C, C]: rows are true classes, columns predicted ones."""
    counts = np.bincount(true * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def accuracy(true: Ints, predicted: Ints) -> float:
    """Share of images that were right (micro accuracy); NaN without images."""
    return float((true == predicted).mean()) if len(true) else float("nan")


def macro_f1(true: Ints, predicted: Ints) -> float:
    """F1 of every class that occurs in the test images, averaged (as Dassl's evaluator does)."""
    if not len(true):
        return float("nan")
    scores = []
    for label in np.unique(true):
        hit = int(((true == label) & (predicted == label)).sum())
        scores.append(2 * hit / (int((true == label).sum()) + int((predicted == label).sum())))
    return float(np.mean(scores))


def expected_calibration_error(probabilities: Floats, true: Ints, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy, weighted by bin size (Guo et al., ICML 2017, equation 3).

    Args:
        probabilities: [N, C], rows sum to 1.
        bins: equally wide bins of the highest probability.
    """
    return sum((b["accuracy"] - b["confidence"]).__abs__() * b["share"] for b in reliability(probabilities, true, bins))


def reliability(probabilities: Floats, true: Ints, bins: int = 15) -> list[dict[str, float]]:
    """Per filled bin: mean confidence, accuracy and share of all images; what a reliability diagram shows."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [
        {
            "confidence": float(confidence[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
            "share": float((place == b).mean()),
        }
        for b in np.unique(place)
    ]


def harmonic_mean(base: float, new: float) -> float:
    """2bn/(b+n); 0 where both are 0."""
    return 2 * base * new / (base + new) if base + new > 0 else 0.0


def summarise(probabilities: Floats, true: Ints, class_names: list[str]) -> dict[str, Any]:
    """Everything a result page shows about predictions [N, C] of images whose classes are `true` [N]."""
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(true, predicted, len(class_names))
    counts = confusion.sum(axis=1)
    return {
        "images": len(true),
        "accuracy": accuracy(true, predicted),
        "macro_f1": macro_f1(true, predicted),
        "ece": expected_calibration_error(probabilities, true),
        "reliability": reliability(probabilities, true),
        "class_names": class_names,
        "confusion": confusion.tolist(),
        "per_class": [
            {"class": c, "name": name, "count": int(counts[c]), "accuracy": float(confusion[c, c] / counts[c])}
            for c, name in enumerate(class_names)
            if counts[c]
        ],
    }
