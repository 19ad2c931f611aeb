"""Ordinary work: run, follow, fail, cancel, answer."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from engines import jobs
from engines.errors import ConfigError, JobError, PromptloupeError
from engines.store import Job, JobState, Run, Workspace
from tests.jobs.conftest import ended, row, until


def test_a_job_runs_and_tells(shared: Workspace, tmp_path: Path) -> None:
    job_id = jobs.submit(shared, "toy-count", {"folder": str(tmp_path), "steps": 5})
    job = ended(shared, job_id)
    assert (job.state, job.result["total"], job.progress) == (JobState.DONE, 15, 1.0)
    assert job.title == "Count to 5"
    assert job.attempt == 1
    assert job.finished_at is not None
    log = jobs.job_log(shared, job_id)
    assert "printed by the job" in log
    assert "Done" in log


def test_progress_is_seen_while_it_runs(shared: Workspace, tmp_path: Path) -> None:
    job_id = jobs.submit(shared, "toy-count", {"folder": str(tmp_path), "steps": 60, "pause": 0.05})
    until(lambda: 0 < row(shared, job_id).progress < 1)
    job = row(shared, job_id)
    assert job.state is JobState.RUNNING
    assert job.message.startswith("step")
    assert [j.id for j in jobs.active(shared)] == [job_id]
    until(lambda: row(shared, job_id).seconds_left is not None)
    ended(shared, job_id)
    assert jobs.active(shared) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("words", "The images are upside down. Turn them."),
        ("memory", "not enough memory"),
        ("disk", "disk is full"),
        ("permission", "secret.png"),
        ("surprise", "unexpected went wrong (ZeroDivisionError"),
    ],
)
def test_failures_in_words(shared: Workspace, how: str, said: str) -> None:
    job = ended(shared, jobs.submit(shared, "toy-fail", {"how": how}))
    assert job.state is JobState.FAILED
    assert said in job.error
    assert "Traceback" not in job.error
    assert said.split("(")[0].strip().split(".")[0] in jobs.job_log(shared, job.id) or "Traceback" in job.detail


def test_cancel_a_running_job(shared: Workspace, tmp_path: Path) -> None:
    job_id = jobs.submit(shared, "toy-count", {"folder": str(tmp_path), "steps": 10_000, "pause": 0.01})
    until(lambda: row(shared, job_id).progress > 0)
    jobs.cancel(shared, job_id)
    job = ended(shared, job_id, seconds=5)
    assert job.state is JobState.CANCELLED
    assert 0 < int((tmp_path / "checkpoint").read_text()) < 10_000


def test_cancel_a_job_that_does_not_listen(shared: Workspace, tmp_path: Path) -> None:
    job_id = jobs.submit(shared, "toy-deaf", {"started": str(tmp_path / "started")})
    until((tmp_path / "started").exists)
    jobs.cancel(shared, job_id)
    assert ended(shared, job_id, seconds=20).state is JobState.CANCELLED
    after = ended(shared, jobs.submit(shared, "toy-count", {"folder": str(tmp_path), "steps": 2}))
    assert after.state is JobState.DONE


def test_cancel_a_queued_job(shared: Workspace, tmp_path: Path) -> None:
    first = jobs.submit(shared, "toy-count", {"folder": str(tmp_path), "steps": 100})
    second = jobs.submit(shared, "toy-count", {"folder": str(tmp_path / "never")})
    jobs.cancel(shared, second)
    assert row(shared, second).state is JobState.CANCELLED
    jobs.cancel(shared, first)
    ended(shared, first)
    assert row(shared, second).attempt == 0


def test_cancelling_a_finished_job_changes_nothing(shared: Workspace, tmp_path: Path) -> None:
    job = ended(shared, jobs.submit(shared, "toy-count", {"folder": str(tmp_path), "steps": 1}))
    jobs.cancel(shared, job.id)
    assert row(shared, job.id).state is JobState.DONE


def test_retry_goes_on_from_the_checkpoint(shared: Workspace, tmp_path: Path) -> None:
    job_id = jobs.submit(shared, "toy-count", {"folder": str(tmp_path), "steps": 40, "pause": 0.05})
    until(lambda: row(shared, job_id).progress > 0.1)
    with pytest.raises(JobError, match="has not ended"):
        jobs.retry(shared, job_id)
    jobs.cancel(shared, job_id)
    ended(shared, job_id)
    again = ended(shared, jobs.retry(shared, job_id))
    assert (again.state, again.result["total"]) == (JobState.DONE, 820)
    assert again.id != job_id


def test_the_run_of_a_job_follows_it(shared: Workspace) -> None:
    with shared.session() as session:
        run = Run(name="a run", backbone="mini-clip", method="coop")
        session.add(run)
        session.flush()
        run_id = run.id
    job_id = jobs.submit(shared, "toy-fail", {"how": "words"}, run_id=run_id)
    ended(shared, job_id)
    with shared.session() as session:
        assert session.get_one(Run, run_id).state == "failed"


def test_many_jobs_each_once_and_by_priority(shared: Workspace, tmp_path: Path) -> None:
    file, blocker = tmp_path / "order", tmp_path / "blocker"
    blocker.mkdir()
    first = jobs.submit(shared, "toy-count", {"folder": str(blocker), "steps": 30, "pause": 0.05})
    until(lambda: row(shared, first).state is JobState.RUNNING)
    with shared.session() as session:
        session.add_all(
            Job(kind="toy-mark", payload={"file": str(file), "text": str(i)}, priority=int(i == 39)) for i in range(40)
        )
    until(lambda: not jobs.active(shared), 120)
    lines = file.read_text().split()
    assert lines[0] == "39"
    assert sorted(map(int, lines)) == list(range(40))


def test_an_answer_never_waits_behind_a_training(shared: Workspace, tmp_path: Path) -> None:
    job_id = jobs.submit(shared, "toy-count", {"folder": str(tmp_path), "steps": 100_000, "pause": 0.01})
    until(lambda: row(shared, job_id).progress > 0)
    assert jobs.call(shared, "toy-echo", {"text": "hello"}, timeout=30)["text"] == "hello"
    assert row(shared, job_id).state is JobState.RUNNING
    jobs.cancel(shared, job_id)
    ended(shared, job_id)


def test_calls_tell_errors_and_survive_a_dead_worker(shared: Workspace) -> None:
    with pytest.raises(PromptloupeError, match="That was bad") as raised:
        jobs.call(shared, "toy-echo", {"text": "bad"})
    assert raised.value.remedy == "Say something else."
    with pytest.raises(JobError, match="no answer"):
        jobs.call(shared, "toy-echo", {"sleep": 3}, timeout=1)
    with pytest.raises(JobError, match="ended unexpectedly"):
        jobs.call(shared, "toy-echo", {"die": True})
    assert jobs.call(shared, "toy-echo", {"text": "again"})["text"] == "again"


def test_calls_from_many_threads(shared: Workspace) -> None:
    answers: list[str] = []

    def ask(text: str) -> None:
        answers.append(jobs.call(shared, "toy-echo", {"text": text})["text"])

    threads = [threading.Thread(target=ask, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [str(i) for i in range(8)]


BAD = [
    ("toy-none", {}, JobError, "does not know the kind"),
    ("", {}, JobError, "does not know the kind"),
    ("toy-count", {}, ConfigError, "folder"),
    ("toy-count", {"folder": "x", "steps": -1}, ConfigError, "steps"),
    ("toy-count", {"folder": "x", "steps": "many"}, ConfigError, "steps"),
    ("toy-count", {"folder": 3}, ConfigError, "folder"),
]


@pytest.mark.parametrize(("kind", "payload", "error", "said"), BAD)
def test_bad_requests_are_refused_before_they_are_queued(
    shared: Workspace, kind: str, payload: dict[str, object], error: type[Exception], said: str
) -> None:
    with shared.session() as session:
        before = session.query(Job).count()
    with pytest.raises(error, match=said):
        jobs.submit(shared, kind, payload)
    with shared.session() as session:
        assert session.query(Job).count() == before


@pytest.mark.parametrize("payload", [{"steps": 1}, {"folder": None}])
def test_a_row_that_does_not_fit_fails_in_words(shared: Workspace, payload: dict[str, object]) -> None:
    with shared.session() as session:
        job = Job(kind="toy-count", payload=payload)
        session.add(job)
        session.flush()
        job_id = job.id
    jobs.ensure_engine(shared)
    job = ended(shared, job_id)
    assert job.state is JobState.FAILED
    assert "folder" in job.error


def test_a_kind_that_an_update_removed(shared: Workspace) -> None:
    with shared.session() as session:
        job = Job(kind="toy-gone", payload={})
        session.add(job)
        session.flush()
        job_id = job.id
    job = ended(shared, job_id)
    assert "does not know" in job.error


def test_unknown_jobs(shared: Workspace) -> None:
    for function in (jobs.cancel, jobs.retry):
        with pytest.raises(JobError, match="no such job"):
            function(shared, "nope")
    with pytest.raises(JobError, match="no such job"):
        jobs.job_log(shared, "../../etc/passwd")
    assert jobs.job_log(shared, "nope") == ""
    with pytest.raises(JobError, match="takes long"):
        jobs.call(shared, "toy-count", {"folder": "x"})
