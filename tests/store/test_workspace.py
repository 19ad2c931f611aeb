"""Workspaces: opening, durability, migrations, refusals."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from engines.errors import WorkspaceError
from engines.store import Annotation, Base, Dataset, Job, LabelClass, Sample, Verdict, Workspace, migrate, workspace


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "clinic")


def add_sample(ws: Workspace) -> tuple[int, int]:
    with ws.session() as session:
        dataset = Dataset(name="smears", reader="folder", classes=[LabelClass(position=0, name="blast")])
        session.add(dataset)
        session.flush()
        sample = Sample(
            dataset_id=dataset.id, position=0, name="a.png", file="a.png", sha256="0", width=1, height=1, class_id=None
        )
        session.add(sample)
        session.flush()
        return sample.id, dataset.classes[0].id


def test_models_and_migrations_agree(ws: Workspace) -> None:
    with ws.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": Base.metadata})
        assert compare_metadata(context, Base.metadata) == []


def test_sqlite_is_durable(ws: Workspace) -> None:
    with ws.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_reopening_keeps_everything(ws: Workspace) -> None:
    add_sample(ws)
    ws.close()
    with Workspace.open(ws.path).session() as session:
        assert session.query(Dataset).one().classes[0].name == "blast"


def test_times_come_back_with_their_zone(ws: Workspace) -> None:
    with ws.session() as session:
        session.add(Job(kind="train"))
    with ws.session() as session:
        assert session.query(Job).one().created_at.utcoffset() is not None


def test_a_failed_transaction_leaves_nothing(ws: Workspace) -> None:
    with pytest.raises(IntegrityError), ws.session() as session:
        session.add_all([Dataset(name="same", reader="folder"), Dataset(name="same", reader="folder")])
    with ws.session() as session:
        assert session.query(Dataset).count() == 0


def test_verdicts_are_append_only(ws: Workspace) -> None:
    sample, label = add_sample(ws)
    with ws.session() as session:
        session.add(Annotation(sample_id=sample, class_id=label, verdict=Verdict.LABEL, annotator="Ada"))
    with pytest.raises(RuntimeError, match="only ever added"), ws.session() as session:
        session.query(Annotation).one().annotator = "Bob"
    with pytest.raises(RuntimeError, match="only ever added"), ws.session() as session:
        session.delete(session.query(Annotation).one())
    with pytest.raises(IntegrityError, match="only ever added"), ws.engine.begin() as connection:
        connection.execute(text("UPDATE annotation SET annotator = 'Bob'"))
    with ws.session() as session:
        assert session.query(Annotation).one().annotator == "Ada"


def test_newer_workspace_is_refused_untouched(ws: Workspace) -> None:
    with ws.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    ws.close()
    before = (ws.path / "workspace.db").read_bytes()
    with pytest.raises(WorkspaceError, match="newer Promptloupe"):
        Workspace.open(ws.path)
    assert (ws.path / "workspace.db").read_bytes() == before


def test_older_workspace_is_backed_up_then_migrated(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_sample(ws)
    ws.close()
    steps = tmp_path / "migrations"
    for file in migrate.MIGRATIONS.rglob("*.py*"):
        target = steps / file.relative_to(migrate.MIGRATIONS)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in (".py", ".mako"):
            target.write_bytes(file.read_bytes())
    (steps / "versions" / "9000_a_later_step.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision = '9000'\n"
        f"down_revision = {migrate.HEAD!r}\n"
        "def upgrade():\n    op.add_column('dataset', sa.Column('licence', sa.Text()))\n"
    )
    monkeypatch.setattr(workspace, "HEAD", "9000")
    monkeypatch.setattr(migrate, "MIGRATIONS", steps)
    monkeypatch.setattr(workspace, "upgrade", lambda engine: migrate.upgrade(engine, "9000"))
    upgraded = Workspace.open(ws.path)
    with upgraded.engine.connect() as connection:
        assert connection.execute(text("SELECT name, licence FROM dataset")).one() == ("smears", None)
    (backup,) = (ws.path / "backups").iterdir()
    with sqlite3.connect(backup) as old:
        assert old.execute("SELECT version_num FROM alembic_version").fetchone() == (migrate.REVISIONS[-1],)
        assert old.execute("SELECT name FROM dataset").fetchone() == ("smears",)


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all, really not" * 100, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_damaged_database(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "workspace.db").write_bytes(content)
    if not content:  # an empty file is an empty database: what a crash before the first write leaves
        assert Workspace.open(tmp_path).name == tmp_path.name
        return
    with pytest.raises(WorkspaceError, match="damaged"):
        Workspace.open(tmp_path)
    assert (tmp_path / "workspace.db").read_bytes() == content


def test_foreign_database(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "workspace.db") as other:
        other.execute("CREATE TABLE dataset (id INTEGER)")
    with pytest.raises(WorkspaceError, match="did not make"):
        Workspace.open(tmp_path)


def test_missing_workspace(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no workspace"):
        Workspace.open(tmp_path / "nowhere", create=False)


def test_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkspaceError, match="cannot be written"):
        Workspace.open(tmp_path / "file" / "clinic")


def test_many_processes_open_a_new_workspace_at_once(tmp_path: Path) -> None:
    code = "import sys; from engines.store import Workspace; Workspace.open(sys.argv[1]); print('ok')"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "w")], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate()[0].strip() for process in processes] == ["ok"] * 4


OLD_ROWS: dict[str, dict[str, object]] = {
    "dataset": {"id": 1, "name": "smears", "reader": "folder", "source": "", "description": "", "size": 1}
    | {"fingerprint": "", "report": "{}", "created_at": "2026-01-01 00:00:00"},
    "sample": {"dataset_id": 1, "position": 0, "name": "a.png", "file": "a.png", "sha256": "x", "width": 8, "height": 8}
    | {"split": "train", "domain": "", "group_key": ""},
}
"""What the first release wrote of one image."""


def test_a_workspace_of_the_first_release_gets_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that were imported before masks were known have none."""
    with monkeypatch.context() as older:
        older.setattr(workspace, "HEAD", "0001")
        older.setattr(workspace, "upgrade", lambda engine: migrate.upgrade(engine, "0001"))
        first = Workspace.open(tmp_path / "old")
        with first.engine.begin() as connection:
            for table, row in OLD_ROWS.items():
                named = ", ".join(f":{name}" for name in row)
                connection.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({named})"), row)
        first.close()
    now = Workspace.open(tmp_path / "old")
    with now.session() as session:
        assert [(s.name, s.mask) for s in session.query(Sample)] == [("a.png", "")]
    assert [file.name for file in (now.path / "backups").iterdir()] == ["before-0003-was-0001.db"]
