"""Numbers that say how well defects are found, as AnomalyCLIP's evaluation counts them. All are fractions of 1.

A number that the images cannot give (no defect among them, or nothing but defects) is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.floating[Any]]
Marks = NDArray[np.bool_]

THRESHOLDS = 200
EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


def ranking(scores: Floats, positive: Marks) -> tuple[float, float]:
    """Area under the ROC curve, and average precision, of scores against marks of the same shape.

    Exact, ties included. Only the two kinds of scores are copied and sorted, so a thousand maps fit in memory.
    """
    above, below = scores[positive], scores[~positive]
    if not len(above) or not len(below):
        return float("nan"), float("nan")
    above.sort()
    below.sort()
    values, counts = np.unique(above, return_counts=True)  # a tie is one threshold
    lower, not_higher = np.searchsorted(below, values, "left"), np.searchsorted(below, values, "right")
    beaten = float(((lower + not_higher) / 2 * counts).sum())
    hits = counts[::-1].cumsum()[::-1]
    precision = hits / (hits + len(below) - lower)
    return beaten / (len(above) * len(below)), float((precision * counts).sum() / len(above))


def region_overlap(maps: Floats, masks: Marks, limit: float = 0.3) -> float:
    """AUPRO: how much of each marked region is found, on average, while few normal pixels are taken for defects.

    As published: 200 equally wide steps from the lowest to the highest value of all maps, the end left out; regions
    touch at corners, too; of the points whose false positive rate is below `limit` the rate is stretched to 0..1. That
    is coarser than MVTec's own measure.

    Args:
        maps: [N, H, W].
        masks: [N, H, W], true where a defect was marked.
    """
    low, high = float(maps.min()), float(maps.max())
    if low == high or not masks.any() or masks.all():
        return float("nan")
    thresholds = np.linspace(low, high, THRESHOLDS, endpoint=False).astype(maps.dtype)
    normal, covered, regions = np.zeros(THRESHOLDS + 1), np.zeros(THRESHOLDS + 1), 0
    for values, mask in zip(maps, masks, strict=True):
        passed = np.searchsorted(thresholds, values)  # how many thresholds lie below each pixel
        normal += np.bincount(passed[~mask], minlength=THRESHOLDS + 1)
        labels, count = ndimage.label(mask, EIGHT_CONNECTED)
        if count:
            size = np.bincount(labels[mask], minlength=count + 1)
            covered += np.bincount(passed[mask], weights=1 / size[labels[mask]], minlength=THRESHOLDS + 1)
            regions += count
    rate, found = _at_least(normal) / normal.sum(), _at_least(covered) / regions
    rate, found = rate[rate < limit], found[rate < limit]
    if len(rate) < 2 or rate.max() == rate.min():
        return float("nan")
    rate = (rate - rate.min()) / (rate.max() - rate.min())
    return float(np.trapezoid(found[::-1], rate[::-1]))


def _at_least(counts: Floats) -> Floats:
    """Of counts by the number of thresholds passed (0 to 200): how many pass the first, the second and so on."""
    more: Floats = counts[::-1].cumsum()[::-1][1:]
    return more


def summarise_anomalies(scores: Floats, maps: Floats, masks: Marks, anomalous: Marks) -> dict[str, float]:
    """Every number of one data set.

    Args:
        scores: [N], how anomalous each image is.
        maps: [N, H, W], how anomalous each place is.
        masks: [N, H, W], true where a defect was marked.
        anomalous: [N], whether an image shows a defect.
    """
    image_auroc, image_ap = ranking(scores, anomalous)
    pixel_auroc, pixel_ap = ranking(maps, masks)
    return {
        "image_auroc": image_auroc,
        "image_ap": image_ap,
        "pixel_auroc": pixel_auroc,
        "pixel_ap": pixel_ap,
        "pro": region_overlap(maps, masks),
    }
