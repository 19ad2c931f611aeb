"""Background work: submit, follow, cancel, resume. The job table is the truth, dask.distributed does the carrying.

from engines import jobs
job_id = jobs.submit(workspace, "train", {"run_id": run.id})
answer = jobs.call(workspace, "predict", {"run_id": run.id, "images": ["cell.png"]})
"""

from engines.jobs.client import (
    EngineStatus,
    active,
    call,
    cancel,
    engine_status,
    ensure_engine,
    job_log,
    retry,
    stop_engine,
    submit,
)
from engines.jobs.context import JobContext
from engines.jobs.registry import JobKind, find_kind, job_kind

__all__ = [
    "EngineStatus",
    "JobContext",
    "JobKind",
    "active",
    "call",
    "cancel",
    "engine_status",
    "ensure_engine",
    "find_kind",
    "job_kind",
    "job_log",
    "retry",
    "stop_engine",
    "submit",
]
