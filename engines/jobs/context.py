"""What a job may say and ask while it runs. Every call is cheap enough for every step of a training."""

from __future__ import annotations

import time
from typing import IO, Any

from sqlalchemy import select, update

from engines.errors import Cancelled
from engines.store import Job, Metric, Workspace, now

WRITE_EVERY = 0.3
"""Seconds between two writes of progress, so that a fast loop does not wait for the disk."""


class JobContext:
    """The running job as its kind sees it.

    Attributes:
        workspace: where it works.
        id: of its row; empty for a call in the interactive lane, which has no row.
        attempt: how often a worker has begun it, counted from 1.
    """

    def __init__(self, workspace: Workspace, job_id: str = "", attempt: int = 1, log: IO[str] | None = None) -> None:
        self.workspace, self.id, self.attempt = workspace, job_id, attempt
        self._log = log
        self._written = self._looked = 0.0
        self._cancelled = False
        self._begun = (time.monotonic(), 0.0)
        self._state: dict[str, Any] = {}
        self._metrics: dict[tuple[str, str, int], float] = {}

    def progress(self, fraction: float, message: str = "", rate: str = "", seconds_left: float | None = None) -> None:
        """Say how far it is (0 to 1) and what it does; time left is estimated where it is not given."""
        fraction = min(max(fraction, 0.0), 1.0)
        if seconds_left is None:
            seconds_left = self._estimate(fraction)
        self._state = {"progress": fraction, "message": message, "rate": rate, "seconds_left": seconds_left}
        if time.monotonic() - self._written >= WRITE_EVERY:
            self.flush()

    def check_cancelled(self) -> None:
        """Raise `Cancelled` once somebody has asked to cancel this job."""
        if not self._cancelled and self.id and time.monotonic() - self._looked >= WRITE_EVERY / 2:
            self._looked = time.monotonic()
            with self.workspace.session() as session:
                asked = session.scalar(select(Job.cancel_requested).where(Job.id == self.id))
            self._cancelled = asked is None or asked
        if self._cancelled:
            raise Cancelled

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        if self._log is not None:
            self._log.write(f"{now():%H:%M:%S} {text}\n")
            self._log.flush()

    def metric(self, run_id: str, name: str, step: int, value: float) -> None:
        """Note one number of a run; a number noted again, after a resume, replaces the older one."""
        self._metrics[run_id, name, step] = value
        if time.monotonic() - self._written >= WRITE_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what was said so far."""
        self._written = time.monotonic()
        metrics, self._metrics = self._metrics, {}
        with self.workspace.session() as session:
            if self.id and self._state:
                session.execute(update(Job).where(Job.id == self.id).values(**self._state, heartbeat_at=now()))
            if metrics:
                rows = [
                    {"run_id": run_id, "name": name, "step": step, "value": value}
                    for (run_id, name, step), value in metrics.items()
                ]
                insert = _insert(session.get_bind().dialect.name)(Metric).values(rows)
                session.execute(
                    insert.on_conflict_do_update(
                        index_elements=["run_id", "name", "step"], set_={"value": insert.excluded.value}
                    )
                )

    def _estimate(self, fraction: float) -> float | None:
        """Seconds left at the pace since the start, or since progress last fell back (a new phase)."""
        started, at = self._begun
        if fraction < at:
            self._begun = started, at = time.monotonic(), fraction
        elapsed, done = time.monotonic() - started, fraction - at
        return elapsed / done * (1 - fraction) if done > 0.01 and elapsed > 1 else None


def _insert(dialect: str) -> Any:
    from sqlalchemy.dialects import postgresql, sqlite

    return postgresql.insert if dialect == "postgresql" else sqlite.insert
