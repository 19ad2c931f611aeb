"""Whatever is killed, nothing is lost: the job resumes and ends with the same result."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from engines import jobs
from engines.errors import JobError
from engines.jobs.presence import EngineFile, program_stamp
from engines.jobs.worker import serve
from engines.store import Job, JobState, Workspace
from tests.jobs.conftest import ended, row, until


def engine_pid(ws: Workspace) -> int:
    engine = EngineFile(ws.path).read()
    assert engine is not None
    return engine.pid


def test_worker_killed_in_the_middle(ws: Workspace, tmp_path: Path) -> None:
    job = ended(ws, jobs.submit(ws, "toy-count", {"folder": str(tmp_path), "steps": 10, "kill_at": 5, "kills": 2}), 90)
    assert (job.state, job.result["total"], job.attempt) == (JobState.DONE, 55, 3)


def test_worker_that_always_dies(ws: Workspace, tmp_path: Path) -> None:
    job = ended(ws, jobs.submit(ws, "toy-count", {"folder": str(tmp_path), "kill_at": 3, "kills": 99}), 90)
    assert job.state is JobState.FAILED
    assert "ended unexpectedly 3 times" in job.error
    assert ended(ws, jobs.submit(ws, "toy-count", {"folder": str(tmp_path)})).state is JobState.DONE


@pytest.mark.parametrize("victims", ["engine", "everything"])
def test_engine_killed_in_the_middle(ws: Workspace, tmp_path: Path, victims: str) -> None:
    job_id = jobs.submit(ws, "toy-count", {"folder": str(tmp_path), "steps": 60, "pause": 0.05})
    until(lambda: row(ws, job_id).progress > 0.2)
    process = psutil.Process(engine_pid(ws))
    family = process.children(recursive=True)
    for victim in [process, *(family if victims == "everything" else [])]:
        victim.kill()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert alive == [], "workers outlived their engine"
    assert not jobs.engine_status(ws).running
    assert row(ws, job_id).state is JobState.RUNNING
    jobs.ensure_engine(ws)
    job = ended(ws, job_id)
    assert (job.state, job.result["total"], job.attempt) == (JobState.DONE, 1830, 2)


def test_closing_the_workbench_stops_no_job(ws: Workspace, tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from engines import jobs; from engines.store import Workspace;"
        "ws = Workspace.open(sys.argv[1]);"
        "print(jobs.submit(ws, 'toy-count', {'folder': sys.argv[2], 'steps': 40, 'pause': 0.05}), flush=True);"
        "jobs.ensure_engine(ws, wait=60); os.kill(os.getpid(), signal.SIGKILL)"
    )
    shown = subprocess.run([sys.executable, "-c", code, str(ws.path), str(tmp_path)], capture_output=True, text=True)
    assert shown.returncode == -signal.SIGKILL
    job = ended(ws, shown.stdout.strip())
    assert (job.state, job.result["total"], job.attempt) == (JobState.DONE, 820, 1)


def test_two_starters_make_one_engine(ws: Workspace) -> None:
    options = ["--workspace", str(ws.path), "--program", program_stamp()]
    command = [sys.executable, "-m", "engines.jobs.host", *options]
    others = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(3)]
    jobs.ensure_engine(ws, wait=60)
    pid = engine_pid(ws)
    until(lambda: sum(other.poll() is None for other in others) <= 1)
    assert jobs.call(ws, "toy-echo", {"text": "one"})["text"] == "one"
    assert engine_pid(ws) == pid
    jobs.stop_engine(ws)
    for other in others:
        other.terminate()
        other.wait(timeout=20)


def test_stopping_puts_running_jobs_back(ws: Workspace, tmp_path: Path) -> None:
    job_id = jobs.submit(ws, "toy-count", {"folder": str(tmp_path), "steps": 50, "pause": 0.05})
    until(lambda: row(ws, job_id).progress > 0.1)
    jobs.stop_engine(ws)
    assert not jobs.engine_status(ws).running
    jobs.ensure_engine(ws)
    assert ended(ws, job_id).result["total"] == 1275


def test_an_engine_of_an_older_program_gives_way_once_it_is_idle(ws: Workspace, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engines.jobs.host", "--workspace", str(ws.path), "--program", "older"]
    with (tmp_path / "older.log").open("wb") as log, subprocess.Popen(command, stderr=log) as older:
        until(lambda: jobs.engine_status(ws).running)
        with ws.session() as session:
            job = Job(kind="toy-count", payload={"folder": str(tmp_path), "steps": 40, "pause": 0.05})
            session.add(job)
        until(lambda: row(ws, job.id).state is JobState.RUNNING)
        jobs.ensure_engine(ws)
        assert engine_pid(ws) == older.pid, "its job was disturbed"
        assert (ended(ws, job.id).state, row(ws, job.id).attempt) == (JobState.DONE, 1)
        answered = jobs.submit(ws, "toy-count", {"folder": str(tmp_path), "steps": 2, "pause": 0.0})
        assert ended(ws, answered).state is JobState.DONE
        assert older.wait(timeout=20) == 0
        pid = engine_pid(ws)
        assert jobs.call(ws, "toy-echo", {"text": "two"})["text"] == "two"
        assert engine_pid(ws) == pid, "the new one must stay"


def test_what_a_person_waits_for_does_not_wait_for_a_training(ws: Workspace, tmp_path: Path) -> None:
    long = jobs.submit(ws, "toy-count", {"folder": str(tmp_path), "steps": 4000, "pause": 0.05})
    until(lambda: row(ws, long).state is JobState.RUNNING)
    waited_for = jobs.submit(ws, "toy-batch", {"text": "next, please"})
    assert ended(ws, waited_for).result == {"text": "next, please"}
    assert row(ws, long).state is JobState.RUNNING


def test_the_engine_file_is_private_and_a_stale_one_is_noticed(ws: Workspace) -> None:
    jobs.ensure_engine(ws, wait=60)
    file = ws.path / "engine.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    jobs.stop_engine(ws)
    # The number of a process is used again by others: our own pid, but another start time.
    file.write_text(re.sub(r'"pid": \d+', f'"pid": {os.getpid()}', text))
    assert not jobs.engine_status(ws).running
    file.write_text("{ damaged")
    assert not jobs.engine_status(ws).running


def test_strangers_cannot_speak_to_the_scheduler(ws: Workspace) -> None:
    from distributed import Client

    engine = jobs.ensure_engine(ws, wait=60)
    assert engine is not None
    with pytest.raises((OSError, ValueError, TypeError)):
        Client(engine.address.replace("tls://", "tcp://"), timeout="3s", set_as_default=False)


def test_database_in_use_for_a_while(ws: Workspace, tmp_path: Path) -> None:
    job_id = jobs.submit(ws, "toy-count", {"folder": str(tmp_path), "steps": 30, "pause": 0.05})
    until(lambda: row(ws, job_id).progress > 0)
    other = sqlite3.connect(ws.path / "workspace.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    time.sleep(2)
    other.execute("COMMIT")
    other.close()
    assert ended(ws, job_id).result["total"] == 465


def test_idle_engine_ends_itself(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLOUPE_IDLE_MINUTES", "0.02")
    jobs.ensure_engine(ws, wait=60)
    until(lambda: EngineFile(ws.path).read() is None)


def test_a_scheduler_elsewhere(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    begin = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--no-dashboard"]
    scheduler = subprocess.Popen([*begin, "--port", address.rsplit(":", 1)[1]], stderr=subprocess.DEVNULL)
    code = "import sys; from engines.jobs.worker import serve; serve(sys.argv[1], ['long', 'interactive'])"
    try:
        until(lambda: _answers(address))
        worker = subprocess.Popen([sys.executable, "-c", f"if __name__ == '__main__':\n    {code}", address])
        monkeypatch.setenv("PROMPTLOUPE_SCHEDULER", address)
        job = ended(ws, jobs.submit(ws, "toy-count", {"folder": str(tmp_path), "steps": 3}), 90)
        assert job.result["total"] == 6
        assert psutil.Process(job.result["pid"]).ppid() != engine_pid(ws)
        # A worker elsewhere that knows long jobs alone does those that somebody waits for too.
        assert ended(ws, jobs.submit(ws, "toy-batch", {"text": "here too"}), 90).result == {"text": "here too"}
    finally:
        for process in (worker, scheduler):
            for member in [*psutil.Process(process.pid).children(recursive=True), process]:
                member.kill()
            process.wait()


def _answers(address: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), 1).close()
    except OSError:
        return False
    return True


def test_no_scheduler_there() -> None:
    with pytest.raises(JobError, match="No scheduler answers"):
        serve("tcp://127.0.0.1:9", ["long"])
    with pytest.raises(JobError, match="no lane"):
        serve("tcp://127.0.0.1:9", ["fast"])
