"""Each strategy against its definition, computed the plain way."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from engines.active import Randomness, available_strategies, pick, select
from engines.active.base import Pool
from engines.active.registry import strategy_class
from engines.active.strategies.badge import class_factor
from engines.active.strategies.coreset import Front
from tests.active.pools import STRATEGIES, MadeUp, made_up, pools


def unlabelled(pool: MadeUp) -> np.ndarray:
    return np.setdiff1d(np.arange(len(pool.features)), pool.labelled)


def test_entropy_is_highest_first() -> None:
    pool = made_up(size=100)
    values = -(pool.probabilities * np.log(pool.probabilities)).sum(axis=1)
    rows = unlabelled(pool)
    picks = pick("entropy", None, pool.probabilities, pool.labelled, 10)
    assert [chosen.index for chosen in picks] == rows[np.argsort(-values[rows])][:10].tolist()
    np.testing.assert_allclose([chosen.score for chosen in picks], values[[p.index for p in picks]], atol=1e-4)


def test_margin_is_smallest_first() -> None:
    pool = made_up(size=100)
    two = np.sort(pool.probabilities, axis=1)[:, -2:]
    values = two[:, 1] - two[:, 0]
    rows = unlabelled(pool)
    assert select("margin", None, pool.probabilities, pool.labelled, 10) == rows[np.argsort(values[rows])][:10].tolist()


@pytest.mark.parametrize(("size", "budget", "front"), [(100, 30, 4096), (9000, 200, 4096), (400, 200, 8)])
def test_coreset_equals_the_greedy_with_all_distances(
    size: int, budget: int, front: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64; two of the pools have more images than the front that is looked at."""
    monkeypatch.setattr(Front, "SIZE", front)
    monkeypatch.setattr(Front, "BLOCK", min(front, Front.BLOCK))
    pool = made_up(seed=5, size=size, classes=8, labelled=12)
    features = pool.features.astype(np.float64)
    nearest = (2 - 2 * features @ features[pool.labelled].T).min(axis=1)
    nearest[pool.labelled] = -1
    picks, distances = [], []
    for _ in range(budget):
        picks.append(int(nearest.argmax()))
        distances.append(nearest.max() ** 0.5)
        nearest = np.minimum(nearest, 2 - 2 * features @ features[picks[-1]])
        nearest[picks[-1]] = -1
    found = pick("coreset", pool.features, None, pool.labelled, budget)
    assert [chosen.index for chosen in found] == picks
    np.testing.assert_allclose([chosen.score for chosen in found], distances, atol=1e-5)


def test_coreset_without_labels_starts_in_the_middle() -> None:
    pool = made_up(size=100, labelled=0)
    mean = pool.features.mean(axis=0)
    picks = pick("coreset", pool.features, None, [], 3)
    assert picks[0].index == int((pool.features @ mean).argmax())
    assert picks[0].reason.kind == "typical"
    assert picks[1].index == int((pool.features @ pool.features[picks[0].index]).argmin())


@settings(deadline=None)
@given(pools())
def test_badge_starts_with_the_longest_gradient(pool: MadeUp) -> None:
    rows = unlabelled(pool)
    lengths = np.linalg.norm(class_factor(pool.probabilities[rows]), axis=1) * np.linalg.norm(
        pool.features[rows], axis=1
    )
    first = pick("badge", *pool.arrays, 1)[0]
    assert lengths[rows == first.index][0] >= lengths.max() - 1e-6


