"""Maps: repeatable, fitted once for all that is compared, and never moved by what comes later."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engines.errors import Cancelled, ConfigError, DataError
from engines.inspection.maps import MOST_TSNE, Matrix, fit_map, nearest, principal_axes, unit

KINDS = ["umap", "pca", "tsne"]


def clouds(each: int = 30, dims: int = 16, seed: int = 0) -> tuple[Matrix, np.ndarray]:
    """Three well separated clouds of points, and which cloud each point is of."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(3), each)
    return (4 * np.eye(3, dims)[label] + 0.5 * rng.normal(size=(3 * each, dims))).astype(np.float32), label


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_features_give_the_same_map(kind: str) -> None:
    features, _ = clouds()
    _, first = fit_map(features, kind, seed=3)
    _, second = fit_map(features.copy(), kind, seed=3)
    assert first.shape == (90, 2)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", ["umap", "tsne"])
def test_another_seed_gives_another_map(kind: str) -> None:
    features, _ = clouds()
    assert not np.array_equal(fit_map(features, kind, seed=1)[1], fit_map(features, kind, seed=2)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_alike_lies_together(kind: str) -> None:
    features, label = clouds()
    _, places = fit_map(features, kind)
    index, _ = nearest_in_plane(places)
    assert (label[index] == label).mean() > 0.95


def nearest_in_plane(places: Matrix) -> tuple[np.ndarray, np.ndarray]:
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return apart.argmin(1), apart.min(1)


@pytest.mark.parametrize("kind", KINDS)
def test_length_does_not_matter_and_equal_features_share_a_place(kind: str) -> None:
    features, _ = clouds()
    both = np.concatenate([features, 4 * features])
    fitted, places = fit_map(both, kind)
    assert len(fitted.rows) == 90
    assert np.array_equal(places[:90], places[90:])


@pytest.mark.parametrize("kind", KINDS)
def test_new_points_do_not_move_old_ones(kind: str) -> None:
    features, label = clouds()
    fitted, places = fit_map(features, kind)
    before = fitted.places.copy()
    more, of = clouds(each=5, seed=9)
    found = fitted.place(more)
    assert np.array_equal(fitted.places, before)
    middles = np.stack([places[label == c].mean(0) for c in range(3)])
    apart = np.linalg.norm(found[:, None] - middles[None], axis=2)
    assert (apart.argmin(1) == of).all()
    assert np.allclose(fitted.place(more[7:8])[0], found[7], atol=1e-4)  # whoever else is placed


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_that_was_fitted_gets_its_very_place(kind: str) -> None:
    features, _ = clouds()
    fitted, places = fit_map(features, kind)
    assert np.allclose(fitted.place(features[::7]), places[::7], atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, (12, 6), elements=st.floats(-5, 5, width=32)))
def test_principal_components_are_those_of_the_singular_values(features: Matrix) -> None:
    rows = unit(features)
    _, places = fit_map(features, "pca")
    centred = rows.astype(np.float64) - rows.astype(np.float64).mean(0)
    _, lengths, axes = np.linalg.svd(centred)
    # Variance along each axis, and all distances in the plane, whatever the signs and the order of equal axes.
    assert np.allclose(np.sort((places.astype(np.float64) ** 2).sum(0))[::-1], lengths[:2] ** 2, atol=1e-4)
    if lengths[0] - lengths[1] > 0.1 and lengths[1] - lengths[2] > 0.1:
        assert np.allclose(np.abs(places), np.abs(centred @ axes[:2].T), atol=1e-3)


def test_axes_are_the_same_from_few_and_from_many_rows() -> None:
    """Few rows go by singular values, many by their covariance."""
    rows = unit(clouds(each=4)[0])
    few, many = principal_axes(rows), principal_axes(np.concatenate([rows] * 4))
    assert np.allclose(few[0], many[0], atol=1e-6)
    assert np.allclose(few[1], many[1], atol=1e-4)


def test_neighbours_are_exact() -> None:
    rows = unit(np.random.default_rng(1).normal(size=(1500, 8)).astype(np.float32))
    index, distance = nearest(rows, rows, 4, themselves=True)
    whole = 1 - rows.astype(np.float64) @ rows.T.astype(np.float64)
    np.fill_diagonal(whole, -1)
    assert np.array_equal(index[:, 0], np.arange(1500))
    assert np.allclose(distance, np.maximum(np.sort(whole, axis=1)[:, :4], 0), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 5, 6, 17])
def test_a_few_points_have_a_map(kind: str, count: int) -> None:
    features = np.random.default_rng(count).normal(size=(count, 16)).astype(np.float32)
    fitted, places = fit_map(features, kind)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) == count
    assert np.isfinite(fitted.place(features + 0.1)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [np.ones((40, 8)), np.zeros((40, 8)), np.ones((40, 1))], ids=["one", "0", "1-d"])
def test_identical_points_are_one_point(kind: str, features: np.ndarray) -> None:
    fitted, places = fit_map(features.astype(np.float32), kind)
    assert fitted.kind == "pca"
    assert np.array_equal(places, np.zeros((40, 2), np.float32))


def test_nothing_and_damaged_features_are_told() -> None:
    with pytest.raises(ConfigError, match="nothing to put on a map"):
        fit_map(np.zeros((0, 8), np.float32))
    damaged = np.ones((10, 8), np.float32)
    damaged[3, 2] = np.nan
    with pytest.raises(DataError, match="not numbers"):
        fit_map(damaged)


def test_too_much_for_tsne_is_told_before_it_begins() -> None:
    features = np.random.default_rng(0).normal(size=(MOST_TSNE + 1, 3)).astype(np.float32)
    with pytest.raises(ConfigError, match="Choose UMAP"):
        fit_map(features, "tsne")


@pytest.mark.parametrize("kind", ["umap", "tsne"])
def test_cancelling_stops_and_progress_is_told(kind: str) -> None:
    features, _ = clouds()
    told: list[float] = []
    fit_map(features, kind, progress=lambda done, said: told.append(done))
    assert told == sorted(told)
    asked = iter([False])

    def cancelled() -> None:
        if next(asked, True):
            raise Cancelled

    with pytest.raises(Cancelled):
        fit_map(features, kind, check_cancelled=cancelled)
