"""Maps: many features laid out in a plane, so that near means alike. NumPy in, NumPy out.

Everything that shall be compared is fitted together, and what comes later is placed on the map without moving what is
there. Distances are cosine distances of the features, found exactly. The same features give the same map.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.errors import ConfigError, DataError

Kind = Literal["umap", "pca", "tsne"]
Matrix = NDArray[np.float32]
Places = NDArray[np.int64]
Progress = Callable[[float, str], None]

NEIGHBOURS = 15
MIN_DIST = 0.1
PERPLEXITY = 30.0
FEWEST = 5
"""Different points from which UMAP and t-SNE have something to do."""
MOST_TSNE = 5_000
"""Different points that t-SNE takes; its time grows much faster than UMAP's."""
DIGITS = 6
"""Decimals to which features count as the same point."""
PREPARING = "Preparing the map; once after installation this takes up to a minute"
_BLOCK = 1024
_POLL = 0.1


@dataclass(frozen=True)
class Map:
    """A map that was fitted, and all that is needed to place further points on it."""

    kind: Kind
    """How the points were laid out; `pca` where there were too few different ones for anything else."""
    rows: Matrix
    """[N, D] different features that were fitted, of length 1 (0 where there was no direction)."""
    places: Matrix
    """[N, 2] where they lie."""
    centre: Matrix
    """[D] of PCA; empty for other kinds."""
    axes: Matrix
    """[2, D] of PCA; empty for other kinds."""

    def place(self, features: Matrix) -> Matrix:
        """Places [n, 2] of further features [n, D]; each depends on that feature and the map alone.

        PCA projects them. On other maps a point goes where its neighbours in the map are, weighted as UMAP weighs them
        (McInnes et al. 2018, section 3.1), which is how UMAP's own transform begins; a feature that was fitted gets its
        very place.
        """
        rows = unit(features)
        if self.kind == "pca":
            return np.asarray((rows - self.centre) @ self.axes.T, np.float32)
        index, distance = nearest(rows, self.rows, min(NEIGHBOURS, len(self.rows)))
        weights = _memberships(distance)
        weights[distance[:, 0] < 10.0**-DIGITS, 1:] = 0
        return np.asarray((weights[..., None] * self.places[index]).sum(1) / weights.sum(1, keepdims=True), np.float32)


def fit_map(
    features: Matrix,
    kind: Kind = "umap",
    seed: int = 1,
    progress: Progress = lambda fraction, message: None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> tuple[Map, Matrix]:
    """Lay out features [N, D]; returns the map and the place [N, 2] of every feature. Equal features share a place.

    UMAP: 15 neighbours, minimal distance 0.1, begun from the first two principal components. t-SNE: perplexity 30.

    Raises:
        ConfigError: there is nothing to lay out, or t-SNE would take too long.
        DataError: a feature is not finite.
    """
    if not len(features):
        raise ConfigError("There is nothing to put on a map.", "Choose images that have features.")
    every = unit(features)
    centre, axes = principal_axes(every)
    rows, back = _different(every)
    flat = np.asarray((rows - centre) @ axes.T, np.float32)
    if kind == "pca" or len(rows) < FEWEST:
        return Map("pca", rows, flat, centre, axes), flat[back]
    if kind == "tsne":
        if len(rows) > MOST_TSNE:
            raise ConfigError(
                f"t-SNE is for up to {MOST_TSNE:,} different points, and these are {len(rows):,}.",
                "Choose UMAP: it is quick with so many.",
            )
        places = _tsne(rows, flat, seed, progress, check_cancelled)
    else:
        places = _umap(rows, flat, seed, progress, check_cancelled)
    nothing = np.zeros(0, np.float32)
    return Map(kind, rows, places, nothing, nothing.reshape(0, rows.shape[1])), places[back]


def unit(features: Matrix) -> Matrix:
    """Features [N, D] brought to length 1; those without a direction stay 0.

    Raises:
        DataError: a number is not finite.
    """
    rows = np.asarray(features, np.float32)
    if not np.isfinite(rows).all():
        raise DataError(
            "Some features are not numbers, so they have no place on a map.",
            "Train again with a smaller step size, or compute the features again.",
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-9, rows / np.maximum(lengths, 1e-9), 0), np.float32)


def principal_axes(rows: Matrix) -> tuple[Matrix, Matrix]:
    """Mean [D] and the two directions [2, D] of largest variance of rows [N, D]; zeros where there is no variance.

    The largest entry of a direction is positive, so that a map is never mirrored.
    """
    centre = rows.mean(0, dtype=np.float64)
    centred = rows - centre
    if len(rows) <= rows.shape[1]:
        _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    else:
        squares, vectors = np.linalg.eigh(centred.T @ centred)
        lengths, axes = np.sqrt(np.maximum(squares[::-1], 0)), vectors.T[::-1]
    axes = np.where((lengths[:2] > 1e-6)[:, None], axes[:2], 0)
    axes = np.vstack([axes, np.zeros((2 - len(axes), rows.shape[1]))])
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(1)])
    return centre.astype(np.float32), (axes * np.where(signs == 0, 1, signs)[:, None]).astype(np.float32)


