"""What an export of labels holds: images, what was decided on them, and the log of all decisions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from engines.data.images import SUFFIXES, load_image
from engines.data.names import file_name, free_name, spreadsheet_safe
from engines.errors import DataError
from engines.labelling.consensus import consensus
from engines.labelling.rows import Row, live_dataset, log, newest_by_reader, still_standing
from engines.store.models import Annotation, Sample, SelectionRound, Verdict
from engines.store.workspace import Workspace

UNNAMED = "a class that is gone"


@dataclass(frozen=True, slots=True)
class Picture:
    """One image and what was decided on it."""

    sample_id: int
    position: int
    name: str
    source: Path
    sha256: str
    width: int
    height: int
    split: str
    domain: str
    group: str
    label: str | None
    """The class by consensus; None where there is none."""
    decided_by: str
    """`adjudication`, `readers`, `import`, `given` with the data set, or empty."""
    disputed: bool
    said: dict[str, str]
    """What each reader says of it now: a class, or another verdict in brackets."""

    @property
    def file_name(self) -> str:
        """Its name in an export: unique, and fit for every file system."""
        suffix = self.source.suffix.lower()
        return f"{self.position:06d}-{file_name(Path(self.name).stem)}{suffix if suffix in SUFFIXES else '.png'}"

    @property
    def purpose(self) -> str:
        """`train`, `validation` or `test`; labelled images of the pool are for training."""
        return {"val": "validation", "test": "test"}.get(self.split, "train")

    def write(self, target: Path) -> None:
        """Copy the image to `target`; medical files, which may name patients inside, are written as PNG.

        Raises:
            OSError: it is missing, or the disk is full.
            DataError: it cannot be decoded.
        """
        if self.source.suffix.lower() in SUFFIXES:
            shutil.copyfile(self.source, target)
        else:
            load_image(self.source).save(target, "PNG")


@dataclass
class Content:
    """A data set on its way out."""

    name: str
    description: str
    classes: list[str]
    """In label order."""
    readers: list[str]
    pictures: list[Picture]
    decisions: list[dict[str, Any]] | None
    """One row a decision, in order of time; None without the audit trail."""
    progress: Callable[[float, str], object] = lambda fraction, message: None
    check_cancelled: Callable[[], object] = lambda: None
    missing: list[Picture] = field(default_factory=list)
    """Images whose file is gone or cannot be read any more; found out while writing."""

    @property
    def labelled(self) -> list[Picture]:
        """
        Raises:
            DataError: nothing is labelled.
        """
        found = [picture for picture in self.pictures if picture.label is not None]
        if not found:
            raise DataError(
                "No image has a label yet, so there is nothing to export in this format.",
                "Label some first; the CSV table can be exported at any time.",
            )
        return found

    def written(
        self,
        pictures: Iterable[Picture],
        place: Callable[[Picture], Path],
        then: Callable[[Path], object] = lambda file: None,
    ) -> list[Picture]:
        """Write images to where `place` says, and do something with each file; returns those that are there."""
        wanted, kept = list(pictures), []
        for number, picture in enumerate(wanted):
            self.check_cancelled()
            self.progress(number / len(wanted), f"{number:,} of {len(wanted):,} images")
            target = place(picture)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                picture.write(target)
            except (FileNotFoundError, IsADirectoryError, PermissionError, DataError):
                target.unlink(missing_ok=True)
                self.missing.append(picture)
            else:
                then(target)
                kept.append(picture)
        return kept

    def class_folders(self) -> dict[str, str]:
        """A folder name for each class; none that a table would have to put an apostrophe before."""
        folders: dict[str, str] = {}
        for name in self.classes:
            wanted = file_name(name)
            wanted = wanted if spreadsheet_safe(wanted) == wanted else f"_{wanted}"
            folders[name] = free_name(wanted, folders.values())
        return folders


def gather(workspace: Workspace, dataset_id: int, audit: bool) -> Content:
    """Everything about a data set's labels, as of one moment.

    Raises:
        DataError: there is no such data set, or it is in the bin.
    """
    with workspace.session() as session:
        dataset = live_dataset(session, dataset_id)
        names = {each.id: each.name for each in dataset.classes}
        agreed = consensus(session, dataset_id)
        said = newest_by_reader(still_standing(log(session, dataset_id)))
        ordered = select(Sample).where(Sample.dataset_id == dataset_id).order_by(Sample.position)
        pictures, readers = [], dict.fromkeys(reader for of_image in said.values() for reader in of_image)
        for sample in session.scalars(ordered.execution_options(yield_per=1000)):
            found = agreed.get(sample.id)
            pictures.append(
                Picture(
                    sample_id=sample.id,
                    position=sample.position,
                    name=sample.name,
                    source=workspace.resolve(sample.file),
                    sha256=sample.sha256,
                    width=sample.width,
                    height=sample.height,
                    split=sample.split,
                    domain=sample.domain,
                    group=sample.group,
                    label=names.get(found.class_id) if found and found.class_id is not None else None,
                    decided_by=found.by if found else "",
                    disputed=bool(found and found.disputed),
                    said={reader: _word(row, names) for reader, row in said.get(sample.id, {}).items()},
                )
            )
        decisions = _decisions(session, dataset_id, names) if audit else None
        return Content(dataset.name, dataset.description, list(names.values()), sorted(readers), pictures, decisions)


def _word(row: Row, names: dict[int, str]) -> str:
    if row.verdict is Verdict.LABEL and row.class_id is not None:
        return names.get(row.class_id, UNNAMED)
    return f"({row.verdict.value.replace('_', ' ')})"


DECISION_FIELDS = (
    *("decision", "time", "reader", "image", "sha256", "verdict", "label", "comment", "occasion", "refers_to"),
    *("round", "strategy", "why", "model", "seconds", "aids", "program", "event", "chain"),
)


def _decisions(session: Session, dataset_id: int, names: dict[int, str]) -> list[dict[str, Any]]:
    """The log, one row a decision, with `DECISION_FIELDS`."""
    rounds = {
        each.id: (each, {pick["sample"]: str(pick.get("why", "")) for pick in each.picks})
        for each in session.scalars(select(SelectionRound).where(SelectionRound.dataset_id == dataset_id))
    }
    query = select(Annotation, Sample.name, Sample.sha256).join(Sample, Sample.id == Annotation.sample_id)
    rows = []
    for row, image, sha256 in session.execute(query.where(Sample.dataset_id == dataset_id).order_by(Annotation.id)):
        of_round, why = rounds.get(row.round_id or 0, (None, {}))
        values = (
            *(row.id, row.created_at.isoformat(), row.annotator, image, sha256, row.verdict.value),
            "" if row.class_id is None else names.get(row.class_id, UNNAMED),
            *(row.comment, row.occasion.value, row.refers_to),
            *(of_round.number if of_round else None, of_round.strategy if of_round else ""),
            *(why.get(row.sample_id, ""), row.model, row.seconds),
            json.dumps(row.aids, ensure_ascii=False) if row.aids else "",
            *(row.program, row.event or "", row.chain),
        )
        rows.append(dict(zip(DECISION_FIELDS, values, strict=True)))
    return rows
