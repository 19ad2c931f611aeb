"""Feature shift against values worked out by hand."""

from __future__ import annotations

from math import cos, pi, sin
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engines.inspection.shift_measure import Averages, Measured, measure, probe, together
from engines.inspection.shift_towers import Look, Reading, Untold, apart, unit
from engines.runs.material import Item


def at(*degrees: float) -> Tensor:
    """Unit vectors in the plane."""
    return torch.tensor([[cos(d * pi / 180), sin(d * pi / 180)] for d in degrees], dtype=torch.float64)


class Toy:
    """What `measure` asks of a reading, with features given by hand."""

    image_blocks_reason = ""
    surgery_words = None

    def __init__(self, images: tuple[Tensor, Tensor], words: tuple[Tensor, Tensor], **known: Any) -> None:
        self.images, self.words = images, words
        self.method = SimpleNamespace(class_names=["round", "oval"])
        self.image_blocks, self.blocks = known.get("image_blocks"), known.get("text_blocks")
        self.done = 0

    def look(self, raw: Tensor, pixels: Tensor | None) -> Look:
        here = slice(self.done, self.done + len(raw))
        self.done += len(raw)
        words = [each[here] if each.dim() == 3 else each for each in self.words]
        blocks = None if self.image_blocks is None else self.image_blocks[:, here]
        return Look(self.images[0][here], self.images[1][here], words[0], words[1], blocks)

    def text_blocks(self) -> Tensor:
        if self.blocks is None:
            raise Untold("Not told.")
        return cast(Tensor, self.blocks)


def measured(
    toy: Toy, labels: list[int], sizes: tuple[int, ...] = (2, 1), columns: list[int] | None = None
) -> Measured:
    batches = [(torch.zeros(n, 2), None) for n in sizes]
    return measure(cast(Reading[Any], toy), torch.tensor(labels), batches, columns)


# Two images of the first class at 0 degrees, one of the second at 90. The prompt turns the first image and the first
# class's words by 60 degrees, the third image by 90; 1 - cos 60 = 1/2, 1 - cos 90 = 1.
BEFORE, AFTER = at(0, 0, 90), at(60, 0, 180)
WORDS = at(0, 90), at(60, 90)


