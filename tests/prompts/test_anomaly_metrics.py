"""Measures of found defects against scikit-learn, and against counting it out at every threshold."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label
from sklearn.metrics import average_precision_score, roc_auc_score

from engines.prompts.anomaly_metrics import ranking, region_overlap, summarise_anomalies


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_ranking_equals_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores, marks = np.array([p[0] for p in pairs], np.float32), np.array([p[1] for p in pairs])
    auroc, precision = ranking(scores, marks)
    if marks.all() or not marks.any():
        assert np.isnan(auroc)
        assert np.isnan(precision)
        return
    assert auroc == pytest.approx(roc_auc_score(marks, scores))
    assert precision == pytest.approx(average_precision_score(marks, scores))


def counted_out(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """AUPRO as its definition reads, threshold by threshold."""
    rates, founds = [], []
    for threshold in np.linspace(maps.min(), maps.max(), 200, endpoint=False):
        said = maps > threshold
        shares = []
        for one, mask in zip(said, masks, strict=True):
            regions = label(mask)
            shares += [one[regions == number].mean() for number in range(1, regions.max() + 1)]
        founds.append(np.mean(shares))
        rates.append(said[~masks].mean())
    kept = np.array(rates) < limit
    rate, found = np.array(rates)[kept], np.array(founds)[kept]
    rate = (rate - rate.min()) / (rate.max() - rate.min())
    return float(np.trapezoid(found[::-1], rate[::-1]))


@pytest.mark.parametrize("limit", [0.1, 0.3, 1.1])
def test_region_overlap_is_what_counting_gives(limit: float) -> None:
    rng = np.random.default_rng(0)
    masks = np.kron(rng.random((4, 6, 6)) > 0.8, np.ones((5, 5))).astype(bool)
    masks[0, 0, 0] = masks[0, 1, 1] = True  # touch at a corner: one region
    maps = rng.random((4, 30, 30)) + 0.7 * masks
    assert region_overlap(maps, masks, limit) == pytest.approx(counted_out(maps, masks, limit), rel=1e-6)


def test_perfect_and_useless_maps() -> None:
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 2:5, 2:5] = True
    anomalous = np.array([True, False])
    perfect = summarise_anomalies(np.array([0.9, 0.1]), masks.astype(np.float32), masks, anomalous)
    assert {perfect[name] for name in ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")} == {1.0}
    flat = summarise_anomalies(np.array([0.5, 0.5]), np.ones((2, 8, 8), np.float32), masks, anomalous)
    assert flat["image_auroc"] == flat["pixel_auroc"] == 0.5
    assert flat["pixel_ap"] == pytest.approx(masks.mean())
    assert np.isnan(flat["pro"])


def test_nothing_to_find() -> None:
    found = summarise_anomalies(np.ones(2), np.random.rand(2, 4, 4), np.zeros((2, 4, 4), bool), np.zeros(2, bool))
    assert all(np.isnan(value) for value in found.values())


def test_many_maps_fit_in_memory() -> None:
    """A hundred maps of 240 x 240: at most five times their own size beside them."""
    rng = np.random.default_rng(0)
    maps = rng.random((100, 240, 240), np.float32)
    masks = maps > 0.95
    maps += rng.random(maps.shape, np.float32)
    tracemalloc.start()
    started = time.monotonic()
    found = summarise_anomalies(maps.max(axis=(1, 2)), maps, masks, np.arange(100) % 2 == 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["pixel_auroc"] > 0.8
    assert peak < 5 * maps.nbytes
    assert time.monotonic() - started < 30
