"""Checks a training before it starts: whether it can work, how long it takes, how much memory it needs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from engines.errors import DataError
from engines.jobs import JobContext, job_kind
from engines.runs.request import TrainRequest
from engines.store import Dataset, Sample


@job_kind("check-settings", lane="interactive", title=lambda payload: "Check the settings")
def run(job: JobContext, payload: TrainRequest) -> dict[str, Any]:
    from engines.runs.estimate import check

    with job.workspace.session() as session:
        dataset = session.get(Dataset, payload.dataset_id)
        if dataset is None:
            raise DataError("This data set no longer exists.", "Choose another one.")
        names = [c.name for c in dataset.classes]
        targets = payload.test_datasets if payload.protocol == "zero-shot-anomaly" else []

        def count(dataset_ids: list[int], tested: bool) -> int:
            split = Sample.split == "test" if tested else Sample.split != "test"
            return session.scalar(select(func.count()).where(Sample.dataset_id.in_(dataset_ids), split)) or 0

        tested = count(targets or [dataset.id], True)
        others = count([dataset.id], False) + (count([dataset.id], True) if targets else 0)
    return check(payload, names, tested, others)
