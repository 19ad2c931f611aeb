"""The engine: a process of its own that owns the workers, so that closing the workbench stops no job.

    python -m engines.jobs.host --workspace FOLDER

There is one for each workspace. It starts a small dask cluster on this machine (one worker for long jobs per GPU, or
one on the processor, and one for quick answers), or joins the scheduler at `PROMPTLOUPE_SCHEDULER`.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.security import Security
from filelock import FileLock, Timeout

from engines.jobs.devices import gpu_ids
from engines.jobs.dispatcher import Dispatcher
from engines.jobs.presence import EngineFile, presence_age, program_stamp
from engines.store import Workspace

TURN, IDLE_TURN = 0.15, 0.4
"""Seconds between two looks at the job table, while something is open and while nothing is."""
IDLE_MINUTES = 15.0
"""The engine ends itself when nothing is open and nobody has looked for this long; `PROMPTLOUPE_IDLE_MINUTES`."""

SETTINGS = {
    # A worker that dies ends the attempt: the dispatcher, not dask, decides whether there is another.
    "distributed.scheduler.allowed-failures": 0,
    # Nobody looks at dask's own measurements, and they keep an idle machine awake.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "500ms",
}

logger = logging.getLogger("promptloupe.engine")


def main() -> None:
    arguments = argparse.ArgumentParser(prog="engines.jobs.host")
    arguments.add_argument("--workspace", required=True)
    arguments.add_argument("--program", default=program_stamp(), help="Stamp of the program that starts it.")
    options = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("distributed").setLevel(logging.WARNING)
    workspace = Workspace.open(options.workspace)
    try:
        with FileLock(workspace.path / "engine.lock", timeout=0):
            serve(workspace, options.program)
    except Timeout:
        logger.info("another engine serves this workspace already")


def serve(workspace: Workspace, program: str) -> None:
    """Dispatch jobs until told to stop or idle for long."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    idle = float(os.environ.get("PROMPTLOUPE_IDLE_MINUTES", IDLE_MINUTES)) * 60
    grace = float(os.environ.get("PROMPTLOUPE_CANCEL_GRACE", 10))
    with dask.config.set(SETTINGS), _cluster() as (client, security, lanes):
        engine = EngineFile(workspace.path)
        engine.write(client.scheduler.address, security, lanes, program)
        logger.info("serving %s at %s", workspace.name, client.scheduler.address)
        try:
            dispatcher = Dispatcher(workspace, client, grace)
            quiet_since, busy = time.monotonic(), True
            while not stop.wait(TURN if busy else IDLE_TURN):
                busy = dispatcher.step()
                if busy or presence_age(workspace.path) < idle:
                    quiet_since = time.monotonic()
                elif time.monotonic() - quiet_since > idle:
                    logger.info("nothing to do for %g minutes: ending", idle / 60)
                    break
        finally:
            engine.remove()


@contextlib.contextmanager
def _cluster() -> Iterator[tuple[Client, Security | None, list[str]]]:
    if address := os.environ.get("PROMPTLOUPE_SCHEDULER"):
        with Client(address, timeout="20s", set_as_default=False) as client:
            yield client, None, ["remote"]
        return
    security = Security.temporary()  # other users of this machine must not reach the scheduler
    workers = _workers(security)
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard": False, "security": security, "protocol": "tls://"},
    }
    cluster = SpecCluster(workers=workers, scheduler=scheduler, security=security, silence_logs=logging.ERROR)
    with cluster, Client(cluster, security=security, set_as_default=False) as client:
        yield client, security, list(workers)


def _workers(security: Security) -> dict[str, dict[str, Any]]:
    gpus, cores = gpu_ids(), os.cpu_count() or 1
    lanes = [(f"gpu-{gpu}", "long", {"CUDA_VISIBLE_DEVICES": gpu}, cores) for gpu in gpus] or [
        ("processor", "long", {}, cores)
    ]
    first = {"CUDA_VISIBLE_DEVICES": gpus[0]} if gpus else {}
    lanes += [("batches", "waited-for", first, cores), ("answers", "interactive", first, 1)]
    return {name: _worker(security, lane, env, threads) for name, lane, env, threads in lanes}


def _worker(security: Security, lane: str, env: dict[str, str], threads: int) -> dict[str, Any]:
    # Waiting threads must sleep rather than spin: spinning ones slow a training twentyfold on a shared machine.
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        **env,
    }
    options = {
        "config": SETTINGS,
        "nthreads": 1,
        "resources": {lane: 1},
        "memory_limit": 0,
        "env": environment,
        "host": "127.0.0.1",
        "security": security,
        "protocol": "tls://",
        "dashboard": False,
    }
    return {"cls": Nanny, "options": options}


if __name__ == "__main__":
    # Spawned workers import this file's module path anew; the guard keeps them from becoming engines.
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
