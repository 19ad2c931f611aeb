"""A workspace: one folder that holds a person's data sets, labels, runs and exports."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from engines.errors import WorkspaceError
from engines.store.migrate import HEAD, REVISIONS, current_revision, upgrade

DATABASE = "workspace.db"
FOLDERS = ("features", "runs", "inspections", "thumbnails", "exports", "media", "logs", "backups", "bin")


class Workspace:
    """An open workspace.

    Use `Workspace.open(path)`; the object may be shared by threads. `session()` gives a transaction:

        with workspace.session() as session:
            session.add(Dataset(...))
    """

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @property
    def name(self) -> str:
        return self.path.name

    @classmethod
    def open(cls, path: str | Path, create: bool = True) -> Workspace:
        """Open the workspace in folder `path`, making or migrating it where needed.

        A workspace of an older program is copied to `backups/` before it is migrated; one of a newer program is
        refused untouched. The database is SQLite in the folder, or `PROMPTLOUPE_DATABASE_URL`.

        Raises:
            WorkspaceError: the folder cannot be used, or the database is damaged or newer than this program.
        """
        folder = Path(path).expanduser().resolve()
        url = os.environ.get("PROMPTLOUPE_DATABASE_URL", "")
        if not create and not url and not (folder / DATABASE).is_file():
            raise WorkspaceError(f"There is no workspace in the folder “{folder.name}”.", "Check the folder’s name.")
        try:
            for name in FOLDERS:
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(
                f"The workspace folder “{folder.name}” cannot be written.",
                "Choose a folder that you may write to, on a disk with free space.",
                str(error),
            ) from error
        engine = connect(url or f"sqlite:///{folder / DATABASE}")
        try:
            with FileLock(folder / "workspace.lock"):
                _bring_up_to_date(engine, folder)
        except (OperationalError, DatabaseError, sqlite3.DatabaseError) as error:
            engine.dispose()
            raise WorkspaceError(
                f"The database of the workspace “{folder.name}” cannot be read: it is damaged, or in use by another"
                " program.",
                "Close other programs that use it; a copy from its folder “backups” can be put back.",
                str(error),
            ) from error
        return cls(folder, engine)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction: committed at the end of the block, rolled back when the block raises."""
        with self._sessions.begin() as session:
            yield session

    def folder(self, name: str) -> Path:
        """One of the workspace's folders, by a name of `FOLDERS`."""
        if name not in FOLDERS:
            raise ValueError(f"a workspace has no folder {name!r}")
        return self.path / name

    def run_folder(self, run_id: str) -> Path:
        folder = self.path / "runs" / run_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def resolve(self, file: str) -> Path:
        """The place of a sample's or an artifact's file: absolute as it is, relative to the workspace."""
        return self.path / file

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free

    def close(self) -> None:
        self.engine.dispose()

    def __reduce__(self) -> tuple[Any, ...]:
        # Jobs carry workspaces to worker processes by path.
        return Workspace.open, (self.path,)


def connect(url: str) -> Engine:
    """An engine for `url`; SQLite gets write-ahead logging, foreign keys and full durability."""
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"), json_serializer=_strict_json)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _strict_json(value: Any) -> str:
    """JSON as the standard has it: what is not a number (an accuracy over no images) becomes null, because neither
    SQLite's nor PostgreSQL's JSON functions read NaN."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value), allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA busy_timeout = 15000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _bring_up_to_date(engine: Engine, folder: Path) -> None:
    revision = current_revision(engine)
    if revision == HEAD:
        return
    if revision is not None and revision not in REVISIONS:
        engine.dispose()
        raise WorkspaceError(
            f"The workspace “{folder.name}” was made by a newer Promptloupe"
            f" (format {revision}; this one knows {HEAD}).",
            "Update Promptloupe, or open another workspace. Nothing was changed.",
        )
    if revision is None and inspect(engine).has_table("dataset"):
        engine.dispose()
        raise WorkspaceError(
            f"The database of “{folder.name}” holds tables that Promptloupe did not make.",
            "Choose an empty folder for the workspace.",
        )
    if revision is not None and engine.dialect.name == "sqlite":
        back_up(engine, folder / "backups" / f"before-{HEAD}-was-{revision}.db")
    upgrade(engine)


def back_up(engine: Engine, target: Path) -> None:
    """Write a consistent copy of the SQLite database of `engine` to `target` (never over an existing file)."""
    number = 1
    free = target
    while free.exists():
        number += 1
        free = target.with_name(f"{target.stem}-{number}{target.suffix}")
    with engine.connect() as connection:
        connection.execute(text("VACUUM INTO :target"), {"target": str(free)})
