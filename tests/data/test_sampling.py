"""Few-shot draws: exact, repeatable on every machine, and aware of labels that readers gave."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from engines.data import base_new_classes, draw_few_shot, effective_labels, few_shot
from engines.data.splitting import SHARES, assign_splits
from engines.errors import DataError
from engines.store import Annotation, LabelClass, Sample, Split, Verdict, Workspace

Labels = st.lists(st.integers(0, 5), max_size=80)


@given(Labels, st.integers(1, 9), st.integers(0, 1000))
def test_few_shot_counts(labels: list[int], shots: int, seed: int) -> None:
    drawn = few_shot(labels, shots, seed)
    assert len(set(drawn)) == len(drawn)
    expected = {label: min(count, shots) for label, count in Counter(labels).items()}
    assert Counter(labels[i] for i in drawn) == expected
    assert drawn == few_shot(labels, shots, seed)


@given(Labels, st.integers(1, 9), st.permutations(list("abcdef")))
def test_few_shot_knows_labels_by_order_only(labels: list[int], shots: int, names: list[str]) -> None:
    assert few_shot(labels, shots, 1) == few_shot([names[label] for label in labels], shots, 1)


def test_seeds_differ() -> None:
    labels = [0] * 50 + [1] * 50
    assert len({tuple(few_shot(labels, 4, seed)) for seed in range(20)}) == 20


def test_zero_shots_are_all_images_in_their_order() -> None:
    assert few_shot([1, 0, 1], 0, 1) == [0, 1, 2]


def test_the_global_generator_is_left_alone() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    few_shot([0] * 10, 2, 1)
    assert random.random() == expected


@pytest.mark.parametrize(("classes", "base"), [(1, 1), (2, 1), (7, 4), (37, 19), (47, 24), (100, 50)])
def test_base_and_new_classes(classes: int, base: int) -> None:
    assert base_new_classes(classes) == (list(range(base)), list(range(base, classes)))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
)
def test_splits_depend_on_content_alone_and_tear_no_group_apart(
    images: list[tuple[str, int]], shuffler: random.Random
) -> None:
    def assigned(items: list[tuple[str, int]]) -> Counter[tuple[str, int, str]]:
        splits = assign_splits([label for label, _ in items], [f"group {group}" for _, group in items])
        return Counter((label, group, split) for (label, group), split in zip(items, splits, strict=True))

    shuffled = images.copy()
    shuffler.shuffle(shuffled)
    found = assigned(images)
    assert found == assigned(shuffled)
    assert len({(group, split) for _, group, split in found}) == len({group for _, group in images})
    assert {split for _, _, split in found} <= set(SHARES)


def test_every_class_can_be_trained_on() -> None:
    # Class b lies in a single group together with much of class a, which alone would go to validation or testing.
    labels = ["a"] * 70 + ["b"] * 3
    keys = [f"group {n // 20}" for n in range(60)] + ["group x"] * 13
    found = assign_splits(labels, keys)
    assert found[-1] == "train"
    assert {"train", "test"} <= set(found)


@given(st.lists(st.integers(10, 60), min_size=1, max_size=5))
def test_shares_of_single_images_are_exact(sizes: list[int]) -> None:
    labels = [f"class {c}" for c, size in enumerate(sizes) for _ in range(size)]
    splits = assign_splits(labels, [f"hash {i}" for i in range(len(labels))])
    for c, size in enumerate(sizes):
        found = Counter(s for label, s in zip(labels, splits, strict=True) if label == f"class {c}")
        for split, share in SHARES.items():
            assert abs(found[split] - share * size) <= 1


@pytest.fixture
def pets(bring_in: Callable[..., object], tree: Callable[..., Path]) -> int:
    """Data set with splits and two unlabelled images."""
    root = tree({"train/cat": 6, "train/dog": 5, "val/cat": 2, "val/dog": 6, "test/cat": 2, "test/dog": 2})
    (root / "metadata.csv").write_text(
        "file_name,label\n"
        + "".join(f"train/cat/{n:03d}.png,{'' if n < 2 else 'cat'}\n" for n in range(6))
        + "".join(f"{p.relative_to(root)},{p.parent.name}\n" for p in sorted(root.rglob("*.png")) if int(p.stem) > 5)
    )
    return bring_in(root).dataset_id  # type: ignore[attr-defined]


def names_of(workspace: Workspace, ids: list[int]) -> list[str]:
    with workspace.session() as session:
        found = {s.id: s.name for s in session.scalars(select(Sample).where(Sample.id.in_(ids)))}
    return [found[i] for i in ids]


def test_a_draw_is_kept_and_equal_everywhere(workspace: Workspace, pets: int) -> None:
    split = draw_few_shot(workspace, pets, 2, 1)
    stream = random.Random(1)
    cats, dogs = ([f"train/cat/{n:03d}.png" for n in range(2, 6)], [f"train/dog/{n:03d}.png" for n in range(6, 11)])
    expected = stream.sample(cats, 2) + stream.sample(dogs, 2)
    expected_val = stream.sample(["val/cat/011.png", "val/cat/012.png"], 2)
    expected_val += stream.sample([f"val/dog/{n:03d}.png" for n in range(13, 19)], 2)
    assert names_of(workspace, split.train) == expected
    assert names_of(workspace, split.val) == expected_val
    again = draw_few_shot(workspace, pets, 2, 1)
    assert (again.id, again.train) == (split.id, split.train)
    with workspace.session() as session:
        assert len(list(session.scalars(select(Split)))) == 1


def test_validation_has_at_most_four_images_a_class(workspace: Workspace, pets: int) -> None:
    split = draw_few_shot(workspace, pets, 16, 1)
    assert len(split.train) == 9
    assert len(split.val) == 2 + 4
    everything = draw_few_shot(workspace, pets, 0, 1)
    assert len(everything.train) == 9
    assert len(everything.val) == 8


def annotate(workspace: Workspace, name: str, verdict: Verdict, label: str | None, reader: str = "A") -> None:
    with workspace.session() as session:
        sample = session.scalars(select(Sample).where(Sample.name == name)).one()
        found = session.scalar(select(LabelClass).where(LabelClass.name == label))
        session.add(
            Annotation(sample_id=sample.id, class_id=found.id if found else None, verdict=verdict, annotator=reader)
        )


def label_of(workspace: Workspace, dataset_id: int, name: str) -> str | None:
    with workspace.session() as session:
        sample = session.scalars(select(Sample).where(Sample.name == name)).one()
        class_id = effective_labels(session, dataset_id).get(sample.id)
        return session.get_one(LabelClass, class_id).name if class_id else None


def test_newest_verdict_of_each_reader_counts(workspace: Workspace, pets: int) -> None:
    unlabelled, dog = "train/cat/000.png", "train/dog/006.png"
    assert label_of(workspace, pets, unlabelled) is None
    annotate(workspace, unlabelled, Verdict.LABEL, "cat")
    assert label_of(workspace, pets, unlabelled) == "cat"
    annotate(workspace, unlabelled, Verdict.LABEL, "dog", "B")
    assert label_of(workspace, pets, unlabelled) is None, "two readers disagree: nobody's label counts"
    annotate(workspace, unlabelled, Verdict.UNDO, None, "B")
    assert label_of(workspace, pets, unlabelled) == "cat"
    annotate(workspace, unlabelled, Verdict.UNSURE, None)
    assert label_of(workspace, pets, unlabelled) is None
    annotate(workspace, dog, Verdict.UNSURE, None)
    assert label_of(workspace, pets, dog) == "dog"
    annotate(workspace, dog, Verdict.LABEL, "cat", "B")
    assert label_of(workspace, pets, dog) == "cat"
    annotate(workspace, dog, Verdict.NOT_GRADABLE, None, "B")
    assert label_of(workspace, pets, dog) is None


def test_labels_given_in_the_workbench_renew_the_draw(workspace: Workspace, pets: int) -> None:
    before = draw_few_shot(workspace, pets, 0, 1)
    annotate(workspace, "train/cat/001.png", Verdict.LABEL, "dog")
    after = draw_few_shot(workspace, pets, 0, 1)
    assert before.id == after.id
    assert set(names_of(workspace, after.train)) - set(names_of(workspace, before.train)) == {"train/cat/001.png"}


def test_nothing_to_draw_from(workspace: Workspace, bring_in: Callable[..., object], tree: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="no longer exists"):
        draw_few_shot(workspace, 99, 1, 1)
    unlabelled = bring_in(tree({"": 3}))
    with pytest.raises(DataError, match="no labelled images to train on"):
        draw_few_shot(workspace, unlabelled.dataset_id, 1, 1)  # type: ignore[attr-defined]
