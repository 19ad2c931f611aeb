"""A data set of rows only: labelling looks at no picture."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from engines.labelling import Entry, Receipt, record
from engines.store import Dataset, LabelClass, Sample, SelectionRound, Verdict, Workspace


def event() -> str:
    return str(uuid.uuid4())


class Clinic:
    """A workspace with one data set: `images` in the pool, classes a, b, c, and readers who say things."""

    def __init__(self, workspace: Workspace, images: int = 6, classes: str = "abc", name: str = "smears") -> None:
        self.workspace = workspace
        with workspace.session() as session:
            dataset = Dataset(name=name, reader="folder", size=images)
            session.add(dataset)
            session.flush()
            self.id = dataset.id
            session.add_all(LabelClass(dataset_id=self.id, position=n, name=c) for n, c in enumerate(classes))
            session.add_all(
                Sample(
                    dataset_id=self.id,
                    position=n,
                    name=f"{n}.png",
                    file=f"{n}.png",
                    sha256=f"{n:064x}",
                    width=8,
                    height=8,
                    split="pool",
                )
                for n in range(images)
            )
        with workspace.session() as session:
            samples = select(Sample.id).where(Sample.dataset_id == self.id).order_by(Sample.position)
            self.samples = list(session.scalars(samples))
            rows = session.scalars(select(LabelClass).where(LabelClass.dataset_id == self.id))
            self.classes = {row.name: row.id for row in rows}

    def entry(self, image: int, said: str, reader: str = "ada", **more: Any) -> Entry:
        """said: the name of a class, or of a verdict."""
        is_class = said in self.classes
        more.setdefault("event", event())
        more.setdefault("comment", "why" if said == "flag" else "")
        return Entry(
            dataset_id=self.id,
            sample_id=self.samples[image],
            annotator=reader,
            verdict=more.pop("verdict", Verdict.LABEL if is_class else Verdict(said)),
            class_id=self.classes[said] if is_class else None,
            **more,
        )

    def say(self, image: int, said: str, reader: str = "ada", **more: Any) -> Receipt:
        return record(self.workspace, self.entry(image, said, reader, **more))

    def add_round(self, images: list[int], **more: Any) -> int:
        """A round that picks these images; `more` are its columns, or `readers` and `repeat` as lists of images."""
        twice, again = more.pop("readers", []), more.pop("repeat", [])
        predicted = more.pop("predicted", {})
        with self.workspace.session() as session:
            numbers = session.scalars(select(SelectionRound.number).where(SelectionRound.dataset_id == self.id))
            added = SelectionRound(
                dataset_id=self.id,
                number=max(numbers, default=0) + 1,
                strategy="entropy",
                budget=len(images),
                picks=[
                    {
                        "sample": self.samples[n],
                        "why": f"why {n}",
                        "predicted": predicted.get(n),
                        "readers": 2 if n in twice else 1,
                        "repeat": n in again,
                    }
                    for n in images
                ],
                **more,
            )
            session.add(added)
            session.flush()
            return added.id


@pytest.fixture
def clinic(workspace: Workspace) -> Clinic:
    return Clinic(workspace)


@pytest.fixture
def make_clinic(workspace: Workspace) -> Callable[..., Clinic]:
    return lambda **how: Clinic(workspace, **how)