def nearest(
    of: Matrix, rows: Matrix, k: int, themselves: bool = False, check_cancelled: Callable[[], None] = lambda: None
) -> tuple[Places, Matrix]:
    """The `k` nearest of unit `rows` [M, D] to each of `of` [N, D]: positions and cosine distances [N, k], exact.

    Args:
        themselves: whether both are the same rows; then the first neighbour of every row is itself, at distance 0.
    """
    index, distance = np.empty((len(of), k), np.int64), np.empty((len(of), k), np.float32)
    for start in range(0, len(of), _BLOCK):
        check_cancelled()
        block = 1 - of[start : start + _BLOCK] @ rows.T
        lines = np.arange(len(block))
        if themselves:
            block[lines, start + lines] = -1
        found = np.argpartition(block, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(block, found, 1)
        order = np.lexsort((found, near))
        part = slice(start, start + len(block))
        index[part] = np.take_along_axis(found, order, 1)
        distance[part] = np.maximum(np.take_along_axis(near, order, 1), 0)
    return index, distance


def _different(rows: Matrix) -> tuple[Matrix, Places]:
    """The different ones among rows, in the order in which they come, and which of them each row is."""
    rounded = np.ascontiguousarray(np.round(rows, DIGITS) + 0)  # + 0: there is one zero
    keys = rounded.view(np.dtype((np.void, rounded.dtype.itemsize * rounded.shape[1]))).ravel()
    _, first, back = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rows[first[order]], rank[back.ravel()]


def _memberships(distance: Matrix) -> NDArray[np.float64]:
    """UMAP's weights [n, k] of neighbours at distances [n, k]: exp(-(d - nearest) / s), which sum to log2(k)."""
    beyond = np.asarray(distance, np.float64) - distance[:, :1]
    wanted = np.log2(max(distance.shape[1], 2))
    low, high = np.zeros(len(distance)), np.full(len(distance), 1e3)
    for _ in range(60):
        middle = (low + high) / 2
        more = np.exp(-beyond / np.maximum(middle, 1e-12)[:, None]).sum(1) > wanted
        low, high = np.where(more, low, middle), np.where(more, middle, high)
    return np.exp(-beyond / np.maximum(high, 1e-12)[:, None])


def _umap(rows: Matrix, start: Matrix, seed: int, progress: Progress, check_cancelled: Callable[[], None]) -> Matrix:
    progress(0.0, PREPARING)
    _aside(_ready_umap, check_cancelled)
    progress(0.1, f"Looking for the neighbours of {len(rows):,} points")
    k = min(NEIGHBOURS, len(rows) - 1)
    known = nearest(rows, rows, k, True, check_cancelled)
    epochs = _Epochs()

    def fit() -> Matrix:
        import warnings

        import umap

        model = umap.UMAP(
            n_neighbors=k,
            min_dist=MIN_DIST,
            metric="cosine",
            init=_spread(start, seed),
            precomputed_knn=known,
            force_approximation_algorithm=True,
            random_state=seed,
            n_jobs=1,
            tqdm_kwds={"file": epochs, "disable": False, "bar_format": "{n}/{total} "},
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it cannot transform without an index of its own
            found: Matrix = model.fit_transform(rows)
        return found

    return _aside(fit, check_cancelled, lambda: progress(0.3 + 0.7 * epochs.done, "Laying out the map"))


def _ready_umap() -> None:
    """Import UMAP and compile it, or load what was compiled before: numba keeps only what it is told to keep."""
    from umap import layouts, umap_

    slow = [umap_.smooth_knn_dist, umap_.compute_membership_strengths]
    slow.append(getattr(layouts, "_nb_optimize_layout_euclidean_single_epoch", None))
    for function in slow:
        if hasattr(function, "enable_caching"):
            function.enable_caching()


def _tsne(rows: Matrix, start: Matrix, seed: int, progress: Progress, check_cancelled: Callable[[], None]) -> Matrix:
    begun = time.monotonic()

    def fit() -> Matrix:
        from sklearn.manifold import TSNE

        model = TSNE(
            perplexity=min(PERPLEXITY, (len(rows) - 1) / 3),
            metric="cosine",
            init=_spread(start, seed) * 1e-4,
            random_state=seed,
        )
        found: Matrix = model.fit_transform(rows)
        return found

    def tell() -> None:  # it does not say how far it is
        progress(0.05, f"Laying out the map, {time.monotonic() - begun:.0f} s so far")

    return _aside(fit, check_cancelled, tell)


def _spread(start: Matrix, seed: int) -> Matrix:
    """The principal components as a beginning: each from 0 to 10, with a little noise so that no two points agree."""
    low, high = start.min(0), start.max(0)
    scaled = 10 * (start - low) / np.maximum(high - low, 1e-9)
    noise = np.random.default_rng(seed).normal(scale=1e-3, size=start.shape)
    return np.asarray(scaled + noise, np.float32)


class _Epochs:
    """Takes what UMAP's progress bar writes."""

    def __init__(self) -> None:
        self.done = 0.0

    def write(self, text: str) -> int:
        done, _, of = text.strip().partition("/")
        if done.isdigit() and of.isdigit():
            self.done = int(done) / max(int(of), 1)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def _aside(
    work: Callable[[], Any], check_cancelled: Callable[[], None], tell: Callable[[], None] = lambda: None
) -> Any:
    """Do `work` in a thread of its own, so that cancelling does not wait for it; abandoned work ends by itself."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True, name="map")
    thread.start()
    while thread.is_alive():
        thread.join(_POLL)
        check_cancelled()
        tell()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
