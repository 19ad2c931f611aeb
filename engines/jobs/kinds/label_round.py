"""One round of labelling with the machine: learn from the labels, pick the next images."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class LabelRoundPayload(BaseModel):
    dataset_id: int
    annotator: str = ""
    """Who asked for it."""
    measure_only: bool = False
    """Say what the labels so far are worth, and pick nothing."""


@job_kind(
    "label_round",
    lane="waited-for",
    title=lambda payload: "Measure the labels" if payload.measure_only else "Pick the next images to label",
)
def run(job: JobContext, payload: LabelRoundPayload) -> dict[str, Any]:
    from engines.runs.perform import Observer
    from engines.runs.rounds import run_round

    def metric(name: str, step: int, value: float) -> None:
        job.metric(job.id, name, step, value)  # the round's run carries the job's number

    observer = Observer(job.progress, job.check_cancelled, metric, job.log)
    found = run_round(job.workspace, payload.dataset_id, observer, token=job.id, measure_only=payload.measure_only)
    return {"round": found.id, "number": found.number, "picked": len(found.picks), **found.summary}