def test_two_classes_in_the_plane() -> None:
    found = measured(Toy((BEFORE, AFTER), WORDS), [0, 0, 1])
    np.testing.assert_allclose(found.images, [0.5, 0, 1], atol=1e-12)
    np.testing.assert_allclose(found.words, [0.5, 0], atol=1e-12)
    averages = Averages(found, 1)
    images, words, gap = averages.images(found.images), averages.words(found.words), averages.gap()
    assert images is not None
    assert words is not None
    assert gap is not None
    assert (images.mean, words.mean, gap.mean) == pytest.approx((0.5, 0.25, 0.25))
    assert images.std == pytest.approx((1 / 6) ** 0.5)  # of 0.5, 0 and 1
    assert (images.count, words.count) == (3, 2)
    # The mean move of the first class's images is half the move of its words; the second class's words stay.
    np.testing.assert_allclose(found.direction, [1, np.nan], atol=1e-12)
    # Before: every image lies on its words. After: at 60 on 60; at 0, words at 60; at 180, words at 90.
    np.testing.assert_allclose(found.alignment[0], [1, 1, 1], atol=1e-12)
    np.testing.assert_allclose(found.alignment[1], [1, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(found.margin[0], [1, 1, 1], atol=1e-12)
    # The best wrong class: cos 30 at 60, cos 90 at 0, cos 120 at 180.
    np.testing.assert_allclose(found.margin[1], [1 - cos(pi / 6), 0.5, 0.5], atol=1e-12)


def test_directions_tell_side_by_side_from_apart() -> None:
    images = at(0, 90), at(30, 120)
    found = measured(Toy(images, (at(0, 90), at(30, 60))), [0, 1], (2,))
    # The second class: its image moved by u(120) - u(90), its words by u(60) - u(90): 150 degrees between.
    np.testing.assert_allclose(found.direction, [1, cos(pi * 150 / 180)], atol=1e-12)


def test_words_that_depend_on_the_image_are_averaged() -> None:
    own = torch.stack([at(40, 90), at(80, 90), at(60, 90)])  # the mean of 40, 80 and 60 degrees is 60
    found = measured(Toy((BEFORE, AFTER), (at(0, 90), own)), [0, 0, 1])
    np.testing.assert_allclose(found.words, [0.5, 0], atol=1e-12)
    # Alignment is that of each image with its own words.
    np.testing.assert_allclose(found.alignment[1], [cos(pi * 20 / 180), cos(pi * 80 / 180), 0], atol=1e-12)


def test_blocks_and_their_gaps() -> None:
    image_blocks, text_blocks = torch.tensor([[0.1, 0.2, 0.6], [1.0, 1.0, 1.0]]), torch.tensor([[0.5, 0.7], [0.0, 1.0]])
    toy = Toy((BEFORE, AFTER), WORDS, image_blocks=image_blocks, text_blocks=text_blocks)
    found = Averages(measured(toy, [0, 0, 1]), 1).block_gaps()
    assert found is not None
    gaps, mean = found
    assert [each.mean for each in gaps] == pytest.approx([0.3, 0.5])
    assert mean.mean == pytest.approx(0.4)


def test_blocks_that_cannot_be_told_are_words_not_zeros() -> None:
    found = measured(Toy((BEFORE, AFTER), WORDS, image_blocks=torch.zeros(2, 3)), [0, 0, 1])
    assert found.text_blocks is None
    assert found.text_blocks_reason == "Not told."
    assert Averages(found, 1).block_gaps() is None


def test_some_of_the_classes() -> None:
    found = measured(Toy((at(90), at(180)), WORDS), [0], (1,), columns=[1])
    np.testing.assert_allclose(found.words, [0], atol=1e-12)
    np.testing.assert_allclose(found.alignment[0], [1], atol=1e-12)
    assert np.isnan(found.margin[0]).all()  # there is no other class to be confused with


def test_groups_together() -> None:
    parts = [
        measured(Toy((at(0), at(60)), WORDS), [0], (1,), columns=[0]),
        measured(Toy((at(90), at(90)), WORDS), [0], (1,), columns=[1]),
    ]
    whole = together(parts)
    np.testing.assert_allclose(whole.images, [0.5, 0], atol=1e-12)
    np.testing.assert_allclose(whole.words, [0.5, 0], atol=1e-12)
    assert whole.labels.tolist() == [0, 1]
    assert whole.text_blocks is None


def test_what_has_not_moved_is_exactly_zero() -> None:
    same = unit(torch.randn(50, 64))
    assert apart(same, same).eq(0).all()
    tiny = unit(same + 1e-7 * torch.randn(50, 64, dtype=torch.float64))
    assert apart(same, tiny).gt(0).all()  # 1 - cos in single precision would drown it


@given(st.permutations(range(5)), st.integers(0, 2**31 - 1))
def test_another_order_of_the_classes_only_reorders(order: list[int], seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (12,), generator=draw)
    images = [unit(torch.randn(12, 4, generator=draw)) for _ in range(2)]
    words = [unit(torch.randn(5, 4, generator=draw)) for _ in range(2)]
    blocks = torch.rand(3, 5, generator=draw)
    place = torch.tensor(order)

    def found(rows: Tensor) -> Measured:
        known = {"text_blocks": blocks[:, rows], "image_blocks": torch.rand(3, 12, generator=torch.Generator())}
        toy = Toy((images[0], images[1]), (words[0][rows], words[1][rows]), **known)
        toy.method.class_names = list("abcde")
        return measured(toy, torch.argsort(rows)[labels].tolist(), (5, 7))

    plain, other = found(torch.arange(5)), found(place)
    np.testing.assert_allclose(other.words, plain.words[order], atol=1e-12)
    np.testing.assert_allclose(other.direction, plain.direction[order], atol=1e-9)
    np.testing.assert_allclose(other.margin, plain.margin, atol=1e-12)
    for name in ("gap", "block_gaps"):
        assert np.allclose(*[_numbers(getattr(Averages(each, 1), name)()) for each in (plain, other)], atol=1e-9)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, tuple | list):
        return [number for each in value for number in _numbers(each)]
    return [value.mean, value.low, value.high]


# --- intervals ----------------------------------------------------------------


def of(images: list[float], words: list[float]) -> Averages:
    nothing, pair = np.full(len(words), np.nan), (np.zeros(len(images)), np.zeros(len(images)))
    labels = np.zeros(len(images), np.int64)
    return Averages(
        Measured(np.array(images), np.array(words), nothing, labels, pair, pair, None, "", None, "", None, None), 1
    )


def test_equal_values_have_no_spread() -> None:
    found = of([0.25] * 9, [0.5] * 3)
    images, gap = found.images(found.measured.images), found.gap()
    assert images is not None
    assert gap is not None
    assert (images.low, images.high, images.std) == pytest.approx((0.25, 0.25, 0))
    assert (gap.low, gap.mean, gap.high) == pytest.approx((0.25, 0.25, 0.25))


def test_interval_is_as_wide_as_theory_has_it() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(1.0, 0.2, 400)
    found = of(values.tolist(), [0.0])
    average = found.images(values)
    assert average is not None
    assert average.low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.003)
    assert average.high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.003)


def test_values_that_cannot_be_told_do_not_count() -> None:
    found = of([0.1, 0.2], [0.0])
    average = found.images(np.array([0.1, np.nan]))
    assert average is not None
    assert (average.mean, average.count) == (pytest.approx(0.1), 1)
    assert found.images(np.array([np.nan, np.nan])) is None


# --- the images that are looked at ----------------------------------------------


def items(*counts: int) -> list[Item]:
    return [
        Item(100 * label + i, f"{label}-{i}.png", f"{label}/{i}", label)
        for label, count in enumerate(counts)
        for i in range(count)
    ]


def test_classes_have_equal_shares_of_the_probe() -> None:
    chosen = [item.label for item in probe(items(40, 3, 25), 20, 1)]
    assert sorted(chosen.count(label) for label in range(3)) == [3, 8, 9]


def test_few_images_are_all_looked_at() -> None:
    assert {item.sample_id for item in probe(items(4, 2), 512, 1)} == {item.sample_id for item in items(4, 2)}


def test_choice_depends_on_the_seed_alone() -> None:
    pool = items(30, 30)
    assert probe(pool, 20, 1) == probe(pool[::-1], 20, 1)
    assert {i.sample_id for i in probe(pool, 20, 1)} != {i.sample_id for i in probe(pool, 20, 2)}
    renamed = [Item(i.sample_id, i.file, i.sha256, 1 - i.label) for i in pool]
    assert {i.sample_id for i in probe(pool, 20, 1)} == {i.sample_id for i in probe(renamed, 20, 1)}
