"""A data set with real image files and names that want to be code."""

from __future__ import annotations

import csv
import uuid
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import select

from engines.data import ImportRequest, import_dataset
from engines.labelling import Entry, effective_labels, record
from engines.store import LabelClass, Occasion, Sample, Verdict, Workspace

ODD = ["=SUM(A1)", "-1", "+cat", "@dog", "a/b", "a_b", "CON", 'läuse, "dicke"', "<b>|x", "猫"]
READER = "=HYPERLINK(“x”)"


def draw(file: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (9, 11, 3), np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def bring_in(workspace: Workspace, folder: Path, name: str = "=odd <set>", unlabelled: int = 3) -> int:
    """Two images of each odd class (one for training, one for testing) and some without a label: the data set's id."""
    folder.mkdir()
    with (folder / "odd.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "split", "domain", "group"])
        for number, label in enumerate([*(label for label in ODD for _ in range(2)), *[""] * unlabelled]):
            draw(folder / f"{number}/=image.png", number)
            split = ["train", "test"][number % 2] if label else ""
            writer.writerow([f"{number}/=image.png", label, split, f"site {number % 3}", f"-group {number}"])
    return import_dataset(workspace, ImportRequest(source=str(folder / "odd.csv"), name=name)).dataset_id


def samples(workspace: Workspace, dataset_id: int) -> list[Sample]:
    with workspace.session() as session:
        rows = select(Sample).where(Sample.dataset_id == dataset_id).order_by(Sample.position)
        return list(session.scalars(rows))


def classes(workspace: Workspace, dataset_id: int) -> dict[str, int]:
    with workspace.session() as session:
        return {c.name: c.id for c in session.scalars(select(LabelClass).where(LabelClass.dataset_id == dataset_id))}


def say(
    workspace: Workspace,
    dataset_id: int,
    sample: int,
    said: str | Verdict,
    reader: str = READER,
    comment: str = "",
    occasion: Occasion = Occasion.READING,
    round_id: int | None = None,
) -> int:
    """Record a verdict (a class's name or another verdict); the row's id."""
    verdict = said if isinstance(said, Verdict) else Verdict.LABEL
    class_id = None if isinstance(said, Verdict) else classes(workspace, dataset_id)[said]
    entry = Entry(
        dataset_id=dataset_id,
        sample_id=sample,
        annotator=reader,
        verdict=verdict,
        class_id=class_id,
        comment=comment,
        event=str(uuid.uuid4()),
        seconds=1.5,
        aids={"blind": True},
        occasion=occasion,
        round_id=round_id,
    )
    return record(workspace, entry).id


def labels(workspace: Workspace, dataset_id: int) -> dict[str, str]:
    """Class by consensus, by the content of the image."""
    names = {class_id: name for name, class_id in classes(workspace, dataset_id).items()}
    with workspace.session() as session:
        found = effective_labels(session, dataset_id)
    return {s.sha256: names[found[s.id]] for s in samples(workspace, dataset_id) if s.id in found}


def bare_copy(workspace: Workspace, dataset_id: int, with_classes: bool = True) -> int:
    """A data set of the same images without any label or verdict."""
    from engines.store import Dataset

    with workspace.session() as session:
        copy = Dataset(name=f"copy of {dataset_id}", reader="table")
        session.add(copy)
        session.flush()
        if with_classes:
            for position, name in enumerate(classes(workspace, dataset_id)):
                session.add(LabelClass(dataset_id=copy.id, position=position, name=name))
        for s in samples(workspace, dataset_id):
            session.add(
                Sample(
                    dataset_id=copy.id,
                    position=s.position,
                    name=s.name,
                    file=s.file,
                    sha256=s.sha256,
                    width=s.width,
                    height=s.height,
                    split="pool",
                )
            )
        return copy.id
