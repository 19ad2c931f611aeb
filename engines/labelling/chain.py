"""The hash chain over the log: a row that was changed, removed or slipped in by hand shows.

Every row carries SHA-256(chain of the row before it in its data set + its own fields as JSON with sorted keys). The
chain runs within a data set, because emptying the bin removes a data set with all its rows, and that is no forgery.
Rows cut off at the very end do not show: compare with an export where that matters.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from engines.store.models import Annotation, Sample
from engines.store.workspace import Workspace


@dataclass(frozen=True)
class ChainReport:
    """Whether the log is as it was written."""

    rows: int
    """Rows that were looked at and fit."""
    broken: int | None
    """The first row that does not fit what stands before it; None where all do."""
    unchained: int = 0
    """Rows from before there was a chain, which were passed over."""


def link(previous: str, row: Annotation) -> str:
    """The chain value of a row that follows one with the value `previous` ("" for the first)."""
    fields = {
        "event": row.event,
        "sample": row.sample_id,
        "class": row.class_id,
        "verdict": row.verdict.value,
        "occasion": row.occasion.value,
        "annotator": row.annotator,
        "comment": row.comment,
        "refers_to": row.refers_to,
        "round": row.round_id,
        "model": row.model,
        "seconds": row.seconds,
        "aids": row.aids,
        "program": row.program,
        "at": row.created_at.isoformat(),
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256((previous + text).encode()).hexdigest()


def head(session: Session, dataset_id: int) -> str:
    """The chain value of the newest row of a data set; "" where there is none."""
    of_dataset = exists().where(Sample.id == Annotation.sample_id, Sample.dataset_id == dataset_id)
    newest = select(Annotation.chain).where(of_dataset, Annotation.chain != "").order_by(Annotation.id.desc())
    return session.scalar(newest.limit(1)) or ""


def check_chain(workspace: Workspace) -> ChainReport:
    """Go through the log of the whole workspace and say where it stops fitting."""
    rows = unchained = 0
    heads: dict[int, str] = {}
    query = select(Annotation, Sample.dataset_id).join(Sample, Sample.id == Annotation.sample_id)
    with workspace.session() as session:
        for row, dataset_id in session.execute(query.order_by(Annotation.id).execution_options(yield_per=1000)):
            before = heads.get(dataset_id, "")
            if not row.chain and not before:
                unchained += 1
                continue
            if row.chain != link(before, row):
                return ChainReport(rows, row.id, unchained)
            heads[dataset_id] = row.chain
            rows += 1
    return ChainReport(rows, None, unchained)