@pytest.mark.parametrize("compat", [None, "official"])
def test_badge_draws_in_proportion_to_squared_distance(compat: str | None) -> None:
    """Frequencies of the third pick, given the first two, against D² of the written-out gradients."""
    pool = made_up(seed=2, size=9, classes=3, labelled=0)
    rows = np.einsum("nc,nd->ncd", class_factor(pool.probabilities), pool.features).reshape(9, -1)
    drawn: dict[int, Counter[int]] = {}
    for seed in range(1000):
        _, second, third = select("badge", *pool.arrays, 3, seed, compat=compat)  # type: ignore[arg-type]
        drawn.setdefault(second, Counter())[third] += 1
    first = select("badge", *pool.arrays, 1)[0]
    to_first = ((rows - rows[first]) ** 2).sum(axis=1)
    totals = {second: sum(found.values()) for second, found in drawn.items()}
    expected = to_first / to_first.sum()
    for second, found in drawn.items():
        assert totals[second] / 1000 == pytest.approx(expected[second], abs=0.05)
        squared = np.minimum(to_first, ((rows - rows[second]) ** 2).sum(axis=1))
        chi2 = sum(
            (found[i] - totals[second] * share) ** 2 / (totals[second] * share)
            for i, share in enumerate(squared / squared.sum())
            if share > 0
        )
        assert chi2 < 30  # 6 degrees of freedom: one in 25,000


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_ranking_goes_on_where_it_stopped(name: str, official: bool) -> None:
    """Nothing twice, whatever a call was restricted to, until nothing is left."""
    given = made_up(size=80)
    rows = unlabelled(given)
    pool = Pool(*given.arrays[:2], rows, given.labelled, Randomness(4), official)
    ranking = strategy_class(name)(pool)
    some = np.arange(len(rows)) % 3 == 0
    first, second, third = ranking.take(10), ranking.take(7, some), ranking.take(12)
    assert [len(first), len(second), len(third)] == [10, 7, 12]
    assert all(some[second])
    last = ranking.take(1000)
    assert sorted(first + second + third + last) == list(range(len(rows)))
    assert ranking.take(1) == ranking.take(1, some) == []


def test_random_reaches_every_image_equally_often() -> None:
    pool = made_up(size=10, labelled=0)
    found = Counter(index for seed in range(1000) for index in select("random", None, pool.probabilities, [], 3, seed))
    assert all(abs(found[i] - 300) < 75 for i in range(10))


@pytest.mark.parametrize("name", ["entropy", "margin", "random"])
def test_no_features_needed(name: str) -> None:
    pool = made_up()
    picks = select(f"pcb-{name}", None, pool.probabilities, pool.labelled, 5, labels=pool.labels)
    assert picks == select(f"pcb-{name}", *pool.arrays, 5, labels=pool.labels)


@pytest.mark.parametrize("name", ["coreset", "random"])
def test_no_model_needed(name: str) -> None:
    pool = made_up()
    picks = pick(name, pool.features, None, pool.labelled, 5)
    assert {chosen.predicted for chosen in picks} == {-1}
    assert [chosen.index for chosen in picks] == select(name, *pool.arrays, 5)


def test_every_strategy_says_what_it_does() -> None:
    infos = available_strategies()
    assert [info.name for info in infos] == STRATEGIES
    for info in infos:
        assert info.title
        assert info.sentence.endswith(".")
        assert len(info.sentence) < 120


LIGHT = """
import sys
from engines.active import available_strategies
available_strategies()
heavy = {"torch", "scipy", "sklearn", "pandas", "pydantic", "sqlalchemy", "open_clip"} & set(sys.modules)
assert not heavy, heavy
"""


def test_listing_strategies_imports_nothing_heavy() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


NEW = """
from engines.active.base import Ranking, StrategyInfo
from engines.active.reasons import Reason

class Last(Ranking):
    info = StrategyInfo("last", "Last", "Shows the newest images.", needs_model=False)

    def score(self):
        return -self.pool.rows

    def explain(self, position):
        return Reason("random"), float(position)
"""
USE_NEW = """
import sys
import engines.active.strategies as package
package.__path__.append(sys.argv[1])
from engines.active import available_strategies, select
assert "last" in [info.name for info in available_strategies()]
import numpy as np
probabilities = np.eye(2)[[0, 1, 0, 0, 0]]
assert select("last", None, probabilities, [4], 2) == [3, 2]
assert select("pcb-last", None, probabilities, [4], 2, labels=[0]) == [1, 3]
"""


def test_a_new_strategy_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "last.py").write_text(NEW, encoding="utf-8")
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", USE_NEW, str(tmp_path)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
