"""BADGE (Ash et al., ICLR 2020): k-means++ seeding over the gradients of the last layer, exact and factorised.

The gradient of the cross-entropy with respect to a linear head on the unit image feature f, for the model's own answer
ŷ, is g = (onehot(ŷ) - p) ⊗ f up to its sign. It is used as this product: N (C + D) numbers instead of N · C · D.
"""

from __future__ import annotations

import numpy as np

from engines.active.base import Floats, Mask, Pool, Positions, Strategy, StrategyInfo
from engines.active.nearest import NearestCentre
from engines.active.reasons import Reason

READ, DRAW = 40, 4000
"""What reading a row and what a draw cost, in comparisons of a row with a centre. Measured roughly; only speed depends
on them."""


def class_factor(probabilities: Floats) -> Floats:
    """[n, C] onehot(argmax p) - p for probabilities [n, C]: the factor of the gradient beside the feature."""
    factor = -probabilities
    factor[np.arange(len(factor)), probabilities.argmax(axis=1)] += 1
    return factor


class Badge(Strategy):
    """Longest gradient first, then each next one with a probability in proportion to D²: k-means++ seeding.

    D is the distance to the nearest gradient picked already. When all that is left are copies of those, the rest comes
    by length of the gradient.
    """

    info = StrategyInfo(
        name="badge",
        title="BADGE",
        sentence="Shows images on which the model hesitates and which also differ from one another.",
        needs_model=True,
        needs_features=True,
    )
    candidate_cap = 20

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        read = [lambda at: class_factor(pool.probability_rows(at)), pool.feature_rows]
        self.seeding = Seeding(NearestCentre(len(pool), read, pool.dtype, pool.check_cancelled), pool)

    def take(self, count: int, among: Mask | None = None) -> list[int]:
        return self.seeding.take(count, among)

    def explain(self, position: int) -> tuple[Reason, float]:
        classes, probabilities = self.top_two(position)
        distance = self.seeding.distances[position]
        return Reason("varied", classes, probabilities), distance


class Seeding:
    """k-means++ seeding (Arthur and Vassilvitskii, 2007) over the points of `nearest`.

    A draw in proportion to D² does not need every D²: draw in proportion to an upper bound of it, and keep the draw
    with the probability D² / bound, else draw again. The outcome has exactly the wanted distribution. After many draws
    in vain the bounds are renewed. In official mode all D² are renewed for every draw, and one `uniform()` of the
    legacy generator is looked up in their cumulative sum, as `rv_discrete.rvs` does.
    """

    def __init__(self, nearest: NearestCentre, pool: Pool) -> None:
        self.nearest, self.pool = nearest, pool
        self.free = np.ones(len(nearest.squared), np.bool_)
        self.distances: dict[int, float] = {}
        norms = [nearest.points(chunk).squared_norms for chunk in pool.chunks()]
        self.squared_norms = np.concatenate(norms)
        self._all = _Wheel(nearest, None)

    def take(self, count: int, among: Mask | None = None) -> list[int]:
        """The next `count` positions."""
        taken: list[int] = []
        wheel = self._all if among is None else _Wheel(self.nearest, np.flatnonzero(among & self.free))
        while len(taken) < count:
            self.pool.check_cancelled()
            position = self._next(wheel, among)
            if position is None:
                break
            self._add(position)
            taken.append(position)
        return taken

    def _next(self, wheel: _Wheel, among: Mask | None) -> int | None:
        if self.nearest.centres:
            drawn = self._draw_official(among) if self.pool.official else wheel.draw(self.pool.randomness.modern)
            if drawn is not None:
                return drawn
        allowed = np.flatnonzero(self.free if among is None else self.free & among)
        return int(allowed[np.argmax(self.squared_norms[allowed])]) if len(allowed) else None

    def _add(self, position: int) -> None:
        squared = float(self.nearest.squared[position])
        self.distances[position] = squared**0.5 if np.isfinite(squared) else float(self.squared_norms[position]) ** 0.5
        first = not self.nearest.centres
        self.nearest.add(self.nearest.points(np.array([position])))
        if first:
            self.nearest.refresh()
        self.nearest.squared[position] = 0
        self.free[position] = False

    def _draw_official(self, among: Mask | None) -> int | None:
        self.nearest.refresh()
        allowed = self.free if among is None else self.free & among
        weights = np.where(allowed, self.nearest.squared, 0)
        total = weights.sum()
        if total <= 0:
            return None
        sums = np.cumsum(weights / total)
        while True:
            position = min(int(np.searchsorted(sums, self.pool.randomness.legacy.uniform())), len(sums) - 1)
            if allowed[position]:
                return position


class _Wheel:
    """Draws positions in proportion to their squared distance to the nearest centre.

    Draws do not depend on what became of those before, so they are made `AHEAD` at a time: bringing many bounds up to
    date at once is a product of matrices, and much quicker than one after the other.
    """

    AHEAD = 64

    def __init__(self, nearest: NearestCentre, positions: Positions | None) -> None:
        self.nearest = nearest
        self.positions = positions
        self.bounds = np.empty(0)
        self.sums = np.empty(0)
        self.ahead: list[int] = []
        self.in_vain = 0
        self.renewed_at = 0

    def draw(self, rng: np.random.Generator) -> int | None:
        """A position, or None when every distance is 0."""
        if not len(self.bounds):
            self._renew(exact=False)
        while len(self.sums) and self.sums[-1] > 0:
            if not self.ahead:
                self._spin(rng)
            slot = self.ahead.pop()
            position = slot if self.positions is None else int(self.positions[slot])
            self.nearest.refresh(np.array([position]))
            if rng.random() * self.bounds[slot] < self.nearest.squared[position]:
                return position
            self.in_vain += 1
            if self._renewing_pays():
                self._renew(exact=True)
        return None

    def _renewing_pays(self) -> bool:
        """Whether the draws in vain have cost as much by now as bringing all bounds up to date."""
        unseen = self.nearest.centres - self.renewed_at
        return self.in_vain * (DRAW + unseen) > len(self.bounds) * (READ + unseen)

    def _spin(self, rng: np.random.Generator) -> None:
        slots = np.searchsorted(self.sums, rng.random(self.AHEAD) * self.sums[-1], side="right")
        slots = np.minimum(slots, len(self.sums) - 1)
        self.nearest.refresh(slots if self.positions is None else self.positions[slots])
        self.ahead = slots.tolist()

    def _renew(self, exact: bool) -> None:
        if exact:
            self.nearest.refresh(self.positions)
        squared = self.nearest.squared if self.positions is None else self.nearest.squared[self.positions]
        self.bounds = squared.astype(np.float64)
        self.sums = np.cumsum(self.bounds)
        self.ahead = []
        self.in_vain = 0
        self.renewed_at = self.nearest.centres
