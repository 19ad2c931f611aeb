"""The same workspace on PostgreSQL, where one can be started for the test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.store import Base, Dataset, Job, Workspace

pytest.importorskip("psycopg", reason="the extra “postgres” is not installed")


def program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL is not installed")
    # PostgreSQL does not run as root: its own account does it then.
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user:
            shutil.chown(folder, "postgres")
        begin = [
            pg_ctl,
            "-D",
            str(folder / "data"),
            "-w",
            "-l",
            str(folder / "log"),
            "-o",
            f"-p {port} -k {folder}",
            "start",
        ]
        try:
            subprocess.run(
                [initdb, "-D", str(folder / "data"), "-A", "trust", "-U", "tester"],
                check=True,
                capture_output=True,
                **user,
            )
            subprocess.run(begin, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
        except (subprocess.CalledProcessError, LookupError, PermissionError) as error:
            pytest.skip(f"PostgreSQL could not be started: {error}")
        yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
        subprocess.run(
            [pg_ctl, "-D", str(folder / "data"), "-m", "immediate", "stop"], check=False, capture_output=True, **user
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_workspace_on_postgres(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLOUPE_DATABASE_URL", url)
    ws = Workspace.open(tmp_path / "clinic")
    assert ws.engine.dialect.name == "postgresql"
    with ws.session() as session:
        session.add_all([Dataset(name="smears", reader="folder"), Job(kind="train")])
    ws.close()
    again = Workspace.open(tmp_path / "clinic")
    with again.session() as session:
        assert session.query(Dataset).one().name == "smears"
        assert session.query(Job).one().created_at.utcoffset() is not None
    assert not (tmp_path / "clinic" / "workspace.db").exists()
    Base.metadata.drop_all(again.engine)
    again.close()
