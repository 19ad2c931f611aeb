"""Writing a data set's rows: all of them in one transaction."""

from __future__ import annotations

import shutil
import time
from itertools import islice
from typing import cast

from sqlalchemy import Table, insert, select
from sqlalchemy.orm import Session

from engines.data.collecting import Collection
from engines.data.names import clean, free_name
from engines.data.report import ImportReport, count_images
from engines.errors import DataError
from engines.store import Dataset, LabelClass, Sample, Workspace

LONGEST_NAME = 160
BATCH = 5000
SAMPLES = insert(cast(Table, Sample.__table__))
"""Past the object mapper, which takes half as long again for 100,000 rows."""


def imported_before(session: Session, token: str) -> ImportReport | None:
    """The report of the data set that the import `token` made, if it did (also when it is in the bin by now)."""
    for report in session.scalars(select(Dataset.report)):
        if report.get("token") == token:
            return ImportReport.model_validate(report)
    return None


def check_name(session: Session, name: str) -> None:
    """
    Raises:
        DataError: a data set cannot be called so, or another one is.
    """
    text = clean(name)
    if not text:
        raise DataError("A data set needs a name.", "Type one, or leave it out to use the source’s.")
    if len(text) > LONGEST_NAME:
        raise DataError(f"This name is longer than {LONGEST_NAME} characters.", "Choose a shorter one.")
    if text.casefold() in {taken.casefold() for taken in names(session)}:
        raise DataError(f"There is a data set called “{text}” already.", "Choose another name, or remove that one.")


def names(session: Session) -> list[str]:
    return list(session.scalars(select(Dataset.name)))


def store(workspace: Workspace, collection: Collection, dataset: Dataset, token: str, started: float) -> ImportReport:
    """Write a finished collection as `dataset`; its name gets a number where it is taken."""
    rows = collection.rows
    report = ImportReport(
        name=dataset.name,
        reader=dataset.reader,
        seen=len(rows) + collection.left_out.count,
        imported=len(rows),
        counts=count_images(rows, collection.classes),
        reasons=dict(collection.left_out.reasons.most_common()),
        left_out=collection.left_out.files,
        warnings=collection.warnings,
        template=collection.reading.template,
        token=token,
    )
    with workspace.session() as session:
        dataset.name = report.name = free_name(dataset.name[:LONGEST_NAME], names(session))
        dataset.size, dataset.fingerprint = len(rows), collection.fingerprint()
        session.add(dataset)
        session.flush()
        # SQLite gives the number of a removed data set again; its features must not pass for this one's.
        shutil.rmtree(workspace.folder("features") / str(dataset.id), ignore_errors=True)
        classes = _write_classes(session, collection, dataset.id)
        _write_samples(session, collection, dataset.id, classes)
        report.dataset_id, report.seconds = dataset.id, round(time.monotonic() - started, 2)
        dataset.report = report.model_dump()
    return report


def _write_classes(session: Session, collection: Collection, dataset_id: int) -> dict[str, int]:
    """Class name to the id of its row."""
    descriptions = {clean(name): text for name, text in collection.reading.descriptions.items()}
    rows = [
        LabelClass(dataset_id=dataset_id, position=position, name=name, descriptions=descriptions.get(name, []))
        for position, name in enumerate(collection.classes)
    ]
    session.add_all(rows)
    session.flush()
    return {row.name: row.id for row in rows}


def _write_samples(session: Session, collection: Collection, dataset_id: int, classes: dict[str, int]) -> None:
    values = (
        {
            "dataset_id": dataset_id,
            "position": position,
            "name": row.name,
            "file": row.file,
            "sha256": row.sha256,
            "width": row.width,
            "height": row.height,
            "split": row.split,
            "class_id": None if row.label is None else classes[row.label],
            "domain": row.domain,
            "group_key": row.group,
            "mask": row.mask,
        }
        for position, row in enumerate(collection.rows)
    )
    while batch := list(islice(values, BATCH)):
        session.execute(SAMPLES, batch)
