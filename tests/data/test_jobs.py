"""The jobs that import and export: thin, but wired to progress, cancelling and repetition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from engines.errors import ConfigError
from engines.jobs.context import JobContext
from engines.jobs.registry import find_kind
from engines.store import Dataset, Job, Workspace


def perform(workspace: Workspace, kind: str, payload: dict[str, Any], job_id: str = "") -> dict[str, Any]:
    """What a worker does with a job, without the worker."""
    found = find_kind(kind)
    with workspace.session() as session:
        job = session.get(Job, job_id) if job_id else None
        if job is None:
            job = Job(kind=kind, payload=payload)
            session.add(job)
            session.flush()
        job_id = job.id
    parsed = found.parse(payload)
    assert found.title(parsed)
    return found.run(JobContext(workspace, job_id), parsed) | {"job": job_id}


def test_import_and_export(tree: Callable[..., Path], workspace: Workspace) -> None:
    payload = {"source": str(tree({"cat": 3})), "name": None, "reader": None, "options": {}}
    result = perform(workspace, "import", payload)
    assert (result["name"], result["imported"], result["token"]) == ("pets", 3, result["job"])
    again = perform(workspace, "import", payload, result["job"])
    assert again["dataset_id"] == result["dataset_id"]
    with workspace.session() as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 1
    for format, path in (("zip", "exports/pets.zip"), ("csv", "exports/pets.csv"), ("folder", "exports/pets")):
        exported = perform(workspace, "export-data", {"dataset_id": result["dataset_id"], "format": format})
        assert exported["path"] == path
        assert workspace.resolve(path).exists()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("import", {}),
        ("import", {"source": "x", "options": {"colour": "red"}}),
        ("export-data", {"dataset_id": 1, "format": "pdf"}),
        ("sample", {}),
    ],
)
def test_payloads_that_make_no_sense(kind: str, payload: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        find_kind(kind).parse(payload)
