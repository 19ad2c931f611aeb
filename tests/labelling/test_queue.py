"""What a reader is shown next, alone and among others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import DataError
from engines.labelling import LabelSettings, adjudication_tasks, assign, tasks, undo
from engines.store import Occasion
from tests.labelling.conftest import Clinic, event


def order(clinic: Clinic, reader: str = "ada") -> list[int]:
    return [clinic.samples.index(task.sample_id) for task in tasks(clinic.workspace, clinic.id, reader)]


def test_a_reader_alone_gets_the_picks_in_their_order(clinic: Clinic) -> None:
    round_id = clinic.add_round([3, 1, 5], predicted={3: clinic.classes["b"]})
    first, *_ = tasks(clinic.workspace, clinic.id, "ada")
    assert (first.round_id, first.why, first.predicted) == (round_id, "why 3", clinic.classes["b"])
    assert (first.occasion, first.second) == (Occasion.READING, False)
    assert order(clinic) == [3, 1, 5]
    clinic.say(3, "a")
    assert order(clinic) == [1, 5]
    undo(clinic.workspace, clinic.id, "ada", event())
    assert order(clinic) == [3, 1, 5]


def test_only_skipped_images_come_back_and_come_last(clinic: Clinic) -> None:
    clinic.add_round([0, 1, 2, 3, 4])
    for image, verdict in enumerate(["skip", "unsure", "not_gradable", "flag"]):
        clinic.say(image, verdict)
    assert order(clinic) == [4, 0]
    clinic.say(4, "skip")
    assert order(clinic) == [0, 4], "what was put off first comes first"


def test_the_newest_round_before_what_is_left_of_older_ones(clinic: Clinic) -> None:
    clinic.add_round([0, 1, 2])
    clinic.say(0, "a")
    second = clinic.add_round([4, 1])
    assert order(clinic) == [4, 1, 2]
    assert [task.round_id for task in tasks(clinic.workspace, clinic.id, "ada")][:2] == [second, second]


def test_an_image_needs_one_reader_or_two(clinic: Clinic) -> None:
    clinic.add_round([0, 1, 2, 3], readers=[1, 2])
    for image in range(4):
        clinic.say(image, "a")
    assert order(clinic) == []
    waiting = tasks(clinic.workspace, clinic.id, "bob")
    assert [clinic.samples.index(task.sample_id) for task in waiting] == [2, 1]
    assert all(task.second for task in waiting)
    clinic.say(2, "b", "bob")
    assert order(clinic, "bob") == [1]
    assert order(clinic, "cem") == [1], "exactly two"


def test_readers_begin_at_different_places(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(images=16)
    clinic.add_round(list(range(16)))
    clinic.say(0, "a", "ada")
    assert order(clinic, "bob")[0] == 8
    clinic.say(8, "a", "bob")
    assert order(clinic, "cem")[0] == 4
    clinic.say(4, "a", "cem")
    assert order(clinic, "dan")[0] == 12
    assert [order(clinic, reader)[0] for reader in ("ada", "bob", "cem")] == [1, 9, 5]
    assert sorted(order(clinic, "dan")) == [n for n in range(16) if n not in (0, 4, 8)]


def test_two_readers_side_by_side_never_meet(make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(images=12)
    clinic.add_round(list(range(12)))
    clinic.say(0, "a", "ada")
    met = []
    while order(clinic, "bob"):
        met += [clinic.say(order(clinic, reader)[0], "a", reader).others for reader in ("bob", "ada") if order(clinic)]
    assert met == [[]] * 11


def test_repeats_come_after_the_round_and_only_to_who_read_them(clinic: Clinic) -> None:
    round_id = clinic.add_round([0, 1, 2, 3], repeat=[0, 1])
    clinic.say(0, "a", round_id=round_id)
    assert order(clinic) == [1, 2, 3, 0]
    clinic.say(1, "skip", round_id=round_id)
    clinic.say(2, "a", "bob", round_id=round_id)
    assert order(clinic) == [3, 0, 1]
    clinic.say(1, "b", round_id=round_id, seen=10**6)
    clinic.say(3, "b", round_id=round_id)
    again = tasks(clinic.workspace, clinic.id, "ada")
    assert {clinic.samples.index(task.sample_id) for task in again} == {0, 1}
    assert {task.occasion for task in again} == {Occasion.REPEAT}
    assert order(clinic, "bob") == [], "bob read none of those to be repeated"
    first = clinic.samples.index(again[0].sample_id)
    clinic.say(first, "skip", occasion=Occasion.REPEAT, round_id=round_id)
    assert order(clinic)[-1] == first
    clinic.say(first, "a", occasion=Occasion.REPEAT, round_id=round_id, seen=10**6)
    assert order(clinic) == [1 - first]


@given(
    picks=st.integers(0, 60),
    second=st.floats(0, 1),
    repeat=st.floats(0, 0.5),
    seed=st.integers(0, 5),
)
def test_shares_are_assigned_to_whole_images(picks: int, second: float, repeat: float, seed: int) -> None:
    settings = LabelSettings(second_share=second, repeat_share=repeat)
    plain = [{"sample": n, "why": "w"} for n in range(picks)]
    assigned = assign(plain, settings, seed)
    assert assigned == assign(plain, settings, seed)
    assert [{"sample": p["sample"], "why": p["why"]} for p in assigned] == plain
    for share, chosen in (
        (second, sum(p["readers"] == 2 for p in assigned)),
        (repeat, sum(p["repeat"] for p in assigned)),
    ):
        if not share or not picks:
            assert chosen == 0
        else:
            assert chosen >= 1
            assert abs(chosen - share * picks) <= 1
    assert all("readers" not in pick for pick in plain), "the picks that were handed in are left alone"


def test_another_seed_assigns_others() -> None:
    plain = [{"sample": n} for n in range(40)]
    half = LabelSettings(second_share=0.5)
    assert assign(plain, half, 1) != assign(plain, half, 2)


def test_disputes_wait_for_a_third_reader(clinic: Clinic) -> None:
    for image in (4, 1, 2):
        clinic.say(image, "a")
        clinic.say(image, "a" if image == 2 else "b", "bob")
    assert adjudication_tasks(clinic.workspace, clinic.id, "ada") == []
    waiting = adjudication_tasks(clinic.workspace, clinic.id, "cem")
    assert [clinic.samples.index(task.sample_id) for task in waiting] == [1, 4]
    assert {task.occasion for task in waiting} == {Occasion.ADJUDICATION}
    clinic.say(1, "skip", "cem", occasion=Occasion.ADJUDICATION)
    assert [t.sample_id for t in adjudication_tasks(clinic.workspace, clinic.id, "cem")] == [
        clinic.samples[4],
        clinic.samples[1],
    ]
    clinic.say(4, "a", "cem", occasion=Occasion.ADJUDICATION)
    assert [t.sample_id for t in adjudication_tasks(clinic.workspace, clinic.id, "cem")] == [clinic.samples[1]]


def test_no_round_and_no_data_set(clinic: Clinic) -> None:
    assert tasks(clinic.workspace, clinic.id, "ada") == []
    for ask in (tasks, adjudication_tasks):
        with pytest.raises(DataError, match="no longer exists"):
            ask(clinic.workspace, 99, "ada")
