"""Coefficients against published and hand-counted tables, and against their definitions written out in full."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from engines.labelling import agreement, disagreements
from engines.labelling.coefficients import (
    NOTHING_TWICE,
    ONE_CLASS,
    Coefficient,
    Table,
    cohen,
    fleiss,
    gwet,
    krippendorff,
    measure,
    percent,
)
from engines.store import Occasion, Verdict
from tests.labelling.conftest import Clinic

# Ten subjects, fourteen raters, five categories: the example by which Fleiss' kappa is commonly taught (0.210).
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def ratings(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.int64)


def value(coefficient: Coefficient, rows: np.ndarray, categories: int) -> float:
    table = Table.of(rows, categories)
    return float(coefficient(table, table.images[None, :].astype(float))[0])


def two_by_two(both_yes: int, yes_no: int, no_yes: int, both_no: int) -> np.ndarray:
    return ratings([[1, 1]] * both_yes + [[1, 0]] * yes_no + [[0, 1]] * no_yes + [[0, 0]] * both_no)


def test_fleiss_example() -> None:
    rows = ratings([[k for k, count in enumerate(line) for _ in range(count)] for line in FLEISS])
    assert value(fleiss, rows, 5) == pytest.approx(0.2099, abs=5e-5)
    assert value(percent, rows, 5) == pytest.approx(0.378, abs=5e-4)


def test_cohen_example() -> None:
    rows = two_by_two(20, 5, 10, 15)
    assert value(cohen, rows, 2) == pytest.approx(0.4)
    assert value(percent, rows, 2) == pytest.approx(0.7)


def test_gwet_example_where_kappa_breaks_down() -> None:
    # 125 cases, nearly all of one class. By hand: agreement 0.944, share of yes 0.972, chance 2 · 0.972 · 0.028.
    rows = two_by_two(118, 5, 2, 0)
    chance = 2 * 0.972 * 0.028
    assert value(gwet, rows, 2) == pytest.approx((0.944 - chance) / (1 - chance))
    assert value(cohen, rows, 2) == pytest.approx(-0.0234, abs=5e-5)


def test_krippendorff_example() -> None:
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
    assert value(krippendorff, ratings(observers).T - 1, 5) == pytest.approx(0.743, abs=5e-4)


images = st.lists(st.lists(st.integers(-1, 2), min_size=3, max_size=3), min_size=2, max_size=12)


def spelled_out(rows: list[list[int]]) -> dict[str, float]:
    """The definitions over pairs of readings, without matrices."""
    said = [[r for r in row if r >= 0] for row in rows]
    said = [row for row in said if len(row) >= 2]
    agreeing = [sum(a == b for a, b in permutations(row, 2)) / (len(row) * (len(row) - 1)) for row in said]
    observed = sum(agreeing) / len(said)
    used = {r for row in said for r in row}
    share = {k: sum(row.count(k) / len(row) for row in said) / len(said) for k in used}
    chance = sum(p * p for p in share.values())
    uneven = sum(p * (1 - p) for p in share.values()) / (len(used) - 1)
    pooled = Counter(r for row in said for r in row)
    total = sum(pooled.values())
    differing = sum(sum(a != b for a, b in permutations(row, 2)) / (len(row) - 1) for row in said) / total
    by_chance = sum(pooled[a] * pooled[b] for a in used for b in used if a != b) / (total * (total - 1))
    return {
        "percent": observed,
        "fleiss": (observed - chance) / (1 - chance),
        "gwet": (observed - uneven) / (1 - uneven),
        "krippendorff": 1 - differing / by_chance,
    }


@given(images)
def test_any_number_of_readings_as_defined(rows: list[list[int]]) -> None:
    used = {r for row in rows if sum(x >= 0 for x in row) >= 2 for r in row if r >= 0}
    assume(len(used) >= 2)
    expected = spelled_out(rows)
    for coefficient in (percent, fleiss, gwet, krippendorff):
        assert value(coefficient, ratings(rows), 3) == pytest.approx(expected[coefficient.__name__])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_cohen_as_elsewhere(pairs: list[tuple[int, int]]) -> None:
    rows = ratings([list(pair) for pair in pairs])
    assume(len(np.unique(rows)) > 1)
    assert value(cohen, rows, 4) == pytest.approx(cohen_kappa_score(rows[:, 0], rows[:, 1]))


def test_degenerate_tables_say_why() -> None:
    once = ratings([[0, -1], [-1, 1]])
    same = ratings([[1, 1]] * 8)
    for coefficient in (percent, fleiss, gwet, krippendorff):
        assert measure(coefficient, Table.of(once, 2)).why == NOTHING_TWICE
    for coefficient in (fleiss, gwet, krippendorff, cohen):
        found = measure(coefficient, Table.of(same, 2))
        assert (found.value, found.interval, found.why) == (None, None, ONE_CLASS)
    assert value(percent, same, 2) == 1
    assert measure(percent, Table.of(same[:4], 2)).interval is None, "four images are too few for an interval"


def test_the_interval_is_that_of_resampled_images() -> None:
    rows = two_by_two(40, 10, 10, 40)
    found = measure(cohen, Table.of(rows, 2))
    assert found == measure(cohen, Table.of(rows[::-1], 2)), "the order of the images does not matter"
    stream = np.random.default_rng(0)
    drawn = [rows[stream.integers(0, len(rows), len(rows))] for _ in range(400)]
    kappas = [cohen_kappa_score(each[:, 0], each[:, 1]) for each in drawn]
    assert found.interval == pytest.approx(np.quantile(kappas, (0.025, 0.975)), abs=0.04)
    more = measure(cohen, Table.of(np.tile(rows, (16, 1)), 2))
    assert more.interval is not None
    assert found.interval is not None
    assert more.interval[1] - more.interval[0] < 0.5 * (found.interval[1] - found.interval[0])


def test_readers_of_a_data_set(clinic: Clinic) -> None:
    for image, (ada, bob) in enumerate([("a", "a"), ("a", "b"), ("b", "b"), ("b", "b"), ("not_gradable", "a")]):
        clinic.say(image, ada)
        clinic.say(image, bob, "bob")
    clinic.say(5, "unsure")
    clinic.say(5, "a", "bob")
    clinic.say(0, "b", "cem", occasion=Occasion.IMPORT)
    found = agreement(clinic.workspace, clinic.id)
    a, b = clinic.classes["a"], clinic.classes["b"]
    assert found.readers == ["ada", "bob"]
    assert found.categories == [a, b, None]
    assert found.images == 5
    assert found.percent.value == pytest.approx(3 / 5)
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.images) == ("ada", "bob", 5)
    assert pair.confusion == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert pair.kappa.value == pytest.approx(cohen_kappa_score([0, 0, 1, 1, 2], [0, 1, 1, 1, 0]))
    assert found.again == []
    alone = agreement(clinic.workspace, clinic.id, ["ada"])
    assert (alone.images, alone.pairs, alone.fleiss.why) == (0, [], NOTHING_TWICE)


def test_changing_ones_mind_later_does_not_raise_agreement(clinic: Clinic) -> None:
    for image, said in enumerate("aabb"):
        clinic.say(image, said)
        clinic.say(image, "a", "bob")
    before = agreement(clinic.workspace, clinic.id).percent
    clinic.say(2, "a", occasion=Occasion.REVIEW, seen=10**6)
    assert agreement(clinic.workspace, clinic.id).percent == before


def test_a_reader_against_themselves(clinic: Clinic) -> None:
    round_id = clinic.add_round([0, 1, 2, 3], repeat=[0, 1, 2, 3])
    for image, said in enumerate("aabb"):
        clinic.say(image, said, round_id=round_id)
    assert agreement(clinic.workspace, clinic.id).again == []
    for image, said in enumerate(["a", "b", "b", "skip"]):
        clinic.say(image, said, round_id=round_id, occasion=Occasion.REPEAT)
    (again,) = agreement(clinic.workspace, clinic.id).again
    assert (again.first, again.images, again.confusion) == ("ada", 3, [[1, 1], [0, 1]])
    assert again.percent.value == pytest.approx(2 / 3)


def test_nobody_has_read_anything(clinic: Clinic) -> None:
    found = agreement(clinic.workspace, clinic.id)
    assert (found.readers, found.images, found.pairs) == ([], 0, [])
    assert {found.percent.why, found.fleiss.why, found.krippendorff.why, found.gwet.why} == {NOTHING_TWICE}
    assert disagreements(clinic.workspace, clinic.id) == []


def test_disagreements_name_every_reader(clinic: Clinic) -> None:
    says = {0: ["a", "a", "b"], 1: ["a", "b"], 2: ["a", "not_gradable"], 3: ["a", "unsure"], 4: ["c", "c"]}
    for image, all_said in says.items():
        for reader, said in zip(["ada", "bob", "cem"], all_said, strict=False):
            clinic.say(image, said, reader)
    clinic.say(1, "c", "dan", occasion=Occasion.ADJUDICATION)
    found = disagreements(clinic.workspace, clinic.id)
    assert [clinic.samples.index(each.sample_id) for each in found] == [2, 0, 1], "the unsettled one first"
    open_one, majority, adjudicated = found
    assert {name: each.verdict for name, each in open_one.verdicts.items()} == {
        "ada": Verdict.LABEL,
        "bob": Verdict.NOT_GRADABLE,
    }
    assert (open_one.class_id, open_one.majority, open_one.adjudicated) == (None, False, False)
    assert (majority.class_id, majority.majority, majority.adjudicated) == (clinic.classes["a"], True, False)
    assert (adjudicated.class_id, adjudicated.adjudicated) == (clinic.classes["c"], True)


def test_pairs_are_of_readers_with_images_in_common(clinic: Clinic) -> None:
    for reader, seen in {"ada": [0, 1], "bob": [1, 2], "cem": [4]}.items():
        for image in seen:
            clinic.say(image, "a", reader)
    found = agreement(clinic.workspace, clinic.id)
    assert [(p.first, p.second, p.images) for p in found.pairs] == [("ada", "bob", 1)]
    assert len(list(combinations(found.readers, 2))) == 3
