"""One cell of a simulated labelling: a strategy, with or without balancing, and a seed."""

from __future__ import annotations

from typing import Any

from engines.jobs import JobContext, job_kind
from engines.runs.simulate_grid import Cell


@job_kind("simulate", lane="long", title=lambda payload: payload.title)
def run(job: JobContext, payload: Cell) -> dict[str, Any]:
    from engines.runs.perform import Observer
    from engines.runs.simulate import simulate

    observer = Observer(progress=job.progress, check_cancelled=job.check_cancelled, log=job.log)
    found = simulate(job.workspace, payload, observer)
    return {"accuracy": found["rows"][-1]["accuracy"], "zero_shot_accuracy": found["zero_shot"]["accuracy"]}
