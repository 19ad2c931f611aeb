"""A kind of job that takes its time, for tests that follow and cancel one."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel

from engines.jobs import JobContext, job_kind


class WaitPayload(BaseModel):
    seconds: float = 120.0


@job_kind("wait", title=lambda payload: "Count the <b>cells</b>")
def run(job: JobContext, payload: WaitPayload) -> dict[str, Any]:
    job.log("counting")
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < payload.seconds:
        job.check_cancelled()
        job.progress(passed / payload.seconds, "counting cells", "10 cells/s")
        time.sleep(0.1)
    return {}
