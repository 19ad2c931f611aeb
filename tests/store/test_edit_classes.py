"""Naming the classes of a data set that came without labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.errors import DataError
from engines.store import Annotation, Dataset, LabelClass, Run, Sample, Verdict, Workspace
from engines.store.browse import classes
from engines.store.edit import add_class, set_classes


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "ws")


@pytest.fixture
def dataset(ws: Workspace) -> int:
    with ws.session() as session:
        made = Dataset(name="cells", reader="unlabelled", size=1)
        session.add(made)
        session.flush()
        session.add(Sample(dataset_id=made.id, position=0, name="a", file="a.png", sha256="0", width=1, height=1))
        return made.id


def named(ws: Workspace, dataset_id: int) -> list[str]:
    return [each.name for each in classes(ws, dataset_id)]


def label(ws: Workspace, found: LabelClass) -> None:
    with ws.session() as session:
        sample = session.query(Sample).one()
        session.add(Annotation(sample_id=sample.id, class_id=found.id, verdict=Verdict.LABEL, annotator="A"))


def test_names_are_taken_in_their_order_and_tidied(ws: Workspace, dataset: int) -> None:
    made = set_classes(ws, dataset, ["  benign ", "", "malignant", "benign", "not\tsure"])
    assert [each.position for each in made] == [0, 1, 2]
    assert named(ws, dataset) == ["benign", "malignant", "not sure"]


@pytest.mark.parametrize("names", [[], [""], ["one"], ["one", " one "], ["a", "b" * 201]])
def test_too_few_or_too_long_names_change_nothing(ws: Workspace, dataset: int, names: list[str]) -> None:
    set_classes(ws, dataset, ["x", "y"])
    with pytest.raises(DataError):
        set_classes(ws, dataset, names)
    assert named(ws, dataset) == ["x", "y"]


def test_known_classes_keep_their_numbers_and_new_ones_come_behind(ws: Workspace, dataset: int) -> None:
    first = set_classes(ws, dataset, ["b", "a"])
    second = set_classes(ws, dataset, ["c", "a", "b"])
    assert [each.name for each in second] == ["b", "a", "c"]
    assert [each.id for each in second[:2]] == [each.id for each in first]
    assert [each.position for each in second] == [0, 1, 2]


def test_an_unused_class_can_go_but_one_in_use_cannot(ws: Workspace, dataset: int) -> None:
    made = set_classes(ws, dataset, ["a", "b", "c"])
    label(ws, made[0])
    assert [each.position for each in set_classes(ws, dataset, ["a", "c"])] == [0, 1]
    with pytest.raises(DataError, match="labelled with the class “a”"):
        set_classes(ws, dataset, ["c", "d"])
    assert named(ws, dataset) == ["a", "c"]


def test_after_a_training_no_class_goes(ws: Workspace, dataset: int) -> None:
    set_classes(ws, dataset, ["a", "b", "c"])
    with ws.session() as session:
        session.add(Run(name="r", dataset_id=dataset, backbone="mini-clip", method="coop"))
    with pytest.raises(DataError, match="model was trained"):
        set_classes(ws, dataset, ["a", "b"])
    assert len(set_classes(ws, dataset, ["a", "b", "c", "d"])) == 4


def test_a_class_added_twice_is_one(ws: Workspace, dataset: int) -> None:
    assert add_class(ws, dataset, " rare  kind ").id == add_class(ws, dataset, "rare kind").id
    assert named(ws, dataset) == ["rare kind"]
    for bad in ("", "   ", "x" * 201):
        with pytest.raises(DataError):
            add_class(ws, dataset, bad)


def test_a_data_set_that_is_gone_is_told(ws: Workspace) -> None:
    with pytest.raises(DataError, match="no longer exists"):
        add_class(ws, 77, "a")
    with pytest.raises(DataError, match="no longer exists"):
        set_classes(ws, 77, ["a", "b"])
