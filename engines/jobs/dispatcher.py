"""Hands queued jobs to free workers, watches them, and brings the rows of interrupted ones in order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from distributed import Client, Future
from distributed.scheduler import KilledWorker
from sqlalchemy import select, update

from engines.errors import JobError
from engines.jobs import worker
from engines.jobs.registry import find_kind
from engines.jobs.rows import finish, requeue
from engines.store import Job, JobState, Workspace, now

MOST_ATTEMPTS = 3
INTERRUPTED = "Interrupted; goes on from its last checkpoint"


@dataclass
class _Flight:
    future: Future
    lane: str
    cancel_seen: float = 0.0
    """Monotonic time at which its cancelling was first seen; 0 where nobody asked."""


class Dispatcher:
    """One turn (`step`) after the other; the job table is the truth, this only moves it along.

    Args:
        grace: seconds that a job may ignore a cancel before its worker is restarted.
    """

    def __init__(self, workspace: Workspace, client: Client, grace: float = 10.0) -> None:
        self.workspace, self.client, self.grace = workspace, client, grace
        self.flights: dict[str, _Flight] = {}
        self._requeue_orphans()

    def _requeue_orphans(self) -> None:
        """Jobs that were running when an earlier engine ended."""
        with self.workspace.session() as session:
            for job_id in list(session.scalars(select(Job.id).where(Job.state == JobState.RUNNING))):
                requeue(session, job_id, INTERRUPTED)

    def step(self) -> bool:
        """Land finished jobs, see to cancelled ones, start queued ones; whether anything is open."""
        for job_id, flight in list(self.flights.items()):
            if flight.future.done():
                del self.flights[job_id]
                self._land(job_id, flight.future)
        self._see_to_cancelled()
        return self._start() or bool(self.flights)

    def _land(self, job_id: str, future: Future) -> None:
        error = future.exception() if future.status == "error" else None
        future.release()
        with self.workspace.session() as session:
            job = session.get(Job, job_id)
            if job is None or job.state is not JobState.RUNNING:
                return
            if job.cancel_requested:
                finish(session, job_id, JobState.CANCELLED)
            elif isinstance(error, KilledWorker) and job.attempt >= MOST_ATTEMPTS:
                finish(
                    session,
                    job_id,
                    JobState.FAILED,
                    f"The worker process ended unexpectedly {MOST_ATTEMPTS} times, probably for lack of memory."
                    " Close other programs or choose smaller settings, then retry.",
                    str(error),
                )
            elif error is None or isinstance(error, KilledWorker) or future.status == "cancelled":
                requeue(session, job_id, INTERRUPTED)
            else:
                finish(session, job_id, JobState.FAILED, *worker.explain(error))

    def _see_to_cancelled(self) -> None:
        if not self.flights:
            return
        with self.workspace.session() as session:
            asked = select(Job.id).where(Job.id.in_(self.flights), Job.cancel_requested.is_(True))
            cancelled = list(session.scalars(asked))
        for job_id in cancelled:
            flight = self.flights[job_id]
            flight.cancel_seen = flight.cancel_seen or time.monotonic()
            if time.monotonic() - flight.cancel_seen > self.grace:
                self._restart_worker_of(job_id, flight)

    def _restart_worker_of(self, job_id: str, flight: _Flight) -> None:
        with self.workspace.session() as session:
            finish(session, job_id, JobState.CANCELLED, message="It did not stop by itself and was ended")
        addresses = list(self.client.who_has([flight.future]).get(flight.future.key, ())) or [
            address for address, keys in self.client.processing().items() if flight.future.key in keys
        ]
        flight.future.cancel()
        if addresses:
            self.client.restart_workers(addresses, raise_for_error=False)
        del self.flights[job_id]

    def _start(self) -> bool:
        with self.workspace.session() as session:
            queue = select(Job.id, Job.kind).where(Job.state == JobState.QUEUED)
            queued = session.execute(queue.order_by(Job.priority.desc(), Job.created_at, Job.id).limit(200)).all()
        free = self._free() if queued else {}
        for job_id, kind in queued:
            try:
                lane: str = find_kind(kind).lane
            except JobError as error:
                with self.workspace.session() as session:
                    finish(session, job_id, JobState.FAILED, str(error))
                continue
            if lane not in free:  # workers elsewhere may serve long jobs alone
                lane = "long"
            if free.get(lane, 0) > 0 and self._claim(job_id):
                free[lane] -= 1
                future = self.client.submit(
                    worker.execute, str(self.workspace.path), job_id, resources={lane: 1}, pure=False, retries=0
                )
                self.flights[job_id] = _Flight(future, lane)
        return bool(queued)

    def _claim(self, job_id: str) -> bool:
        with self.workspace.session() as session:
            waiting = update(Job).where(Job.id == job_id, Job.state == JobState.QUEUED, Job.cancel_requested.is_(False))
            claimed: Any = session.execute(waiting.values(state=JobState.RUNNING, heartbeat_at=now()))
            return bool(claimed.rowcount)

    def _free(self) -> dict[str, int]:
        """Workers of each lane that have nothing to do."""
        free: dict[str, int] = {}
        for info in self.client.scheduler_info(n_workers=-1)["workers"].values():
            for lane, amount in info.get("resources", {}).items():
                free[lane] = free.get(lane, 0) + int(amount)
        for flight in self.flights.values():
            free[flight.lane] = free.get(flight.lane, 0) - 1
        return free
