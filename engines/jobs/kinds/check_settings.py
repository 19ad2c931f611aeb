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
        count = select(func.count()).where(Sample.dataset_id == dataset.id, Sample.split == "test")
        tested = session.execute(count).scalar_one()
    return check(payload, names, tested)
